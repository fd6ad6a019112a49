// The step caches: a file and a line here for each. Help, request checks and recipes follow from this table.
import { z } from "zod";
import { describeRow, findRow, type RowSettings } from "../../base/table.ts";
import type { CacheRow, StepCache } from "./cache.ts";
import type { CacheSubject } from "./coefficients.ts";
import { comfyEasyCache, comfyLazyCache } from "./comfy-caches.ts";
import { easyCache } from "./easycache.ts";
import { magCache } from "./magcache.ts";
import { teaCache } from "./teacache.ts";

/** Every step cache. */
export const cacheRows = [
  teaCache,
  magCache,
  easyCache,
  comfyEasyCache,
  comfyLazyCache,
] as const satisfies readonly CacheRow[];

/** As a request and a recipe carry it. */
export type CacheChoice = { kind: string } & RowSettings;

const schemas = cacheRows.map(({ name, options }) => options.extend({ kind: z.literal(name) }));

/** Whether a value is a settled choice. */
export const cacheSchema = z.discriminatedUnion("kind", [schemas[0]!, ...schemas.slice(1)]) as unknown as z.ZodType<
  CacheChoice,
  CacheChoice
>;

const rowOf = (kind: string): CacheRow => findRow(cacheRows, kind, { code: "generate.bad-cache", what: "cache" });

/** With every setting; undefined for a threshold of 0, which is no cache. Throws `generate.bad-cache`. */
export function settleCache(choice: CacheChoice): CacheChoice | undefined {
  const { kind, ...given } = choice;
  const settings = rowOf(kind).settle(given);
  return settings.threshold === 0 ? undefined : { kind, ...settings };
}

/** Throws `generate.bad-cache`, `generate.cache-coefficients`. */
export function createCache(choice: CacheChoice, subject: CacheSubject): StepCache | undefined {
  const settled = settleCache(choice);
  if (!settled) return undefined;
  const { kind, ...settings } = settled;
  return rowOf(kind).create(settings, subject);
}

/** A choice in words: `easycache (threshold 0.05, ret_steps 10)`; long lists by how many they are. */
export function describeCache({ kind, ...settings }: CacheChoice): string {
  const short = Object.entries(settings).map(([key, value]) => [
    key,
    Array.isArray(value) ? `of ${value.length}` : value,
  ]);
  return describeRow(kind, Object.fromEntries(short));
}
