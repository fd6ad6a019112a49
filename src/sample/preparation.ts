// What comes before a generation computes anything: every check that could stop it later, and the recipe of what it will be.
import { existsSync } from "node:fs";
import { KinoraError } from "../base/errors.ts";
import { mapped } from "../base/generators.ts";
import type { Device } from "../device/device.ts";
import type { HashCache, HashProgress } from "../io/content-hash.ts";
import type { LatentShape, PreparedImage } from "../models/wan/conditioning.ts";
import { latentSize } from "../models/wan/geometry.ts";
import { tokenizerFile } from "../models/wan/prompt.ts";
import type { VaeConfig } from "../models/wan/vae/config.ts";
import type { Recipe } from "../protocol/recipe.ts";
import { checkFiles } from "./checks.ts";
import type { GenerateEvent } from "./events.ts";
import { type LoadedLatents, latentsPath, loadLatents } from "./latents-file.ts";
import { type ResolvedLora, resolveLoras } from "./lora-files.ts";
import { checkMemory } from "./memory-check.ts";
import { preparePicture } from "./picture.ts";
import { buildRecipe, contentPaths, type Hashes, recipeDifferences } from "./recipe.ts";
import type { GenerateRequest } from "./request.ts";

/** What is known of a run once everything is checked. */
export interface Preparation {
  request: GenerateRequest;
  recipe: Recipe;
  loras: readonly ResolvedLora[];
  vae: VaeConfig;
  picture: PreparedImage | undefined;
  shape: LatentShape;
  latentsFile: string;
}

export interface PreparationOptions {
  hashes: HashCache;
  repeats?: Recipe | undefined;
  signal?: AbortSignal | undefined;
}

/** Undefined where it was stopped. Throws `generate.*`, `checkpoint.*`, `lora.*`, `media.*`, `size.*`, `io.*`. */
export async function* prepare(
  asked: GenerateRequest,
  device: Device,
  { hashes, repeats, signal }: PreparationOptions,
): AsyncGenerator<GenerateEvent, Preparation | undefined> {
  const request = { ...asked, files: { ...asked.files, tokenizer: await tokenizerFile(asked.files.tokenizer) } };
  const { model, image, out, size, frames } = request;
  yield { type: "stage", stage: "check", detail: `checking the files of ${model.name}` };
  const { vae, notes } = checkFiles(request);
  const { loras, notes: loraNotes } = resolveLoras(model, request.loras);
  const accept = (sides: { width: number; height: number }) =>
    checkMemory({ model, vae, dtype: request.dtype }, { ...sides, frames }, device);
  const picture = image === undefined ? undefined : await preparePicture(model, image, size, accept);
  const video = picture ? { width: picture.width, height: picture.height } : size;
  if (!picture) accept(video);
  const { shape } = latentSize(model, { ...video, frames });
  for (const text of [...notes, ...loraNotes]) yield { type: "note", text };

  yield { type: "stage", stage: "hash", detail: "hashing the files (once per file)" };
  const contents = yield* hashAll(contentPaths(request), hashes, signal);
  if (!contents) return undefined;
  const recipe = buildRecipe(request, { hashes: contents, loras, video, device: device.name });
  const note = repeats && deviation(repeats, recipe);
  if (note !== undefined) yield { type: "note", text: note };
  return { request, recipe, loras, vae, picture, shape, latentsFile: latentsPath(out) };
}

/** Undefined where it was stopped. */
async function* hashAll(
  paths: readonly string[],
  hashes: HashCache,
  signal: AbortSignal | undefined,
): AsyncGenerator<GenerateEvent, Hashes | undefined> {
  const contents = new Map<string, string>();
  const told = ({ bytesDone: done, bytesTotal: total }: HashProgress): GenerateEvent => {
    signal?.throwIfAborted();
    return { type: "progress", stage: "hash", done, total, unit: "bytes" };
  };
  for (const path of paths) {
    if (signal?.aborted) return undefined;
    try {
      contents.set(path, yield* mapped(hashes.hash(path), told));
    } catch (error) {
      if (signal?.aborted) return undefined;
      throw error;
    }
  }
  await hashes.save();
  return contents;
}

/** How a recipe differs from the one that it repeats, for the person. */
function deviation(repeats: Recipe, recipe: Recipe): string | undefined {
  const differs = recipeDifferences(repeats, recipe);
  if (differs.length > 0) return `differs from the repeated recipe: ${differs.join(", ")}`;
  if (repeats.device === recipe.device) return undefined;
  return `recorded on device ${repeats.device}: the last bits may differ on ${recipe.device}`;
}

/** The saved latents that a run goes on from. Throws `generate.nothing-to-resume`, `generate.resume-mismatch`. */
export function resumable({ latentsFile, recipe, shape }: Preparation): LoadedLatents {
  if (!existsSync(latentsFile)) {
    throw new KinoraError("generate.nothing-to-resume", `${latentsFile} does not exist`, {
      hint: "leave out `resume` to start",
    });
  }
  const saved = loadLatents(latentsFile);
  // The frame rate decides no latents.
  const differs = recipeDifferences(saved.recipe, { ...recipe, fps: saved.recipe.fps });
  if (String(saved.shape) !== String(shape)) differs.push("shape");
  if (differs.length === 0) return saved;
  throw new KinoraError("generate.resume-mismatch", `${latentsFile} belongs to a run with other settings`, {
    actual: `different: ${differs.join(", ")}`,
    hint: "leave out those options to continue it, or delete the file to start over",
  });
}

/** What a person should know of the latents that a run goes on from. */
export function resumeNotes({ recipe, verified }: LoadedLatents, device: Device): string[] {
  const notes: string[] = [];
  if (!verified)
    notes.push("the saved latents have no checksum (written by an older Kinora): damage cannot be detected");
  if (recipe.device !== device.name) {
    notes.push(`started on device ${recipe.device}: the last bits may differ, since it continues on ${device.name}`);
  }
  return notes;
}
