// What the pipeline tells while it makes one film. The job that drives it tells the same in JSON: protocol/jobs/generate.ts.
import type { NoteEvent, ProgressEvent, RecipeEvent, StageEvent, StepEvent, Video } from "../protocol/jobs/generate.ts";

export type GenerateEvent =
  | StageEvent
  | NoteEvent
  | Required<ProgressEvent>
  | RecipeEvent
  | StepEvent
  /** A rough look at where the latents are going: RGB [height, width, 3] of each latent frame. */
  | { type: "preview"; step: number; width: number; height: number; frames: Uint8Array[] }
  /** Stopped as asked; what is done lies in `latents`, absent where nothing was done yet. */
  | { type: "interrupted"; step: number; steps: number; latents?: string }
  | ({ type: "finished" } & Video);
