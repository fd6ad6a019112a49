// What lies at a film's place from runs before: the film itself, or a run that was stopped. A finished run is not made
// again, an unfinished one is not lost, and what Kinora did not make is not overwritten.
import { existsSync, statSync } from "node:fs";
import { KinoraError } from "../base/errors.ts";
import type { Recipe } from "../protocol/recipe.ts";
import { isFinished, latentsPath, loadLatents } from "./latents-file.ts";
import { readRecipe, recipeDifferences } from "./recipe.ts";

/** A film that lies where one is to be made. */
export interface ExistingFilm {
  bytes: number;
  /** Undefined where another version of Kinora wrote one that this one cannot read. */
  recipe: Recipe | undefined;
}

/** Undefined where there is none, or an empty file. Throws `generate.foreign-film` for what Kinora did not make. */
export async function existingFilm(out: string): Promise<ExistingFilm | undefined> {
  const bytes = statSync(out, { throwIfNoEntry: false })?.size ?? 0;
  if (bytes === 0) return undefined;
  try {
    return { bytes, recipe: await readRecipe(out) };
  } catch (cause) {
    if (!(cause instanceof KinoraError)) throw cause;
    if (cause.code === "recipe.malformed" || cause.code === "recipe.newer") return { bytes, recipe: undefined };
    throw new KinoraError("generate.foreign-film", `${out} exists and was not made by Kinora`, {
      actual: cause.message,
      hint: "choose another `out`, or delete that file first",
      cause,
    });
  }
}

/** True where a film made by the recipe `before` is the one that `recipe` makes on the same device. */
export function isSameFilm(before: Recipe | undefined, recipe: Recipe): boolean {
  return before?.device === recipe.device && recipeDifferences(before, recipe).length === 0;
}

/** What tells an existing film from the one that will replace it, in words. */
export function filmDifference({ recipe: before }: ExistingFilm, recipe: Recipe): string {
  if (!before) return "its recipe cannot be read";
  const differs = recipeDifferences(before, recipe);
  return differs.length > 0 ? `different: ${differs.join(", ")}` : `made on device ${before.device}`;
}

/** Throws `generate.unfinished` where a run that has not made its film yet lies at this place. */
export function checkNothingUnfinished(out: string): void {
  const latents = latentsPath(out);
  if (!existsSync(latents)) return;
  const saved = loadLatents(latents);
  if (isFinished(saved) && existsSync(out)) return;
  const { step, steps } = saved.scheduler;
  throw new KinoraError("generate.unfinished", `${latents} holds an unfinished run (step ${step} of ${steps})`, {
    hint: "use `resume` to continue it, or delete the file to start over",
  });
}

/**
 * The file whose recipe a resumed run has: its saved latents, or the film where the run is finished already.
 * Throws `generate.nothing-to-resume`.
 */
export function resumeSource(out: string): string {
  const latents = latentsPath(out);
  if (existsSync(latents)) return latents;
  if (existsSync(out)) return out;
  throw new KinoraError("generate.nothing-to-resume", `${latents} does not exist`, {
    hint: "leave out `resume` to start",
  });
}
