// What training says while it runs. The command line, a server or a test consume these; nothing else is printed.
import type { DatasetPlan } from "../../dataset/dataset-plan.ts";
import type { Expert } from "../../models/wan/recognize.ts";
import type { PreviewLine, StepLine, ValidationLine } from "../../protocol/train-log.ts";
import type { DataEvent, SplitItems } from "./data.ts";

/** What a run tells on its way. */
export type TrainEvent =
  | DataEvent
  /** The dataset is laid out and cached. */
  | {
      type: "ready";
      plan: DatasetPlan;
      items: SplitItems;
      /** Of the whole run. */
      steps: number;
      /** Batches of an epoch; a step takes `accumulation` of them. */
      batchesPerEpoch: number;
      /** Steps done before, by the run that is gone on from. */
      resumed: number;
    }
  | { type: "loading"; expert: Expert }
  | { type: "loaded"; expert: Expert; parameters: number; tensors: number }
  | { type: "step"; line: StepLine; steps: number /** Seconds left, by the last steps. */; left: number }
  | { type: "validating"; expert: Expert; items: number }
  | { type: "validation"; line: ValidationLine }
  /** `done` of `of` sampling steps of all films of the round together. */
  | { type: "previewing"; prompts: number; done: number; of: number }
  | { type: "preview"; line: PreviewLine }
  | { type: "saved"; step: number; files: string[] }
  | { type: "state"; step: number }
  | { type: "note"; text: string };

/** What a run comes to. */
export interface TrainResult {
  /** `stopped`: asked to; the state is saved and the same command goes on. */
  end: "finished" | "stopped";
  step: number;
  steps: number;
  output: string;
  /** Final files, within the output folder. */
  files: string[];
  peakBytes: number;
}
