// What a prepared set would like its owner to know before captioning and training: nothing is wrong, much could be better.
import { plural } from "../../base/units.ts";
import type { ManifestItem } from "../../protocol/dataset-manifest.ts";
import { floorFrames } from "../frames.ts";
import type { PrepareSettings } from "./settings.ts";

/** Less than this of the kept film that training takes by itself is worth a word. */
const SMALL_SHARE = 0.75;

/**
 * @param taken captions that came with the sources and were taken over in this run
 * @param frames of a training clip of the model
 */
export function prepareHints(
  kept: readonly Pick<ManifestItem, "kind" | "frames">[],
  { taken, frames, settings }: { taken: number; frames: number; settings: Pick<PrepareSettings, "fps" | "trigger"> },
): string[] {
  const { fps, trigger } = settings;
  const hints: string[] = [];
  const lengths = kept.filter(({ kind }) => kind === "video").map((item) => item.frames);
  const all = lengths.reduce((sum, length) => sum + length, 0);
  const used = lengths.reduce((sum, length) => sum + floorFrames(Math.min(length, frames)), 0);
  if (used < SMALL_SHARE * all) {
    const seconds = (count: number) => (count / fps).toFixed(1);
    hints.push(
      `by default training uses only the first ${frames} frames (${seconds(frames)} s) of each clip, ${seconds(used)} of the ${seconds(all)} s kept here: \`clips.longest\` ${Number((frames / fps).toFixed(4))} cuts clips to that length, frame_extraction = "chunk" or "uniform" in the dataset's configuration uses more of each`,
    );
  }
  if (taken > 0 && trigger === undefined)
    hints.push(
      `${plural(taken, "caption")} came with the sources: \`trigger\` "PHRASE" puts the trigger phrase of the LoRA before each`,
    );
  return hints;
}
