// Latents on disk with their recipe: finished ones before they are decoded, and unfinished ones to go on from.
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import { toFloat32 } from "../base/float-formats.ts";
import { SafetensorsFile } from "../io/safetensors.ts";
import { type WritableTensor, writeSafetensors } from "../io/safetensors-writer.ts";
import type { LatentShape } from "../models/wan/image-condition.ts";
import { parseRecipe, RECIPE_KEY, type Recipe, samplerSchema } from "../protocol/recipe.ts";
import type { SchedulerState } from "./schedulers/index.ts";

export interface SavedLatents {
  recipe: Recipe;
  shape: LatentShape;
  latents: Float32Array;
  /** `step` of `steps` says how far they are. */
  scheduler: SchedulerState;
  wishes: Wishes;
}

/** What was asked for beside the film, which no recipe carries: a run that goes on still wants it. */
export interface Wishes {
  /** Keep the latents beside the film. */
  keepLatents: boolean;
  /** Tell a preview after each step. */
  preview: boolean;
}

const PROGRESS_KEY = "kinora.progress";
const LATENTS = "latents";
const PREFIX = "scheduler.";

const progressSchema = z.strictObject({
  kind: samplerSchema,
  steps: z.int().positive(),
  shift: z.number(),
  step: z.int().nonnegative(),
  order: z.int().nonnegative(),
  // Absent in files of versions that forgot them.
  keepLatents: z.boolean().default(false),
  preview: z.boolean().default(false),
});

/** Beside the MP4 that will be made of them. */
export function latentsPath(out: string): string {
  return `${out.replace(/\.mp4$/i, "")}.latents.safetensors`;
}

export const isFinished = ({ scheduler }: SavedLatents): boolean => scheduler.step === scheduler.steps;

/** Writes atomically: a kill leaves the state before or after. Throws `io.*`. */
export async function saveLatents(path: string, saved: SavedLatents): Promise<void> {
  const { kind, steps, shift, step, order } = saved.scheduler;
  // What the sampler remembers is of no use once it is done.
  const kept = isFinished(saved) ? {} : saved.scheduler.tensors;
  const tensor = (name: string, values: Float32Array): WritableTensor => ({
    name,
    dtype: "f32",
    shape: saved.shape,
    bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  });
  const tensors = [
    tensor(LATENTS, saved.latents),
    ...Object.entries(kept).map(([name, values]) => tensor(PREFIX + name, values)),
  ];
  await writeSafetensors(path, tensors, {
    [RECIPE_KEY]: JSON.stringify(saved.recipe),
    [PROGRESS_KEY]: JSON.stringify({ kind, steps, shift, step, order, ...saved.wishes } satisfies z.infer<
      typeof progressSchema
    >),
  });
}

/** Throws `io.*`, `safetensors.*`, `recipe.*`, `latents.malformed`. */
export function loadLatents(path: string): SavedLatents {
  using file = SafetensorsFile.open(path);
  const malformed = (actual: string) =>
    new KinoraError("latents.malformed", `${path} holds no latents that Kinora saved`, {
      actual,
      hint: "it is damaged or another program's: delete it, or move it away, to begin anew",
    });
  const recipe = file.metadata[RECIPE_KEY];
  if (recipe === undefined) throw malformed("no recipe");
  const progress = progressSchema.safeParse(parseJson(file.metadata[PROGRESS_KEY]));
  if (!progress.success) throw malformed("no sampler state");
  if (!file.has(LATENTS)) throw malformed("no tensor `latents`");
  const { shape } = file.info(LATENTS);
  const values = (name: string): Float32Array => {
    const info = file.info(name);
    if (info.shape.length !== 4 || String(info.shape) !== String(shape)) throw malformed(`${name} [${info.shape}]`);
    // A copy: the file is closed, and may be replaced, before they are used.
    return toFloat32(file.bytes(name).slice(), info.dtype);
  };
  const { keepLatents, preview, ...scheduler } = progress.data;
  const names = file.names.filter((name) => name.startsWith(PREFIX));
  return {
    recipe: parseRecipe(recipe, path),
    shape: shape as unknown as LatentShape,
    latents: values(LATENTS),
    wishes: { keepLatents, preview },
    scheduler: {
      ...scheduler,
      tensors: Object.fromEntries(names.map((name) => [name.slice(PREFIX.length), values(name)])),
    },
  };
}

/** Throws `generate.nothing-to-resume` where no run that could go on lies beside `out`. */
export function checkResumable(out: string): void {
  const path = latentsPath(out);
  if (existsSync(path)) return;
  const film = existsSync(out);
  throw new KinoraError("generate.nothing-to-resume", `there is no ${path}`, {
    hint: film ? `${out} is there: that run is finished` : "leave out --resume to begin",
  });
}

export async function removeLatents(path: string): Promise<void> {
  await rm(path, { force: true });
}

function parseJson(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(text);
  } catch {
    // The schema says what is missing.
    return undefined;
  }
}
