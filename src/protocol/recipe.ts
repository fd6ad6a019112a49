// How a video was made: everything that decides its latents, as it travels inside the MP4 and the saved latents.
import { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import { modelNameSchema } from "./model-media.ts";

export const recipeVersion = 1;

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
/** A file by its name alone, for people, and its content, which is what counts. */
const content = z.strictObject({ name: z.string(), sha256 });
const side = z.int().positive();
const size = z.strictObject({ width: side, height: side });

export const samplerSchema = z.enum(["unipc", "dpm++", "euler"]);
export type SamplerName = z.infer<typeof samplerSchema>;

/** Whose random numbers: Kinora's own, or PyTorch's on a CPU or on a GPU (`torch-cuda:NAME` for one not like an H100). */
export const noiseSchema = z.string().regex(/^(?:kinora|torch-cpu|torch-cuda(?::.+)?)$/);

export const loraExpertSchema = z.enum(["high", "low", "both"]);
export type LoraExpert = z.infer<typeof loraExpertSchema>;

export const recipeSchema = z.strictObject({
  kind: z.literal("kinora.recipe"),
  version: z.literal(recipeVersion),
  /** The Kinora that made it. */
  kinora: z.string(),
  task: modelNameSchema,
  /** As typed; cleaning happens in the text encoder. */
  prompt: z.string(),
  negative: z.string(),
  /** Decimal, since a seed has 64 bits. */
  seed: z.string().regex(/^-?\d{1,20}$/),
  noise: noiseSchema,
  sampler: samplerSchema,
  steps: z.int().positive(),
  shift: z.number().positive(),
  /** Scale per expert; a model with one transformer uses `low`. */
  guidance: z.strictObject({ low: z.number(), high: z.number() }),
  /** Two experts: the high-noise one runs while t ≥ boundary·1000. */
  boundary: z.number().optional(),
  /** As asked; with a picture, its area is what counts. */
  size,
  /** As made. */
  video: size,
  frames: side,
  fps: z.number().positive(),
  image: content.optional(),
  weights: z.strictObject({
    high: content.optional(),
    low: content,
    vae: content,
    textEncoder: content,
    tokenizer: content,
  }),
  loras: z.array(content.extend({ strength: z.number(), expert: loraExpertSchema })),
  dtype: z.enum(["f32", "bf16"]),
  device: z.string(),
});

export type Recipe = z.infer<typeof recipeSchema>;

/** The key under which files carry a recipe as JSON. */
export const RECIPE_KEY = "kinora";

const MALFORMED = "it was damaged or changed by hand: give the options themselves, without this file";

/** Reads a recipe's JSON. Throws `recipe.malformed`, `recipe.newer`. */
export function parseRecipe(text: string, path: string): Recipe {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new KinoraError("recipe.malformed", `the recipe in ${path} is no JSON`, { hint: MALFORMED, cause });
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
