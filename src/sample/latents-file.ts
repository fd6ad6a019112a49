// Latents on disk with their recipe: finished ones before they are decoded, and unfinished ones to go on from.
import { rm } from "node:fs/promises";
import { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import { toFloat32 } from "../base/float-formats.ts";
import { verifyChecksum, withChecksum } from "../io/checksum.ts";
import { SafetensorsFile } from "../io/safetensors.ts";
import { writeSafetensors } from "../io/safetensors-writer.ts";
import type { LatentShape } from "../models/wan/conditioning.ts";
import { parseRecipe, RECIPE_KEY, type Recipe } from "../protocol/recipe.ts";
import type { FilmRun, FilmState } from "./film-run.ts";
import { MAX_STEPS } from "./schedulers/noise-levels.ts";

/** The scheduler's `step` of `steps` says how far they are. */
export interface SavedLatents extends FilmState {
  recipe: Recipe;
  shape: LatentShape;
  wishes: Wishes;
}

/** What was asked for beside the film, which no recipe carries: a run that goes on still wants it. */
export interface Wishes {
  /** Keep the latents beside the film. */
  keepLatents: boolean;
  /** Tell a preview after each step. */
  preview: boolean;
  /** Measure what step caches go by. */
  calibrateCache?: boolean | undefined;
}

const PROGRESS_KEY = "kinora.progress";
const LATENTS = "latents";
/** Before the names of what the sampler keeps, and of what else the run remembers. */
const SCHEDULER = "scheduler.";
const MEMORY = "memory.";

const progressSchema = z.strictObject({
  kind: z.string().max(100),
  steps: z.int().positive().max(MAX_STEPS),
  shift: z.number().positive(),
  step: z.int().nonnegative().max(MAX_STEPS),
  order: z.int().nonnegative().max(100),
  // Absent in files of versions that forgot them.
  keepLatents: z.boolean().default(false),
  preview: z.boolean().default(false),
  calibrateCache: z.boolean().optional(),
  // The file has a checksum; absent in files of versions that wrote none.
  checksum: z.literal(true).optional(),
});

/** Beside the MP4 that will be made of them. */
export function latentsPath(out: string): string {
  return `${out.replace(/\.mp4$/i, "")}.latents.safetensors`;
}

export const isFinished = ({ scheduler }: SavedLatents): boolean => scheduler.step === scheduler.steps;

/** Writes atomically: a kill leaves the state before or after. Throws `io.*`. */
export async function saveLatents(path: string, saved: SavedLatents): Promise<void> {
  const { recipe, shape, latents, scheduler, memory, wishes } = saved;
  const { kind, steps, shift, step, order } = scheduler;
  const tensor = (name: string, values: Float32Array, sizes: readonly number[] = [values.length]) => ({
    name,
    dtype: "f32" as const,
    shape: sizes,
    bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  });
  const tensors = [tensor(LATENTS, latents, shape)];
  // What a run remembers is of no use once it is done.
  if (!isFinished(saved)) {
    for (const [name, values] of Object.entries(scheduler.tensors))
      tensors.push(tensor(SCHEDULER + name, values, shape));
    for (const [name, values] of memory) tensors.push(tensor(MEMORY + name, values));
  }
  const progress = { kind, steps, shift, step, order, ...wishes, checksum: true } satisfies z.input<
    typeof progressSchema
  >;
  const metadata = { [RECIPE_KEY]: JSON.stringify(recipe), [PROGRESS_KEY]: JSON.stringify(progress) };
  await writeSafetensors(path, tensors, withChecksum(tensors, metadata));
}

export interface LoadedLatents extends SavedLatents {
  /** False for files of versions that wrote no checksum: damage to their values is not noticed. */
  verified: boolean;
}

/** Throws `io.*`, `safetensors.*`, `recipe.*`, `latents.malformed`, `latents.damaged`. */
export function loadLatents(path: string): LoadedLatents {
  using file = SafetensorsFile.open(path);
  const malformed = (actual: string) =>
    new KinoraError("latents.malformed", `${path} does not contain latents saved by Kinora`, {
      actual,
      hint: "it is damaged or from another program: delete or move it to start over",
    });
  const text = file.metadata[RECIPE_KEY];
  if (text === undefined) throw malformed("no recipe");
  const recipe = parseRecipe(text, path);
  const progress = progressSchema.safeParse(parseJson(file.metadata[PROGRESS_KEY]));
  if (!progress.success) throw malformed("no sampler state");
  if (!file.has(LATENTS)) throw malformed("no tensor `latents`");
  const { keepLatents, preview, calibrateCache, checksum, ...scheduler } = progress.data;
  if (scheduler.step > scheduler.steps) throw malformed(`step ${scheduler.step} of ${scheduler.steps}`);
  const found = verifyChecksum(file);
  if (found === "wrong" || (checksum && found === "absent")) {
    throw new KinoraError("latents.damaged", `${path} is damaged: its checksum does not match`, {
      hint: "check the disk; delete or move the file to start over",
    });
  }
  const { shape } = file.info(LATENTS);
  const read = (name: string, expected: readonly number[]): Float32Array => {
    const info = file.info(name);
    if (String(info.shape) !== String(expected)) throw malformed(`${name} [${info.shape}]`);
    // A copy: the file is closed, and may be replaced, before they are used.
    const values = toFloat32(file.bytes(name).slice(), info.dtype);
    if (values.some((value) => !Number.isFinite(value))) throw malformed(`NaN or infinity in ${name}`);
    return values;
  };
  if (shape.length !== 4) throw malformed(`${LATENTS} [${shape}]`);
  const named = (prefix: string, expected: (name: string) => readonly number[]) =>
    file.names
      .filter((name) => name.startsWith(prefix))
      .map((name) => [name.slice(prefix.length), read(name, expected(name))] as const);
  return {
    recipe,
    shape: shape as unknown as LatentShape,
    latents: read(LATENTS, shape),
    wishes: { keepLatents, preview, ...(calibrateCache ? { calibrateCache } : {}) },
    scheduler: { ...scheduler, tensors: Object.fromEntries(named(SCHEDULER, () => shape)) },
    memory: new Map(named(MEMORY, (name) => [file.info(name).shape[0] ?? 0])),
    verified: found === "right",
  };
}

/**
 * Saves a run as it goes: after its first step, so that a full disk shows at once, then at most every other second. A
 * step that takes longer is never lost.
 */
export class LatentsSaver {
  readonly path: string;
  readonly #run: FilmRun;
  readonly #what: Pick<SavedLatents, "recipe" | "wishes">;
  #last = Number.NEGATIVE_INFINITY;
  #failed = false;

  constructor(path: string, run: FilmRun, what: Pick<SavedLatents, "recipe" | "wishes">) {
    this.path = path;
    this.#run = run;
    this.#what = what;
  }

  /** A full disk does not end the run: what could not be saved is told, once. */
  async save({ force }: { force: boolean }): Promise<string | undefined> {
    if (!force && performance.now() - this.#last < 2000) return undefined;
    try {
      await saveLatents(this.path, { ...this.#what, shape: this.#run.shape, ...this.#run.state() });
      this.#last = performance.now();
    } catch (error) {
      if (!(error instanceof KinoraError)) throw error;
      if (this.#failed) return undefined;
      this.#failed = true;
      return `the latents could not be saved, so an interruption would lose them: ${error.message}`;
    }
    return undefined;
  }
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
