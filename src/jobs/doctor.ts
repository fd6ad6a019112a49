// What this machine has, which device will be used and why, and what to install. Changes nothing.
import { homedir } from "node:os";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import type { z } from "zod";
import { isKinoraError } from "../base/errors.ts";
import { formatBytes } from "../base/units.ts";
import { kinoraVersion } from "../base/version.ts";
import { cudaState, inspectCuda } from "../device/cuda/installation.ts";
import { devices } from "../device/devices.ts";
import { freeSpace, lookAtMachine } from "../device/machine.ts";
import { findNvidia } from "../device/nvidia.ts";
import { openDevice } from "../device/open-device.ts";
import { measureDevice } from "../device/self-test.ts";
import { fileOf, installCommand, loadLibrary } from "../ffi/onednn-library.ts";
import { ffmpegBuild } from "../io/video/ffmpeg-build.ts";
import { bundledFolder } from "../models/wan/bundled.ts";
import { searchCheckpoint } from "../models/wan/checkpoint-files.ts";
import { type WanModel, wanModels } from "../models/wan/params.ts";
import { doctorContract } from "../protocol/jobs/doctor.ts";
import { quickJob } from "./job.ts";

type Report = z.input<(typeof doctorContract)["result"]>;

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

/** What the cuda device would open; where that is usable, the first card computes and is measured for a few seconds. */
async function lookAtCuda({ usable }: { usable: boolean }): Promise<Report["cuda"]> {
  const seen = { state: cudaState, ...inspectCuda() };
  if (!usable) return seen;
  try {
    using device = await devices.cuda.open();
    return { ...seen, selfTest: await measureDevice(device, devices.cuda.speedSizes) };
  } catch (error) {
    if (!isKinoraError(error)) throw error;
    return { ...seen, selfTest: { failed: error.message, ...(error.hint ? { hint: error.hint } : {}) } };
  }
}

async function chooseDevice(): Promise<Report["device"]> {
  const { device, note } = await openDevice("auto");
  using opened = device;
  return {
    name: opened.name,
    why: note ?? "the fastest in this version whose library was found",
    capacity: opened.capacity(),
    products: opened.productTypes,
  };
}

function advise(
  { machine, oneDnn, ffmpeg, nvidia, cuda, models, folders }: Omit<Report, "advice">,
  env: NodeJS.ProcessEnv,
): Report["advice"] {
  const advice: Report["advice"] = [];
  const [major = 0, minor = 0] = machine.node.split(".").map(Number);
  if (major < NODE[0] || (major === NODE[0] && minor < NODE[1]))
    advice.push({ what: `Node.js ${NODE.join(".")} or newer`, why: `this is ${machine.node}` });
  if ("missing" in oneDnn && env.KINORA_ONEDNN)
    advice.push({ what: "KINORA_ONEDNN", why: `it does not name a usable library: ${env.KINORA_ONEDNN}` });
  else if ("missing" in oneDnn)
    advice.push({ what: "oneDNN", why: "needed by the fast cpu device", command: installCommand() });
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
      why: `the files of ${names} are not in ${dirname(absent[0]!.folder)}; if they are elsewhere, name their folder as the checkpoint`,
    });
  }
  if (nvidia.gpus.length > 0 && !nvidia.driver && !cuda.driver)
    advice.push({ what: "NVIDIA's driver", why: "there is a GPU without a driver: the cuda device needs it" });
  if (cuda.command && cuda.cards.length > 0)
    advice.push({ what: "NVIDIA's libraries", why: "the cuda device calls them", command: cuda.command });
  for (const { name, path, free } of folders)
    if (free !== undefined && free < LITTLE_SPACE)
      advice.push({ what: `room in the ${name}`, why: `${formatBytes(free)} are free in ${path}` });
  return advice;
}

export const doctorJob = quickJob(doctorContract, async (_request, { env, cacheFolder }): Promise<Report> => {
  const oneDnn = findOneDnn();
  const folder = process.cwd();
  const place = { platform: process.platform, environment: env, home: homedir(), folder, root: "/" };
  const space = (name: Report["folders"][number]["name"], path: string) => {
    const free = freeSpace(path);
    return { name, path, ...(free === undefined ? {} : { free }) };
  };
  const rows = await findDevices();
  const found = {
    kinora: { version: kinoraVersion(), folder: fileURLToPath(new URL("../../", import.meta.url)) },
    machine: lookAtMachine(),
    oneDnn,
    ffmpeg: ffmpegBuild(),
    nvidia: findNvidia(place),
    cuda: await lookAtCuda(rows.find(({ name }) => name === "cuda")!),
    devices: rows,
    device: await chooseDevice(),
    models: findModels(),
    folders: [space("cache", cacheFolder), space("working folder", folder)],
  };
  return { ...found, advice: advise(found, env) };
});
