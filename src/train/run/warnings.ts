// What a run's data gives cause to think about: words, nothing that stops it.
import { plural } from "../../base/units.ts";
import type { CutText } from "../../cache/events.ts";
import type { DatasetPlan } from "../../dataset/dataset-plan.ts";
import { planWarnings } from "../../dataset/warnings.ts";

/**
 * Warnings of a laid-out dataset, a line each. Not the configuration's own notes, which are told when it is read, nor
 * captions that are too long by an estimate: texts are counted when they are encoded.
 */
export function datasetWarnings(plan: DatasetPlan): string[] {
  const found = planWarnings({ ...plan, config: { ...plan.config, notes: [] } });
  const several = plan.datasets.length > 1;
  return found
    .filter(({ code }) => code !== "caption.long")
    .map(({ message, hint, dataset }) => {
      const place = several && dataset !== undefined ? `dataset ${dataset + 1}: ` : "";
      return `${place}${message}${hint ? ` (${hint})` : ""}`;
    });
}

/** The most texts that are named one by one. */
const NAMED = 3;

/** That texts are longer than the `length` tokens that the model reads. */
export function cutWarning(texts: readonly CutText[], length: number): string {
  const named = texts.slice(0, NAMED).map(({ text, tokens }) => {
    const begin = text.length > 40 ? `${text.slice(0, 40)}…` : text;
    return `${JSON.stringify(begin)} has ${tokens}`;
  });
  const more = texts.length > NAMED ? ` and ${texts.length - NAMED} more` : "";
  return `${plural(texts.length, "text is", "texts are")} cut: the model reads the first ${length} tokens; ${named.join(", ")}${more}`;
}
