// What training refuses of a dataset: one rule for the trainer, which stops at it, and for inspect, which says it before.
import { KinoraError } from "../base/errors.ts";
import type { DatasetPlan } from "./dataset-plan.ts";

function listed(names: readonly string[]): string {
  const more = names.length > 5 ? ` and ${names.length - 5} more` : "";
  return `${names.slice(0, 5).join(", ")}${more}`;
}

/** Each with a hint; none where the dataset can train. */
export function trainingRefusals({ items, drops }: Pick<DatasetPlan, "items" | "drops">): KinoraError[] {
  if (items.length === 0)
    return [
      new KinoraError("train.no-items", "no file in the dataset yields anything to train on", {
        ...(drops.length > 0
          ? { actual: listed([...new Set(drops.map(({ name, reason }) => `${name}: ${reason}`))]) }
          : {}),
        hint: "use smaller target_frames or another frame_extraction for shorter clips; kinora dataset inspect lists every file",
      }),
    ];
  const silent = [...new Set(items.filter(({ caption }) => caption.text === undefined).map(({ name }) => name))];
  if (silent.length === 0) return [];
  return [
    new KinoraError("train.no-captions", `${silent.length} of the dataset's files have no caption`, {
      actual: listed(silent),
      hint: "put a .txt file with the same name next to each, or run kinora dataset caption; an empty file means an empty caption",
    }),
  ];
}
