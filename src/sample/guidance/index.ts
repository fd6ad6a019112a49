// The kinds of guidance: a file and a line here for each. Request checks and recipes follow from this table.
import { z } from "zod";
import { KinoraError } from "../../base/errors.ts";
import { describeRow, findRow, type RowSettings } from "../../base/table.ts";
import { cfgRow, scaleSchema } from "./cfg.ts";
import type { Guidance } from "./guidance.ts";

/** Every kind of guidance. */
export const guidanceRows = [cfgRow] as const;

/** As a request and a recipe carry it: the scale of CFG, or another kind with its settings. */
export type GuidanceChoice = number | ({ kind: string } & RowSettings);

/** Whether a value is a settled choice; unknown kinds, settings and scales out of range are not. */
export const guidanceSchema = z.union([
  scaleSchema,
  ...guidanceRows.map(({ name, options }) => options.extend({ kind: z.literal(name) })),
]) as z.ZodType<GuidanceChoice, GuidanceChoice>;

const rowOf = (kind: string) =>
  findRow(guidanceRows, kind, { code: "generate.bad-guidance", what: "kind of guidance" });

/** The one way to write a choice down: CFG as its scale alone, every setting of others. Throws `generate.bad-guidance`. */
export function settleGuidance(choice: GuidanceChoice): GuidanceChoice {
  if (typeof choice === "number") {
    if (scaleSchema.safeParse(choice).success) return choice;
    throw new KinoraError("generate.bad-guidance", "a guidance scale is out of range", {
      expected: `a number from ${scaleSchema.minValue} to ${scaleSchema.maxValue}`,
      actual: `${choice}`,
      hint: "e.g. 5, or 3,4 for low and high noise; 1 disables guidance",
    });
  }
  const { kind, ...given } = choice;
  const row = rowOf(kind);
  const settings = row.settle(given);
  return kind === cfgRow.name ? (settings.scale as number) : { kind, ...settings };
}

/** Throws `generate.bad-guidance`. */
export function createGuidance(choice: GuidanceChoice): Guidance {
  if (typeof choice === "number") return cfgRow.create({ scale: choice });
  const { kind, ...settings } = choice;
  return rowOf(kind).create(settings);
}

/** A choice in words: `3`, or `kind (scale 3, rescale 0.7)`. */
export function describeGuidance(choice: GuidanceChoice): string {
  if (typeof choice === "number") return String(choice);
  const { kind, ...settings } = choice;
  return describeRow(kind, settings);
}
