// What the trainer asks for when it is time for previews. It never samples itself: whoever composes training with
// generation (the command line) hands in a maker.
import type { CachedTensor } from "../cache/store.ts";
import type { Device } from "../device/device.ts";
import type { CheckpointSearch } from "../models/wan/checkpoint-files.ts";
import type { WanDit } from "../models/wan/dit/dit.ts";
import type { WanModel } from "../models/wan/params.ts";
import type { Expert } from "../models/wan/recognize.ts";
import type { SamplePrompt } from "./prompt-file.ts";

export interface PreviewRequest {
  model: WanModel;
  /** The σ where the experts change; undefined for a model without experts. */
  boundary: number | undefined;
  prompt: SamplePrompt;
  /** The prompt's, else the run's. */
  seed: bigint;
  /** Text embeddings [tokens, textDim], cached before training. */
  text: { positive: CachedTensor; negative: CachedTensor };
  device: Device;
  files: CheckpointSearch;
  vaeDtype: "f32" | "bf16";
  /** The expert as it is trained so far, or as it ships; the one before it is gone then. */
  expert(which: Expert): Promise<WanDit>;
  /** The film to write, whole or not at all. */
  out: string;
  signal?: AbortSignal;
}

export interface PreviewProgress {
  done: number;
  of: number;
}

export type PreviewMaker = (request: PreviewRequest) => AsyncGenerator<PreviewProgress, void>;
