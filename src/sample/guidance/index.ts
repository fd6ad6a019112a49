// The kinds of guidance: a file and a line here for each. Request checks and recipes follow from this table.
import { z } from "zod";
import { KinoraError } from "../../base/errors.ts";
import { describeRow, findRow, type RowSettings } from "../../base/table.ts";
import { cfgRow, scaleSchema } from "./cfg.ts";
import { cfgListRow } from "./cfg-list.ts";
import { cfgZeroRow } from "./cfg-zero.ts";
import { enhanceRow } from "./enhance.ts";
import type { Guidance, GuidanceRow } from "./guidance.ts";
import { nagRow } from "./nag.ts";
import { skipLayerRow, skipLayerSimpleRow } from "./skip-layer.ts";

/** Every kind of guidance. */
export const guidanceRows = [
  cfgRow,
  cfgListRow,
  cfgZeroRow,
  skipLayerRow,
  skipLayerSimpleRow,
  nagRow,
  enhanceRow,
] as const satisfies readonly GuidanceRow[];

/**
 * As a request and a recipe carry it: the scale of CFG, or another kind with its settings. A layer says `over` what it
 * lies: another choice, 1 where absent.
 */
export type GuidanceChoice = number | ({ kind: string; over?: GuidanceChoice } & RowSettings);

/** More layers than there are kinds are nobody's wish. */
const DEEPEST = 8;

/** Whether a value is a settled choice; unknown kinds, settings and scales out of range are not. */
export const guidanceSchema: z.ZodType<GuidanceChoice, GuidanceChoice> = Array.from({ length: DEEPEST }).reduce(
  (over: z.ZodType | undefined) => choicesOver(over),
  choicesOver(undefined),
) as z.ZodType<GuidanceChoice, GuidanceChoice>;

/** Every kind, layers with what they lie over; no layers where that is undefined. */
function choicesOver(over: z.ZodType | undefined): z.ZodType {
  const kinds = guidanceRows.flatMap(({ name, options, layer }) => {
    const own = options.extend({ kind: z.literal(name) });
    if (!layer) return [own];
    return over ? [own.extend({ over })] : [];
  });
  const [first, ...rest] = kinds;
  return z.union([scaleSchema, z.discriminatedUnion("kind", [first!, ...rest])]);
}

const rowOf = (kind: string): GuidanceRow =>
  findRow(guidanceRows, kind, { code: "generate.bad-guidance", what: "kind of guidance" });

/** The one way to write a choice down: CFG as its scale alone, every setting of others. Throws `generate.bad-guidance`. */
export function settleGuidance(choice: GuidanceChoice, depth = DEEPEST): GuidanceChoice {
  if (typeof choice === "number") {
    if (scaleSchema.safeParse(choice).success) return choice;
    throw new KinoraError("generate.bad-guidance", "a guidance scale is out of range", {
      expected: `a number from ${scaleSchema.minValue} to ${scaleSchema.maxValue}`,
      actual: `${choice}`,
      hint: "e.g. 5, or 3,4 for low and high noise; 1 disables guidance",
    });
  }
  const { kind, over, ...given } = choice;
  const row = rowOf(kind);
  if (row.layer) {
    if (depth === 0) {
      throw new KinoraError("generate.bad-guidance", "too many layers of guidance", { expected: `at most ${DEEPEST}` });
    }
    return { kind, ...row.settle(given), over: settleGuidance(over ?? 1, depth - 1) };
  }
  const settings = row.settle(over === undefined ? given : { ...given, over });
  return kind === cfgRow.name ? (settings.scale as number) : { kind, ...settings };
}

/** A choice with others over it, or in its place: those that are no layers take its scale where they have none of their own. */
export function layered(base: GuidanceChoice, layers: readonly Exclude<GuidanceChoice, number>[]): GuidanceChoice {
  return layers.reduce((below: GuidanceChoice, choice): GuidanceChoice => {
    const row = rowOf(choice.kind);
    if (row.layer) return { ...choice, over: below };
    const scaled = typeof below === "number" && "scale" in row.options.shape && choice.scale === undefined;
    return scaled ? { ...choice, scale: below } : choice;
  }, base);
}

/** Throws `generate.bad-guidance`. */
export function createGuidance(choice: GuidanceChoice): Guidance {
  if (typeof choice === "number") return cfgRow.create({ scale: choice });
  const { kind, over, ...settings } = choice;
  return rowOf(kind).create(settings, createGuidance(over ?? 1));
}

/** A choice in words: `3`, or `kind (scale 3, rescale 0.7) over 5`. */
export function describeGuidance(choice: GuidanceChoice): string {
  if (typeof choice === "number") return String(choice);
  const { kind, over, ...settings } = choice;
  const words = describeRow(kind, settings);
  return over === undefined ? words : `${words} over ${describeGuidance(over)}`;
}
