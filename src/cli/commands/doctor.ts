// `kinora doctor`: what this machine has, which device will be used and why, and what to install. Always exit code 0.
import { homedir } from "node:os";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import type { DType } from "../../base/dtype.ts";
import { isKinoraError, KinoraError } from "../../base/errors.ts";
import { formatBytes } from "../../base/units.ts";
import { kinoraVersion } from "../../base/version.ts";
import type { DeviceFinding } from "../../device/descriptor.ts";
import type { Capacity } from "../../device/device.ts";
import { devices } from "../../device/devices.ts";
import { freeSpace, lookAtMachine, type Machine } from "../../device/machine.ts";
import { findNvidia, type NvidiaFindings } from "../../device/nvidia.ts";
import { openDevice } from "../../device/open-device.ts";
import { fileOf, installCommand, loadLibrary } from "../../ffi/onednn-library.ts";
import { cacheFolder } from "../../io/content-hash.ts";
import { type FfmpegBuild, ffmpegBuild } from "../../io/video/ffmpeg-build.ts";
import { bundledFolder } from "../../models/wan/bundled.ts";
import { searchCheckpoint } from "../../models/wan/checkpoint-files.ts";
import { type WanModel, wanModels } from "../../models/wan/params.ts";
import { command } from "../command.ts";

interface Advice {
  what: string;
  why: string;
  /** As a person types it. */
  command?: string;
}

interface Report {
  kinora: { version: string; folder: string };
  machine: Machine;
  oneDnn: { version: string; file: string } | { missing: string };
  ffmpeg: FfmpegBuild;
  nvidia: NvidiaFindings;
  devices: ({ name: string; help: string; automatic: boolean } & DeviceFinding)[];
  /** What `--device auto` opens. */
  device: { name: string; why: string; capacity: Capacity; products: readonly DType[] };
  /** That ship with Kinora. */
  models: { name: string; folder: string; missing: string[] }[];
  /** Free bytes; absent where the system does not tell. */
  folders: { name: "cache" | "working folder"; path: string; free?: number }[];
  advice: Advice[];
}

/** Below this, the caches and states of a training run soon fill a disk. */
const LITTLE_SPACE = 5e9;

/** Versions of the engine that package.json asks for. */
const NODE = [20, 19] as const;

function findOneDnn(): Report["oneDnn"] {
  try {
    const library = loadLibrary();
    const { major, minor, patch } = library.version;
    return { version: `${major}.${minor}.${patch}`, file: fileOf(library) };
  } catch (error) {
    if (!isKinoraError(error)) throw error;
    return { missing: error.message };
  }
}

function findModels(): Report["models"] {
  return Object.values<WanModel>(wanModels)
    .filter(({ bundled }) => bundled)
    .map((model) => {
      const { paths } = searchCheckpoint(model, {});
      const roles = [
        ...(model.boundary === undefined ? [] : (["high"] as const)),
        "low",
        "vae",
        "textEncoder",
      ] as const;
      const missing = [...roles, "tokenizer" as const].filter((role) => paths[role] === undefined);
      return { name: model.name, folder: bundledFolder(model)!, missing };
    });
}

/** What each device of this version found here. */
async function findDevices(): Promise<Report["devices"]> {
  const findings = Object.values(devices).map(async ({ name, help, automatic, probe }) => {
    return { name, help, automatic, ...(await probe()) };
  });
  return Promise.all(findings);
}

async function chooseDevice(): Promise<Report["device"]> {
  const { device, note } = await openDevice("auto");
  using opened = device;
  return {
    name: opened.name,
    why: note ?? "the fastest that is in this version, and its library was found",
    capacity: opened.capacity(),
    products: opened.productTypes,
  };
}

function advise({ machine, oneDnn, ffmpeg, nvidia, models, folders }: Omit<Report, "advice">): Advice[] {
  const advice: Advice[] = [];
  const [major = 0, minor = 0] = machine.node.split(".").map(Number);
  if (major < NODE[0] || (major === NODE[0] && minor < NODE[1]))
    advice.push({ what: `Node.js ${NODE.join(".")} or newer`, why: `this is ${machine.node}` });
  if ("missing" in oneDnn && process.env.KINORA_ONEDNN)
    advice.push({ what: "KINORA_ONEDNN", why: `it names no library that can be used: ${process.env.KINORA_ONEDNN}` });
  else if ("missing" in oneDnn)
    advice.push({ what: "oneDNN", why: "the fast cpu device needs it", command: installCommand() });
  if (!ffmpeg.h264Encoder || ffmpeg.missingDecoders.length > 0) {
    const lost = [
      ...(ffmpeg.h264Encoder ? [] : ["writing H.264"]),
      ...ffmpeg.missingDecoders.map((name) => `reading ${name}`),
    ];
    advice.push({ what: "node-av with its own FFmpeg", why: `this one lacks ${lost.join(", ")}`, command: "npm ci" });
  }
  const absent = models.filter(({ missing }) => missing.length > 0);
  if (absent.length > 0) {
    const names = absent.map(({ name }) => name).join(" and ");
    advice.push({
      what: "Kinora again",
      why: `the files of ${names} are not in ${dirname(absent[0]!.folder)}; --ckpt_dir can name them elsewhere`,
    });
  }
  if (nvidia.gpus.length > 0 && !nvidia.driver)
    advice.push({ what: "NVIDIA's driver", why: "there is a GPU without one; this version would not use it either" });
  for (const { name, path, free } of folders)
    if (free !== undefined && free < LITTLE_SPACE)
      advice.push({ what: `room in the ${name}`, why: `${formatBytes(free)} are free in ${path}` });
  return advice;
}

async function examine(): Promise<Report> {
  const oneDnn = findOneDnn();
  const folder = process.cwd();
  const place = { platform: process.platform, environment: process.env, home: homedir(), folder, root: "/" };
  const space = (name: Report["folders"][number]["name"], path: string) => {
    const free = freeSpace(path);
    return { name, path, ...(free === undefined ? {} : { free }) };
  };
  const found = {
    kinora: { version: kinoraVersion(), folder: fileURLToPath(new URL("../../../", import.meta.url)) },
    machine: lookAtMachine(),
    oneDnn,
    ffmpeg: ffmpegBuild(),
    nvidia: findNvidia(place),
    devices: await findDevices(),
    device: await chooseDevice(),
    models: findModels(),
    folders: [space("cache", cacheFolder(process.env)), space("working folder", folder)],
  };
  return { ...found, advice: advise(found) };
}

function nvidiaLines({ gpus, driver, toolkits, packages, libraries }: NvidiaFindings): string[] {
  if (gpus.length === 0 && !driver && toolkits.length === 0 && packages.length === 0) return ["none found"];
  const models = gpus.map(({ model, bus }) => model ?? `a GPU at ${bus}`);
  const counted = [...new Set(models)].map((name) => {
    const count = models.filter((other) => other === name).length;
    return count > 1 ? `${count}× ${name}` : name;
  });
  return [
    counted.join(", ") || "no GPU found",
    driver
      ? `driver ${driver.version ?? ""} ${driver.library ?? "(its libcuda was not found)"}`.replace("  ", " ")
      : "no driver found",
    ...toolkits.map((toolkit) => `CUDA toolkit ${toolkit.version ?? "(no version)"} in ${toolkit.folder}`),
    ...packages.map((entry) => `${entry.name} ${entry.version} in ${entry.folder}`),
    ...libraries.map(({ name, file }) => `${name}: ${file}`),
    "the cuda device is not in this version yet: none of this is used",
  ];
}

/** The devices that can be asked for. */
function deviceLines({ devices: rows, device: { capacity, name: chosen, products } }: Report): string[] {
  return rows
    .filter(({ automatic }) => automatic)
    .map((row) => {
      const memory = `${formatBytes(capacity.free)} of ${formatBytes(capacity.total)} free`;
      const more = row.name === chosen ? `; products in ${products.join(" and ")}, ${memory}` : "";
      return `${row.name}, ${row.help}: ${row.usable ? `ready (${row.what})${more}` : row.why}`;
    });
}

function describe(report: Report): string {
  const { kinora, machine, oneDnn, ffmpeg, nvidia, device, models, folders, advice } = report;
  const { processor, memory } = machine;
  const instructions = processor.instructions?.join(" ");
  const usable = processor.usable < processor.cores ? `, ${processor.usable} of them usable` : "";
  const sections: [name: string, lines: string[]][] = [
    ["Kinora", [`${kinora.version} in ${kinora.folder}`]],
    ["Node.js", [`${machine.node}, ${machine.platform} ${machine.architecture}`]],
    ["system", [machine.system]],
    ["processor", [`${processor.model}, ${processor.cores} cores${usable}`, ...(instructions ? [instructions] : [])]],
    ["memory", [`${formatBytes(memory.total)}, ${formatBytes(memory.available)} available`]],
    ["oneDNN", ["missing" in oneDnn ? oneDnn.missing : `${oneDnn.version}, ${oneDnn.file}`]],
    ["FFmpeg", [`${ffmpeg.version} of node-av${ffmpeg.h264Encoder ? ", writes H.264" : ""}`]],
    ["NVIDIA", nvidiaLines(nvidia)],
    ["device", [`auto takes ${device.name}: ${device.why}`, ...deviceLines(report)]],
    ["models", models.map(({ name, missing }) => `${name}: ${missing.length === 0 ? "ready" : "not in this copy"}`)],
    [
      "disk",
      folders.map(
        ({ name, path, free }) => `${free === undefined ? "?" : formatBytes(free)} free for the ${name}, ${path}`,
      ),
    ],
    [
      "to install",
      advice.length === 0
        ? ["nothing"]
        : advice.flatMap((one) => [`${one.what}: ${one.why}`, ...(one.command ? [`  ${one.command}`] : [])]),
    ],
  ];
  return sections
    .flatMap(([name, lines]) => lines.map((line, i) => `${(i === 0 ? name : "").padEnd(11)} ${line}`))
    .join("\n");
}

export const doctorCommand = command({
  name: "doctor",
  usage: "",
  options: {},
  details: `
Looks at Node, processor, memory and disks, oneDNN, FFmpeg, NVIDIA GPUs with their driver and libraries (by their files
alone), and the models that ship with Kinora. Changes nothing. KINORA_ONEDNN names another oneDNN library, KINORA_CACHE
another cache folder.`,
  async run(_values, positionals, out) {
    if (positionals.length > 0) {
      throw new KinoraError("cli.bad-arguments", `doctor takes no argument ${JSON.stringify(positionals[0])}`, {
        hint: "kinora doctor looks at everything",
      });
    }
    const report = await examine();
    out.answer(report, () => describe(report));
    return 0;
  },
});
