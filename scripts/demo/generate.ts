// The demo's third stage: every prompt twice from the same noise, with and without the LoRA, as `kinora generate` does it.
import { existsSync } from "node:fs";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { isKinoraError } from "../../src/base/errors.ts";
import { cacheKey } from "../../src/cache/store.ts";
import { timeLeft } from "../../src/cli/progress.ts";
import type { Recipe } from "../../src/protocol/recipe.ts";
import type { GenerateEvent } from "../../src/sample/events.ts";
import { isSameFilm } from "../../src/sample/existing.ts";
import { latentsPath } from "../../src/sample/latents-file.ts";
import { generate } from "../../src/sample/pipeline.ts";
import { readRecipe } from "../../src/sample/recipe.ts";
import { type GenerateRequest, resolveRequest } from "../../src/sample/request.ts";
import { type DemoPrompt, demoFiles, heldOutPrompts, model } from "./settings.ts";
import { made, type Stage } from "./stage.ts";

export const variants = ["without", "with"] as const;
export type Variant = (typeof variants)[number];

/** One prompt's two videos. */
export interface VideoPair extends Record<Variant, string> {
  prompt: DemoPrompt;
  /** Of the video with the LoRA. */
  recipe: Recipe;
}

/** Generates what is not there yet; a video is there where its own recipe is the one asked for. */
export async function generateVideos(stage: Stage, loras: readonly string[]): Promise<VideoPair[]> {
  const { settings, out, work } = stage;
  const folder = demoFiles(settings.folder).videos;
  await mkdir(folder, { recursive: true });
  const key = cacheKey({ training: work.keyOf("training"), prompts: settings.prompts, steps: settings.sampleSteps });
  await work.begin("videos", key, (await readdir(folder)).length === 0);
  const prompts = heldOutPrompts(settings.prompts);
  const total = prompts.length * variants.length;
  const said = new Set<string>();
  const say = (note: string) => {
    if (!said.has(note)) out.note(note);
    said.add(note);
  };
  let [there, madeNow] = [0, 0];
  let started = Date.now();

  const one = async (prompt: DemoPrompt, variant: Variant): Promise<{ path: string; recipe: Recipe }> => {
    const path = join(folder, `${String(prompt.index).padStart(3, "0")}-${variant}.mp4`);
    const { request, notes } = resolveRequest({
      task: model.name,
      prompt: prompt.text,
      seed: prompt.seed,
      steps: settings.sampleSteps,
      loras: variant === "with" ? loras.map((file) => ({ path: file, strength: 1 })) : [],
      files: { folder: settings.checkpoint },
      out: path,
    });
    for (const note of notes) say(note);
    const begun = performance.now();
    const { recipe, reused } = await makeVideo(stage, request, (event) => {
      if (event.type === "note") say(event.text);
      if (event.type !== "step") return;
      const left = timeLeft(started, madeNow, total - there);
      out.progress(
        `video ${there + madeNow + 1} of ${total}, ${variant} the LoRA: step ${event.step} of ${event.steps}${left}`,
      );
    });
    if (reused) {
      there++;
      // The pace is that of the videos that are made.
      if (madeNow === 0) started = Date.now();
      out.progress(`video ${there + madeNow} of ${total} is there`);
    } else {
      madeNow++;
      await work.add("videos", (performance.now() - begun) / 1000);
    }
    return { path, recipe };
  };

  const pairs: VideoPair[] = [];
  for (const prompt of prompts) {
    const without = await one(prompt, "without");
    const { path, recipe } = await one(prompt, "with");
    pairs.push({ prompt, without: without.path, with: path, recipe });
  }
  out.note(made(madeNow, total, "videos", "generated"));
  return pairs;
}

/** Runs a request, goes on where it was stopped, or finds the film there. Throws as `generate` does. */
async function makeVideo(
  { device, hashes, signal }: Stage,
  request: GenerateRequest,
  show: (event: GenerateEvent) => void,
): Promise<{ recipe: Recipe; reused: boolean }> {
  signal.throwIfAborted();
  const unfinished = latentsPath(request.out);
  const before = await recipeIn(request.out);
  const saved = await recipeIn(unfinished);
  // The recipe is told before anything is computed.
  let asked: Recipe | undefined;
  const run = async (resume: boolean): Promise<"there" | "new"> => {
    for await (const event of generate(request, device, { hashes, signal, resume })) {
      show(event);
      if (event.type === "interrupted") throw signal.reason;
      if (event.type !== "recipe") continue;
      asked = event.recipe;
      if (!isSameFilm(before, asked)) continue;
      // What was begun beside a finished video is of no use.
      await rm(unfinished, { force: true });
      return "there";
    }
    return "new";
  };
  let outcome: "there" | "new";
  try {
    if (existsSync(unfinished) && !saved) await rm(unfinished);
    if (existsSync(request.out) && !before) await rm(request.out);
    outcome = await run(saved !== undefined);
  } catch (error) {
    if (!isKinoraError(error, "generate.resume-mismatch")) throw error;
    // What was begun then is not what is asked for now.
    await rm(unfinished);
    outcome = await run(false);
  }
  return { recipe: asked!, reused: outcome === "there" };
}

/** The recipe a film or latents carry; undefined where there is none, or nothing that can be read. */
async function recipeIn(path: string): Promise<Recipe | undefined> {
  if (!existsSync(path)) return undefined;
  try {
    return await readRecipe(path);
  } catch (error) {
    if (isKinoraError(error)) return undefined;
    throw error;
  }
}
