// npm run interop [-- --install] [--only PEER] [--folder DIR]: Kinora beside the real projects on tiny random networks.
// Networks, LoRAs both ways, noise, samplers, a training step. Prints the relative error of each and ends with 1 where one
// is off or could not be made; a peer that is not installed is named.
import { spawn } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { relativeError } from "../scripts/golden/fixture.ts";
import { toFloat32 } from "../src/base/float-formats.ts";
import { openDevice } from "../src/device/open-device.ts";
import { SafetensorsFile } from "../src/io/safetensors.ts";
import { Ours } from "./interop/ours.ts";
import { installation, type Peer, peers, peersFolder, python } from "./interop/peers.ts";
import { writeSubject } from "./interop/subject.ts";

const { values: options } = parseArgs({
  options: {
    install: { type: "boolean", default: false },
    only: { type: "string", multiple: true, default: [] },
    folder: { type: "string", default: join(process.env.KINORA_BENCH_FOLDER ?? tmpdir(), "kinora-interop") },
    device: { type: "string", default: "auto" },
  },
});

async function run(
  command: string,
  args: readonly string[],
  environment: Record<string, string> = {},
): Promise<{ code: number; output: string; errors: string }> {
  const child = spawn(command, args, { env: { ...process.env, ...environment }, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  let errors = "";
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    errors += chunk.toString();
  });
  const code = await new Promise<number>((resolve) => {
    child.on("error", (error) => {
      errors += error.message;
      resolve(127);
    });
    child.on("close", (status) => resolve(status ?? 1));
  });
  return { code, output, errors };
}

/** Python 3.x that the peers need at least. */
const leastMinor = 12;

const lastLine = (text: string): string => text.trim().split("\n").at(-1) ?? "";

/** The first Python here that the peers run on. */
async function basePython(): Promise<string> {
  const named = process.env.PYTHON;
  const candidates = named ? [named] : ["python3.12", "python3.13", "python3.14", "python3", "python"];
  const seen: string[] = [];
  for (const candidate of candidates) {
    const asked = await run(candidate, ["-c", "import sys, venv, ensurepip; print(*sys.version_info[:2])"]);
    const [major = 0, minor = 0] = lastLine(asked.output).split(" ").map(Number);
    if (asked.code === 0 && major === 3 && minor >= leastMinor) return candidate;
    seen.push(asked.code === 0 ? `${candidate} is ${major}.${minor}` : `${candidate} does not run`);
  }
  throw new Error(`no Python 3.${leastMinor} or newer with venv (${seen.join("; ")}): name one by PYTHON`);
}

async function install(): Promise<void> {
  const base = await basePython();
  for (const { brings, command, args } of installation(base)) {
    console.log(`installing ${brings}`);
    const { code, errors } = await run(command, args);
    if (code !== 0) console.log(`  not installed: ${brings}: ${lastLine(errors)}`);
  }
}

interface Judgement {
  row: string;
  good: boolean;
}

const line = (peer: string, check: string, text: string): string => `${peer.padEnd(30)} ${check.padEnd(34)} ${text}`;

/** One peer's rows; undefined where it is not here. */
async function judge(peer: Peer, ours: Ours, folder: string): Promise<Judgement[] | string> {
  const environment = peer.environment();
  if (typeof environment === "string") return environment;
  rmSync(join(folder, peer.script), { recursive: true, force: true });
  const script = join(peersFolder, "interop", `${peer.script}.py`);
  const { code, output, errors } = await run(python, [script, folder], environment);
  if (code !== 0) return `${peer.script}.py ended with ${code}: ${lastLine(errors)}`;
  const { versions, failures } = JSON.parse(lastLine(output)) as {
    versions: Record<string, string>;
    failures: Record<string, string>;
  };
  const told = Object.entries(versions)
    .map((pair) => pair.join(" "))
    .join(", ");
  const rows: Judgement[] = [{ row: `\n${peer.name}: ${told}`, good: true }];
  using results = SafetensorsFile.open(join(folder, `${peer.script}.safetensors`));
  for (const [check, { ours: compute, tolerance }] of Object.entries(peer.comparisons(ours, folder))) {
    if (!results.has(check)) {
      const [, why] = Object.entries(failures).find(([name]) => check.startsWith(name)) ?? [];
      rows.push({
        row: line(peer.name, check, `NOT MADE: ${lastLine(why ?? "the peer gave no such result")}`),
        good: false,
      });
      continue;
    }
    let text: string;
    let good = false;
    try {
      const theirs = toFloat32(results.bytes(check), results.info(check).dtype);
      const error = relativeError(await compute(), theirs);
      good = error <= tolerance;
      text = `${error.toExponential(1)} of ${tolerance.toExponential(0)}  ${good ? "same" : "OFF"}`;
    } catch (error) {
      text = `OFF: ${(error as Error).message}`;
    }
    rows.push({ row: line(peer.name, check, text), good });
  }
  return rows;
}

if (options.install) await install();
const chosen = peers.filter(
  ({ script, name }) => options.only.length === 0 || options.only.includes(script) || options.only.includes(name),
);
if (chosen.length === 0) {
  console.error(`--only takes ${peers.map(({ script }) => script).join(", ")}`);
  process.exit(2);
}
mkdirSync(options.folder, { recursive: true });
await writeSubject(options.folder);
const { device, note } = await openDevice(options.device as "auto");
console.log(
  `device ${device.name}, f32${note ? ` (${note})` : ""}; largest relative error of each check and what is allowed`,
);
const ours = new Ours(device, options.folder);
const absent: string[] = [];
let off = 0;
let compared = 0;
for (const peer of chosen) {
  const rows = await judge(peer, ours, options.folder);
  if (typeof rows === "string") {
    absent.push(`${peer.name}: ${rows} (from ${peer.source})`);
    continue;
  }
  for (const { row, good } of rows) {
    console.log(row);
    if (!good) off++;
  }
  compared += rows.length - 1;
}
device[Symbol.dispose]();
if (absent.length > 0) console.log(`\nnot compared:\n${absent.map((text) => `  ${text}`).join("\n")}`);
console.log(`\n${compared - off} of ${compared} checks agree`);
if (compared === 0) console.log("install the peers with npm run interop -- --install (Python 3.12, several GB)");
process.exitCode = off > 0 || compared === 0 ? 1 : 0;
