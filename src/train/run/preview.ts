// What the trainer asks for when it is time for previews. It never samples itself: whoever composes training with
// generation (the command line) hands in a maker.
import type { Device } from "../../device/device.ts";
import type { WanDit } from "../../models/wan/dit/dit.ts";
import type { WanModel } from "../../models/wan/params.ts";
import type { Expert } from "../../models/wan/recognize.ts";
import type { HostTensor } from "../../tensor/host-tensor.ts";
import type { SamplePrompt } from "../config/prompt-file.ts";

/** One film of a round. */
export interface PreviewFilm extends SamplePrompt {
  /** The prompt's, else the run's. */
  seed: bigint;
  /** Text embeddings [tokens, textDim], cached before training. */
  text: { positive: HostTensor; negative: HostTensor };
  /** The film to write, whole or not at all. */
  out: string;
}

/** A round of previews: every prompt with the experts of the moment. */
export interface PreviewRequest {
  model: WanModel;
  /** The σ where the experts change; undefined for a model without experts. */
  boundary: number | undefined;
  device: Device;
  vae: { path: string; dtype: "f32" | "bf16" };
  films: readonly PreviewFilm[];
  /** The expert as it is trained so far, or as it ships; the one before it is gone then. Each change loads a model. */
  expert(which: Expert): Promise<WanDit>;
  signal?: AbortSignal;
}

/** How far the films of a preview are. */
export type PreviewEvent =
  /** A film is `done` steps of `of` far. */
  | { type: "step"; index: number; done: number; of: number }
  /** A film is written. */
  | { type: "film"; index: number; seconds: number };

/** Makes the films of a preview with the weights as they are; training is handed one. */
export type PreviewMaker = (request: PreviewRequest) => AsyncGenerator<PreviewEvent, void>;
