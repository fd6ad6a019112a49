// The demo's second stage: a LoRA from the drawn clips, by the configuration file and the call that `kinora train` makes.
import { existsSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { cacheKey } from "../../src/cache/store.ts";
import { Narrator } from "../../src/cli/commands/train.ts";
import { writeFileAtomic } from "../../src/io/atomic.ts";
import { startJob } from "../../src/jobs/start.ts";
import type { LogLine } from "../../src/protocol/train-log.ts";
import { readTrainConfig } from "../../src/train/config/read.ts";
import type { TrainSettings } from "../../src/train/config/settings.ts";
import { outputName } from "../../src/train/run/outputs.ts";
import { readLog } from "../../src/train/run/run-log.ts";
import { readState } from "../../src/train/run/state.ts";
import type { DrawnClip } from "./draw.ts";
import { clipSize, type DemoSettings, demoFiles, heldOutPrompts, model, TRIGGER } from "./settings.ts";
import type { Stage } from "./stage.ts";

export interface TrainedStyle {
  /** The LoRA of each expert. */
  loras: string[];
  settings: TrainSettings;
  /** The configuration as written. */
  config: string;
  log: LogLine[];
}

/** Videos that the run page shows as the training goes on. */
const PREVIEWS = 3;

/** The configuration that a person would write; relative paths are looked for beside it. */
export function trainConfig({ checkpoint, train: settings }: DemoSettings): string {
  const { width, height, frames } = model.defaults;
  const { steps, batchSize, rank, learningRate, highShare, heldOut, judgeEvery } = settings;
  return `# A LoRA of the "${TRIGGER}" from clips/, written by npm run demo.
# The same by hand: npx kinora train on this file. For changes make a copy: npm run demo writes this one anew.
name = "neon"
output = "run"
steps = ${steps}

[model]
name = "${model.name}"${checkpoint === undefined ? "" : `\ncheckpoint = ${JSON.stringify(checkpoint)}`}

[dataset]
path = "clips"                # ${clipSize.width}×${clipSize.height} clips with .txt captions
resolution = [${width}, ${height}]
target_frames = [${frames}]
batch_size = ${batchSize}

[lora]
rank = ${rank}

[experts]
high_share = ${highShare}

[optimizer]
learning_rate = ${learningRate}

[schedule]
kind = "cosine"
warmup = "5%"

[validation]
hold_out = ${heldOut}                  # clips that never train
every_steps = ${judgeEvery}

[preview]
prompts = "prompts.txt"
every_steps = ${2 * judgeEvery}

[save]
every_steps = ${2 * judgeEvery}
keep_last = 2
state_every_steps = ${judgeEvery}
title = "Neon style"
description = "Trained by npm run demo on clips drawn by the repository"
`;
}

/**
 * Trains, goes on where a run was stopped, or takes what is there. `weights` names the content of the checkpoint.
 * Throws as `train` does.
 */
export async function trainStyle(
  stage: Stage,
  clips: readonly DrawnClip[],
  weights: Readonly<Record<string, string>>,
): Promise<TrainedStyle> {
  const { settings: demo, out, work } = stage;
  const files = demoFiles(demo.folder);
  const config = trainConfig(demo);
  const samplingSteps = demo.sampleSteps === undefined ? "" : ` --s ${demo.sampleSteps}`;
  const prompts = heldOutPrompts(PREVIEWS)
    .map(({ text, seed }) => `${text} --d ${seed}${samplingSteps}\n`)
    .join("");
  await writeIfNew(files.config, config);
  await writeIfNew(files.previewPrompts, prompts);
  // The previews change no LoRA: they are not part of it.
  const key = cacheKey({ config, weights, clips: clips.map((clip) => clip.key) });
  const { settings } = await readTrainConfig(files.config);
  const result = (): TrainedStyle => ({ loras: loraFiles(settings), settings, config, log: readLog(files.run) });

  if (work.keyOf("training") !== key && existsSync(files.run)) {
    out.note("the training that is there was another one: it begins anew");
    await rm(files.run, { recursive: true });
  }
  const state = await readState(files.run, stage.hashes);
  if (state?.finished && loraFiles(settings).every(existsSync)) {
    out.note(`the LoRA is trained, ${state.step} steps: reused`);
    return result();
  }
  // Known from now on as the run with this key, also after a kill.
  await work.begin("training", key, !state);
  await work.during("training", () => runTraining(stage, files.config));
  return result();
}

const loraFiles = ({ name, output, experts }: TrainSettings): string[] =>
  experts.train.map((expert) => join(output, outputName(name, expert, true, { at: "end" })));

/** An unchanged file keeps its time. */
async function writeIfNew(path: string, text: string): Promise<void> {
  if ((await readFile(path, "utf8").catch(() => undefined)) !== text) await writeFileAtomic(path, text);
}

async function runTraining({ signal, out }: Stage, config: string): Promise<void> {
  const { show } = new Narrator({ say: out.note, progress: out.progress });
  for await (const event of startJob("train", { config }, { signal })) show(event);
}
