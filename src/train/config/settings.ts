// Everything a training run was told, with nothing left open; and where each of it came from.

import type { DatasetConfig } from "../../dataset/config.ts";
import type { TrainableKindName } from "../../lora/adapters/table.ts";
import type { FileChoices } from "../../models/wan/checkpoint-files.ts";
import type { WanModel } from "../../models/wan/params.ts";
import type { Expert } from "../../models/wan/recognize.ts";
import type { BlockMemory } from "../../nn/residency.ts";
import type { BasePrecision, LoraKeys } from "../../protocol/train-config.ts";
import type { Choice } from "../choices.ts";
import type { EmaSettings } from "../optimizers/ema.ts";
import type { Objective } from "../step/losses.ts";
import type { TimeDistribution } from "../step/timesteps.ts";
import type { SamplePrompt } from "./prompt-file.ts";

export interface LoraSettings {
  kind: TrainableKindName;
  rank: number;
  alpha: number;
  dropout: number;
  /** `alpha` is then the one that was asked for times √rank, so that alpha/rank is the scale for every reader. */
  rslora: boolean;
  /** LoRA+: of the learning rate of the up matrices. */
  plus_ratio: number;
  /** Patterns of official names; undefined for the blocks' attention and feed-forward. */
  targets: readonly string[] | undefined;
}

/** Every setting of a run, none left open. */
export interface TrainSettings {
  /** Of the files that are written. */
  name: string;
  /** Folders, absolute. */
  output: string;
  cache: string;
  kind: "lora" | "full";
  seed: bigint;
  model: WanModel;
  files: FileChoices;
  /** The σ where the experts change, the checkpoint's own where it names one; undefined for a model without experts. */
  boundary: number | undefined;
  base: BasePrecision;
  /** What the large products run in. */
  dtype: "f32" | "bf16";
  vaeDtype: "f32" | "bf16";
  textDtype: "f32" | "bf16";
  /** Blocks are computed again in the backward pass instead of kept. */
  recompute: boolean;
  /** How much of the transformer's blocks is in memory at once; all where absent. */
  blocks?: BlockMemory;
  dataset: DatasetConfig;
  length: { steps: number } | { epochs: number };
  lora: LoraSettings;
  experts: {
    /** Which train; a model without experts is `low`. */
    train: readonly Expert[];
    switchEvery: number;
    /** Share of the steps for the high-noise expert where both train. */
    highShare: number;
  };
  time: TimeDistribution;
  captionDropout: number;
  firstFrame: number;
  objective: Objective;
  optimizer: Choice & {
    learningRate: number;
    /** 0: none. */
    clip: number;
    accumulation: number;
  };
  /** A moving average of the weights, which is what is looked at and written. */
  ema?: EmaSettings;
  schedule: Choice & { warmup: { steps: number } | { share: number } };
  validation: { holdOut: number; everySteps: number; sigmas: number };
  preview:
    | {
        prompts: readonly SamplePrompt[];
        everySteps: number | undefined;
        everyEpochs: number | undefined;
        atStart: boolean;
      }
    | undefined;
  save: {
    everySteps: number | undefined;
    everyEpochs: number | undefined;
    keepLast: number | undefined;
    stateEverySteps: number;
    keepStates: number;
    keys: LoraKeys;
    dtype: "f32" | "bf16" | "f16";
    title: string | undefined;
    author: string | undefined;
    description: string | undefined;
    license: string | undefined;
    tags: string | undefined;
    comment: string | undefined;
  };
}

export type Origin = "config" | "command line" | "default" | "model";

/** One effective setting, as `--explain` prints it. */
export interface ExplainedSetting {
  /** As written in the file, e.g. `optimizer.learning_rate`. */
  key: string;
  value: string;
  from: Origin;
  /** What it implies. */
  note?: string;
  /** Why it does nothing in this combination. */
  idle?: string;
}
