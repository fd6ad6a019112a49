// Every text that a run has to encode: what trains, and what previews are asked for.
import type { DatasetItem } from "../../dataset/items.ts";
import { defaultNegative } from "../../models/wan/prompt.ts";
import type { SamplePrompt } from "../config/prompt-file.ts";
import type { TrainSettings } from "../config/settings.ts";

/** A caption as the text encoder gets it. */
export const captionOf = (item: DatasetItem): string => item.caption.text ?? "";

/** Texts that train; the empty one where captions are left out now and then. */
export function captionTexts(
  { captionDropout }: Pick<TrainSettings, "captionDropout">,
  items: readonly DatasetItem[],
): string[] {
  return [...items.map(captionOf), ...(captionDropout > 0 ? [""] : [])];
}

/** What guidance leads a preview away from. */
export const negativeOf = (prompt: SamplePrompt, model: TrainSettings["model"]): string =>
  prompt.negative ?? defaultNegative(model);

/** Texts of the previews. */
export function previewTexts({ model, preview }: Pick<TrainSettings, "model" | "preview">): string[] {
  return (preview?.prompts ?? []).flatMap((prompt) => [prompt.prompt, negativeOf(prompt, model)]);
}
