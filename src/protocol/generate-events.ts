// What a generation tells while it runs: the command line draws progress from it, a server passes it on.
import type { Recipe } from "./recipe.ts";

export type GenerateStage = "check" | "hash" | "text" | "image" | "load" | "sample" | "decode";

export type GenerateEvent =
  | { type: "stage"; stage: GenerateStage; detail: string }
  /** Something a person should know, such as a rounded number of frames. */
  | { type: "note"; text: string }
  /** How far a stage is that has no steps. */
  | { type: "progress"; stage: GenerateStage; done: number; total: number; unit: "bytes" | "frames" }
  /** Everything is checked and the work begins. */
  | { type: "recipe"; recipe: Recipe }
  | {
      type: "step";
      /** Steps done and in all. */
      step: number;
      steps: number;
      expert: "high" | "low";
      timestep: number;
      /** Evaluations of the model in this step: 2 with guidance. */
      passes: 1 | 2;
      seconds: number;
      /** Seconds per step so far, and until the last step. */
      secondsPerStep: number;
      etaSeconds: number;
    }
  /** A rough look at where the latents are going: RGB [height, width, 3] of each latent frame. */
  | { type: "preview"; step: number; width: number; height: number; frames: Uint8Array[] }
  /** Stopped as asked; what is done lies in `latents`, absent where nothing was done yet. */
  | { type: "interrupted"; step: number; steps: number; latents?: string }
  | {
      type: "finished";
      /** The MP4. */
      path: string;
      bytes: number;
      frames: number;
      /** Kept latents, where asked for. */
      latents?: string;
      seconds: number;
      /** Most bytes of the device at once. */
      peakBytes: number;
      recipe: Recipe;
    };
