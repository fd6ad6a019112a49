// npm run bench:full-size -- [--folder DIR] [--keep] [--only generate|train]: a model of true size with random weights
// through the real commands: a film, then a step of LoRA training. Peak memory beside what was planned, stage by stage.
// Needs 25 GB of disk and memory for a 5B model. Bytes are what counts here; seconds are those of a machine at work.
import { execFile } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { formatBytes, formatFlops, formatSeconds } from "../src/base/units.ts";
import { devices } from "../src/device/devices.ts";
import { createNullDevice } from "../src/device/null/null-device.ts";
import { HashCache } from "../src/io/content-hash.ts";
import { openVideo } from "../src/io/video/read.ts";
import { VideoWriter } from "../src/io/video/write.ts";
import { wanModels } from "../src/models/wan/params.ts";
import { generate } from "../src/sample/pipeline.ts";
import { resolveRequest } from "../src/sample/request.ts";
import { PROCESS, type RunPlan } from "../src/train/plan/run-plan.ts";
import type { TrainResult } from "../src/train/run/events.ts";
import { writeFullSizeCheckpoint } from "./full-size-checkpoint.ts";
import { peerFolder } from "./peer.ts";
import { load } from "./rounds.ts";
import { kinoraBinary, type WatchedStage, watchKinora } from "./watched-process.ts";

const { values } = parseArgs({
  options: {
    folder: { type: "string" },
    keep: { type: "boolean", default: false },
    only: { type: "string" },
  },
});
const folder = values.folder ?? peerFolder("full-size");
const checkpoint = join(folder, "checkpoint");
const hashFolder = join(folder, "hashes");
process.env.KINORA_CACHE = hashFolder;

const model = wanModels["ti2v-5B"];
const size = { width: 256, height: 256 };
const frames = 9;
const steps = 2;
const prompt =
  "A red fox runs through deep snow at the edge of a forest, seen from the side, in the light of the evening.";

/** Bytes that a stage was planned to take: the device's, and those with file pages that are read in place. */
interface Planned {
  peak: number;
  resident: number;
}

const beside = (measured: number, planned: number) =>
  `${formatBytes(measured)}, ${((100 * measured) / planned).toFixed(1)} % of the ${formatBytes(planned)} planned`;

function row({ name, seconds, peak }: WatchedStage, planned?: number): void {
  const bytes = planned === undefined ? formatBytes(peak.both) : beside(peak.both, planned);
  const parts = `${formatBytes(peak.own)} its own, ${formatBytes(peak.mapped)} pages of files`;
  console.log(`  ${name.padEnd(9)} ${formatSeconds(seconds).padStart(13)}  resident ${bytes} (${parts})`);
}

const show = (stage: WatchedStage) => row(stage);

/** The same run on the null device: what each stage takes. */
async function planFilm(): Promise<Map<string, Planned>> {
  const out = join(folder, "planned.mp4");
  const { request } = resolveRequest({
    task: model.name,
    prompt,
    size,
    frames,
    steps,
    files: { folder: checkpoint },
    out,
  });
  const device = createNullDevice(devices.cpu.memoryModel);
  const stages = new Map<string, Planned>();
  let stage: string | undefined;
  const end = () => {
    if (stage) stages.set(stage, { peak: device.memory().peak, resident: device.resident().peak });
    device.resetPeak();
  };
  for await (const event of generate(request, device, { hashes: new HashCache(hashFolder) })) {
    if (event.type !== "stage") continue;
    end();
    stage = event.stage;
  }
  end();
  await rm(out, { force: true });
  return stages;
}

async function benchFilm(): Promise<void> {
  const film = join(folder, "film.mp4");
  await rm(film, { force: true });
  console.log(`kinora generate: ${model.name}, ${size.width}×${size.height}, ${frames} frames, ${steps} steps`);
  const run = await watchKinora(
    [
      ...["generate", "--task", model.name, "--ckpt_dir", checkpoint, "--prompt", prompt, "--out", film],
      ...["--size", `${size.width}*${size.height}`, "--frame_num", `${frames}`, "--sample_steps", `${steps}`],
      ...["--seed", "1"],
    ],
    (event) => (event.type === "stage" ? (event.stage as string) : undefined),
    show,
  );
  let seen = 0;
  for await (const frame of openVideo(film)) {
    if (frame.width !== size.width || frame.height !== size.height)
      throw new Error(`a frame of ${frame.width}×${frame.height}`);
    seen++;
  }
  if (seen !== frames) throw new Error(`the film has ${seen} frames`);
  const planned = await planFilm();
  console.log("measured beside planned:");
  for (const stage of run.stages) {
    const expected = planned.get(stage.name);
    if (expected && ["text", "load", "sample", "decode"].includes(stage.name)) row(stage, expected.resident + PROCESS);
  }
  const { peakBytes } = run.answer as { peakBytes: number };
  const device = Math.max(...[...planned.values()].map(({ peak }) => peak));
  console.log(`  the device's peak ${beside(peakBytes, device)}; most resident ${formatBytes(run.peakResident)}`);
}

/** A ball of light that crosses a gradient. */
async function writeClip(path: string): Promise<void> {
  await using writer = await VideoWriter.create(path, { ...size, fps: model.defaults.fps });
  for (let t = 0; t < frames; t++) {
    const picture = new Uint8Array(size.width * size.height * 3);
    for (let i = 0; i < picture.length; i += 3) {
      const [x, y] = [(i / 3) % size.width, Math.floor(i / 3 / size.width)];
      const near = Math.hypot(x - 40 - 20 * t, y - 128) < 32;
      picture.set(near ? [250, 240, 200] : [x >> 1, 60, y >> 1], i);
    }
    await writer.write(picture);
  }
  await writer.finish();
}

async function benchTraining(): Promise<void> {
  const clips = join(folder, "clips");
  for (const old of ["runs", "kinora-cache"]) await rm(join(folder, old), { recursive: true, force: true });
  mkdirSync(clips, { recursive: true });
  await writeClip(join(clips, "clip.mp4"));
  writeFileSync(join(clips, "clip.txt"), prompt);
  const config = join(folder, "train.toml");
  writeFileSync(
    config,
    `steps = 1
dataset = { path = "clips", resolution = [${size.width}, ${size.height}], target_frames = [${frames}] }
[model]
name = "${model.name}"
checkpoint = "checkpoint"
base = "bf16"
recompute = true
[lora]
rank = 32
`,
  );
  const { stdout } = await promisify(execFile)(process.execPath, [kinoraBinary, "plan", config, "--json"]);
  const plan = JSON.parse(stdout) as RunPlan & { seconds: { step: number } };
  console.log(
    `kinora train: ${model.name}, rank 32, recomputed blocks, ${size.width}×${size.height}×${frames}, one step`,
  );
  const run = await watchKinora(
    ["train", config],
    (event) => {
      if (event.type === "hashing") return "hash";
      if (event.type === "cache") return (event.event as { kind: string }).kind;
      if (event.type === "step") {
        const { loss, gradientNorm, seconds } = event.line as { loss: number; gradientNorm: number; seconds: number };
        const gigaflops = plan.step.flops / seconds / 1e9;
        console.log(
          `  loss ${loss.toFixed(4)}, gradient norm ${gradientNorm.toPrecision(3)}; ${formatFlops(plan.step.flops)} in ${formatSeconds(seconds)} (${gigaflops.toFixed(0)} GFLOP/s)`,
        );
      }
      return event.type === "loading" ? "training" : undefined;
    },
    show,
  );
  const result = run.answer as TrainResult;
  console.log("measured beside planned:");
  for (const stage of run.stages) {
    const planned = plan.phases.find(({ name }) => name === stage.name);
    if (planned) row(stage, planned.resident + plan.host);
  }
  const training = plan.phases.find(({ name }) => name === "training")!;
  console.log(
    `  the device's peak in training ${beside(result.peakBytes, training.peak)}; most resident ${beside(run.peakResident, plan.resident + plan.host)}`,
  );
}

console.log(`${cpus()[0]?.model}, ${formatBytes(totalmem())}, Node ${process.version}, ${load()}`);
try {
  console.log(`writing the checkpoint to ${checkpoint} (what is there is kept)`);
  await writeFullSizeCheckpoint(checkpoint, model, "bf16");
  if (values.only !== "train") await benchFilm();
  if (values.only !== "generate") await benchTraining();
} finally {
  if (!values.keep) await rm(folder, { recursive: true, force: true });
}
