// What a calibration measured, as a file beside its film, and a cache with these numbers.
import { readFileSync } from "node:fs";
import { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import { writeFileAtomic } from "../io/atomic.ts";
import type { CacheCoefficients } from "./caches/calibration.ts";
import type { CacheChoice } from "./caches/index.ts";
import type { GenerateRequest } from "./request.ts";

const KIND = "kinora.cache-coefficients";
const numbers = z.array(z.number()).max(20_000);

const fileSchema = z.object({
  kind: z.literal(KIND),
  version: z.literal(1),
  model: z.string(),
  steps: z.int().positive(),
  shift: z.number().positive(),
  magcache: numbers,
  teacache: z.object({ embedding: numbers, projection: numbers }).optional(),
});

/** Beside the MP4. */
export const coefficientsPath = (out: string): string => `${out.replace(/\.mp4$/i, "")}.cache.json`;

/** Writes what a run has measured; the file it is in. Throws `io.*`. */
export async function writeCoefficients(
  { out, model, shift }: Pick<GenerateRequest, "out" | "model" | "shift">,
  steps: number,
  measured: CacheCoefficients,
): Promise<string> {
  const path = coefficientsPath(out);
  const file: z.input<typeof fileSchema> = { kind: KIND, version: 1, model: model.name, steps, shift, ...measured };
  await writeFileAtomic(path, `${JSON.stringify(file, undefined, 2)}\n`);
  return path;
}

/** The cache with what a file measured, where it does not say otherwise itself. Throws `generate.cache-coefficients`. */
export function withCoefficients(cache: CacheChoice, path: string, model: string): CacheChoice {
  const bad = (message: string, actual: string) =>
    new KinoraError("generate.cache-coefficients", message, {
      actual,
      hint: "kinora generate --calibrate-cache writes such a file next to its video",
    });
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(path, "utf8"));
  } catch (cause) {
    throw bad(`${path} cannot be read`, (cause as Error).message);
  }
  const parsed = fileSchema.safeParse(content);
  if (!parsed.success) throw bad(`${path} contains no cache coefficients`, z.prettifyError(parsed.error));
  const { magcache, teacache, model: measured } = parsed.data;
  if (measured !== model) throw bad(`${path} was measured for another model`, `${measured}, not ${model}`);
  if (cache.kind === "magcache") return { ratios: magcache, ...cache };
  if (cache.kind !== "teacache") throw bad(`${cache.kind} uses no coefficients`, path);
  if (!teacache) throw bad(`${path} contains no TeaCache coefficients`, "the run had fewer than six steps");
  return { coefficients: teacache[cache.ret_steps === true ? "projection" : "embedding"], ...cache };
}
