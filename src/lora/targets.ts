// Which layers of a transformer a LoRA stands on: patterns of official names, counted before anything loads.
import { KinoraError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";
import type { DitConfig } from "../models/wan/params.ts";
import { ditShapes } from "../models/wan/weight-shapes.ts";
import { defaultTargets } from "./attach.ts";
import { layersOf } from "./fit.ts";

/** The Linears that patterns select; undefined for the blocks' attention and feed-forward. */
export function selectsLinear(targets: readonly string[] | undefined): (name: string) => boolean {
  const patterns = targets?.map((pattern) => new RegExp(pattern)) ?? [defaultTargets];
  return (name) => patterns.some((pattern) => pattern.test(name));
}

/** Every layer that adapters can stand on, by official name. */
export const linearNames = (config: DitConfig): string[] => [...layersOf(ditShapes(config)).keys()];

/**
 * How many layers each pattern selects, and all of them together; `fullRank` is the largest rank that any of them can have.
 * Throws `lora.no-target` for a pattern that selects none, with the nearest part of a name.
 */
export function countTargets(
  { name: modelName, dit }: { name: string; dit: DitConfig },
  targets: readonly string[] | undefined,
): { each: { pattern: string; layers: number }[]; all: number; fullRank: number } {
  const names = linearNames(dit);
  const each = (targets ?? []).map((pattern) => ({ pattern, layers: names.filter(selectsLinear([pattern])).length }));
  const idle = each.find(({ layers }) => layers === 0);
  if (idle) {
    const parts = new Set(names.flatMap((name) => name.split(".")).filter((part) => !/^\d+$/.test(part)));
    const near = nearestName(idle.pattern, parts);
    const example = names.find((name) => name.startsWith("blocks.0")) ?? names[0];
    throw new KinoraError(
      "lora.no-target",
      `lora.targets: ${JSON.stringify(idle.pattern)} matches no layer of ${modelName}`,
      { hint: `${near ? `did you mean ${near}? ` : ""}names look like ${example}` },
    );
  }
  const chosen = [...layersOf(ditShapes(dit))].filter(([name]) => selectsLinear(targets)(name));
  const fullRank = Math.max(...chosen.map(([, { inputs, outputs }]) => Math.min(inputs, outputs)));
  return { each, all: chosen.length, fullRank };
}
