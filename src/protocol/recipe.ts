// How a video was made: everything that decides its latents, as it travels inside the MP4 and the saved latents.
import { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import { cacheSchema } from "../sample/caches/index.ts";
import { guidanceSchema } from "../sample/guidance/index.ts";
import { noiseRows, splitNoise } from "../sample/noise/index.ts";
import { DEFAULT_SAMPLER, type SamplerName, samplerNames } from "../sample/schedulers/index.ts";
import { MAX_STEPS } from "../sample/schedulers/noise-levels.ts";
import { scheduleNames } from "../sample/schedulers/schedules/index.ts";
import { seedDigits } from "./config-values.ts";
import { modelNameSchema } from "./model-media.ts";

/** Of the recipe's form; others are refused. */
export const recipeVersion = 1;

// Recipes come from files that others may have made: every number and every list has a bound.
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
/** A file by its name alone, for people, and its content, which is what counts. It names no place. */
const content = z.strictObject({ name: z.string().max(1000), sha256 });
const side = z.int().positive().max(1_000_000);
const size = z.strictObject({ width: side, height: side });

/** The name of a sampler. */
export const samplerSchema = z.enum(samplerNames);
export { DEFAULT_SAMPLER, guidanceSchema, type SamplerName };

/** Whose random numbers, e.g. `kinora` or `torch-cuda:RTX 4090`. */
export const noiseSchema = z
  .string()
  .max(100)
  .refine((text) => noiseRows.some(({ name }) => name === splitNoise(text)[0]), "not a known kind of noise");

/** Frames a second. */
export const fpsSchema = z.number().positive().max(1000);

/** The expert that a LoRA is for. */
export const loraExpertSchema = z.enum(["high", "low", "both"]);
export type LoraExpert = z.infer<typeof loraExpertSchema>;

/** All that repeats a generation. */
export const recipeSchema = z.strictObject({
  kind: z.literal("kinora.recipe"),
  version: z.literal(recipeVersion),
  /** The Kinora that made it. */
  kinora: z.string().max(100),
  task: modelNameSchema,
  /** As typed; cleaning happens in the text encoder. */
  prompt: z.string(),
  negative: z.string(),
  /** What NAG leads away from, where that is another text than the negative one. */
  nagNegative: z.string().optional(),
  /** Decimal, since a seed has 64 bits. */
  seed: seedDigits,
  noise: noiseSchema,
  sampler: samplerSchema,
  /** The sampler's own settings, where it has any. */
  samplerOptions: z.record(z.string(), z.json()).optional(),
  /** Of noise levels; the official one where absent. */
  schedule: z.enum(scheduleNames).optional(),
  /** The schedule's own settings, where it has any. */
  scheduleOptions: z.record(z.string(), z.json()).optional(),
  /** The step cache, where there is one. */
  cache: cacheSchema.optional(),
  steps: z.int().positive().max(MAX_STEPS),
  shift: z.number().positive(),
  /** For each expert; a model with one transformer uses `low`. A number is the scale of CFG. */
  guidance: z.strictObject({ low: guidanceSchema, high: guidanceSchema }),
  /** Two experts: the high-noise one runs while t ≥ boundary·1000. */
  boundary: z.number().min(0).max(1).optional(),
  /** As asked; with a picture, its area is what counts. */
  size,
  /** As made. */
  video: size,
  frames: side,
  /** Of the film; it decides no latents. */
  fps: fpsSchema,
  image: content.optional(),
  weights: z.strictObject({
    high: content.optional(),
    low: content,
    /** `config`: of the config.json beside it, where that says how its latents are normalised. */
    vae: content.extend({ config: content.shape.sha256.optional() }),
    textEncoder: content,
    tokenizer: content,
  }),
  loras: z
    .array(
      content.extend({
        strength: z.number(),
        expert: loraExpertSchema,
        /** Patterns of modules that were left out. */
        exclude: z.array(z.string().max(1000)).max(100).optional(),
        /** Of the PEFT configuration beside the file, which gives its scale. */
        config: content.shape.sha256.optional(),
        /** The version of a registry that the file is of: `styles/acme/neon@v2`. */
        registry: z.string().max(400).optional(),
      }),
    )
    .max(1000),
  dtype: z.enum(["f32", "bf16"]),
  device: z.string().max(100),
});

export type Recipe = z.infer<typeof recipeSchema>;

/** The key under which files carry a recipe as JSON. */
export const RECIPE_KEY = "kinora";

/** No recipe comes near: the longest prompts are some thousand characters. */
const LONGEST = 4_000_000;

const MALFORMED = "it was damaged or edited: give the options themselves, without this file";

/** Reads a recipe's JSON. Throws `recipe.malformed`, `recipe.newer`. */
export function parseRecipe(text: string, path: string): Recipe {
  if (text.length > LONGEST) {
    throw new KinoraError("recipe.malformed", `the recipe in ${path} is too long`, {
      expected: `at most ${LONGEST} characters`,
      actual: `${text.length}`,
      hint: MALFORMED,
    });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new KinoraError("recipe.malformed", `the recipe in ${path} is not valid JSON`, { hint: MALFORMED, cause });
  }
  const version = (value as { version?: unknown } | null)?.version;
  if (typeof version === "number" && version > recipeVersion) {
    throw new KinoraError("recipe.newer", `the recipe in ${path} was written by a newer Kinora`, {
      expected: `version ${recipeVersion}`,
      actual: `${version}`,
      hint: "update Kinora",
    });
  }
  const parsed = recipeSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new KinoraError("recipe.malformed", `the recipe in ${path} cannot be read`, {
    actual: z.prettifyError(parsed.error).replaceAll("\n", " "),
    hint: MALFORMED,
  });
}
