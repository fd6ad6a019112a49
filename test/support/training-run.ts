// A training run small enough to be made dozens of times: a model of one narrow block, four clips, files on disk.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { finished } from "../../src/base/generators.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { HashCache } from "../../src/io/content-hash.ts";
import { SafetensorsFile } from "../../src/io/safetensors.ts";
import { type WanModel, type WanModelName, wanModels } from "../../src/models/wan/params.ts";
import type { StepLine } from "../../src/protocol/train-log.ts";
import { settleTrainConfig } from "../../src/train/config/read.ts";
import type { TrainSettings } from "../../src/train/config/settings.ts";
import type { TrainEvent, TrainResult } from "../../src/train/run/events.ts";
import { train } from "../../src/train/run/loop.ts";
import type { PreviewMaker } from "../../src/train/run/preview.ts";
import { writeTinyCheckpoint } from "./tiny-checkpoint.ts";

type Row = Record<string, unknown>;

/** The architecture of a model with one narrow block. */
export function narrowModel(name: WanModelName): WanModel {
  const model: WanModel = wanModels[name];
  return { ...model, dit: { ...model.dit, dim: 128, ffnDim: 96, heads: 1, layers: 1, frequencyDim: 32 } };
}

/** Writes the narrow model's checkpoint to `folder`/checkpoint. */
export async function writeNarrowCheckpoint(folder: string, name: WanModelName = "tiny-t2v", dtype?: "f32" | "bf16") {
  return writeTinyCheckpoint(join(folder, "checkpoint"), narrowModel(name), dtype ? { dtype } : {});
}

/** Settings as a configuration file in `folder` would give them; tables of `more` are laid over the usual ones. */
export async function narrowSettings(
  folder: string,
  more: Row = {},
  name: WanModelName = "tiny-t2v",
): Promise<TrainSettings> {
  const usual: Record<string, Row | string | number> = {
    output: "run",
    cache: "cache",
    steps: 8,
    model: { name, checkpoint: "checkpoint" },
    dataset: { path: "clips", target_frames: [5], frame_extraction: "head", resolution: [32, 32], batch_size: 2 },
    lora: { rank: 2, dropout: 0.1 },
    experts: { switch_every: 4, high_share: 0.5 },
    optimizer: { learning_rate: 1e-3 },
    save: { state_every_steps: 2 },
  };
  const root: Row = { ...usual };
  for (const [key, value] of Object.entries(more)) {
    const table = usual[key];
    root[key] = typeof value === "object" && typeof table === "object" ? { ...table, ...value } : value;
  }
  const { settings } = await settleTrainConfig(root, { base: folder, name: "style" });
  return { ...settings, model: narrowModel(name) };
}

export interface Trained {
  result: TrainResult;
  events: TrainEvent[];
}

/** Runs to the end; `onEvent` may abort. The device is checked to be as it was. */
export async function trainAll(
  settings: TrainSettings,
  options: {
    stop?: AbortController;
    preview?: PreviewMaker;
    from?: number;
    fixedTime?: number;
    onEvent?: (event: TrainEvent) => void;
  } = {},
): Promise<Trained> {
  const { device } = await openDevice("auto");
  const events: TrainEvent[] = [];
  try {
    const run = train(settings, {
      device,
      hashes: new HashCache(settings.cache),
      ...(options.stop ? { signal: options.stop.signal } : {}),
      ...(options.preview ? { preview: options.preview } : {}),
      ...(options.from === undefined ? {} : { from: options.from }),
      ...(options.fixedTime === undefined ? {} : { fixedTime: options.fixedTime }),
    });
    const result = await finished(run, (event) => {
      events.push(event);
      options.onEvent?.(event);
    });
    return { result, events };
  } finally {
    device[Symbol.dispose]();
  }
}

/** The steps that a run told of. */
export const stepsOf = (events: readonly TrainEvent[]): StepLine[] =>
  events.flatMap((event) => (event.type === "step" ? [event.line] : []));

/** The notes that a run told. */
export const notesOf = (events: readonly TrainEvent[]): string[] =>
  events.flatMap((event) => (event.type === "note" ? [event.text] : []));

/** Every tensor of a safetensors file, as its bytes in hexadecimal. */
export function tensorsOf(path: string): Record<string, string> {
  using file = SafetensorsFile.open(path);
  return Object.fromEntries(file.names.map((name) => [name, Buffer.from(file.bytes(name)).toString("hex")]));
}

/** What must be equal in two runs: the files they leave, and the numbers of every step. */
export function outcome(output: string, files: readonly string[]): Row {
  const lines = readFileSync(join(output, "log.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Row);
  const numbers = lines
    .filter(({ kind }) => kind === "step" || kind === "validation")
    .map(({ seconds: _seconds, peakBytes: _peak, ...line }) => line);
  const state = JSON.parse(readFileSync(join(output, "state.json"), "utf8")) as {
    experts: Record<string, { file: string }>;
  };
  const states = Object.values(state.experts).map(({ file }) => [file, tensorsOf(join(output, file))]);
  return {
    numbers,
    tensors: files.map((file) => [file, existsSync(join(output, file)) && tensorsOf(join(output, file))]),
    states,
  };
}
