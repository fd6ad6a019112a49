// Recipes of generations: made from a request, read back from what it left, and turned into options again.
import { basename } from "node:path";
import { defined } from "../base/defined.ts";
import { KinoraError } from "../base/errors.ts";
import { finished } from "../base/generators.ts";
import { kinoraVersion } from "../base/version.ts";
import type { HashCache } from "../io/content-hash.ts";
import { probe } from "../io/video/probe.ts";
import { loraFileOf, peftConfigPath } from "../lora/peft-config.ts";
import { searchCheckpoint } from "../models/wan/checkpoint-files.ts";
import { type WanModel, wanModels } from "../models/wan/params.ts";
import { vaeConfigPath } from "../models/wan/vae/statistics.ts";
import type { ModelName } from "../protocol/model-media.ts";
import { parseRecipe, RECIPE_KEY, type Recipe, recipeVersion } from "../protocol/recipe.ts";
import { loadLatents } from "./latents-file.ts";
import type { ResolvedLora } from "./lora-files.ts";
import type { GenerateOptions, GenerateRequest } from "./request.ts";

/** The content hash of every file a request names, by path. */
export type Hashes = ReadonlyMap<string, string>;

/** Every file whose content decides the result. */
export function contentPaths({ files, loras, image }: GenerateRequest): string[] {
  const { high, low, vae, textEncoder, tokenizer } = files;
  const adapters = loras.flatMap(({ path }) => [loraFileOf(path), peftConfigPath(loraFileOf(path))]);
  const paths = [high, low, vae, vaeConfigPath(vae), textEncoder, tokenizer, ...adapters, image];
  return [...new Set(paths.filter((path) => path !== undefined))];
}

export function buildRecipe(
  request: GenerateRequest,
  made: {
    hashes: Hashes;
    loras: readonly ResolvedLora[];
    video: { width: number; height: number };
    device: string;
  },
): Recipe {
  const { model, files, image, boundary } = request;
  const vaeConfig = vaeConfigPath(files.vae);
  const content = (path: string) => ({ name: basename(path), sha256: made.hashes.get(path)! });
  return {
    kind: "kinora.recipe",
    version: recipeVersion,
    kinora: kinoraVersion(),
    task: model.name as ModelName,
    prompt: request.prompt,
    negative: request.negative,
    seed: String(request.seed),
    noise: request.noise,
    ...(request.nagNegative === undefined ? {} : { nagNegative: request.nagNegative }),
    sampler: request.sampler,
    ...(request.schedule === undefined ? {} : { schedule: request.schedule }),
    ...(request.scheduleOptions === undefined
      ? {}
      : { scheduleOptions: request.scheduleOptions as Recipe["scheduleOptions"] }),
    ...(request.cache === undefined ? {} : { cache: request.cache }),
    steps: request.steps,
    shift: request.shift,
    guidance: request.guidance,
    ...(boundary === undefined ? {} : { boundary }),
    size: request.size,
    video: made.video,
    frames: request.frames,
    ...(request.samplerOptions === undefined
      ? {}
      : { samplerOptions: request.samplerOptions as Recipe["samplerOptions"] }),
    fps: request.fps,
    ...(image === undefined ? {} : { image: content(image) }),
    weights: {
      ...(files.high === undefined ? {} : { high: content(files.high) }),
      low: content(files.low),
      vae: { ...content(files.vae), ...(vaeConfig ? { config: made.hashes.get(vaeConfig)! } : {}) },
      textEncoder: content(files.textEncoder),
      tokenizer: content(files.tokenizer),
    },
    loras: made.loras.map(({ path, strength, expert, exclude, registry }) => {
      const file = loraFileOf(path);
      const config = peftConfigPath(file);
      return {
        ...content(file),
        strength,
        expert,
        ...(exclude?.length ? { exclude: [...exclude] } : {}),
        ...(config ? { config: made.hashes.get(config)! } : {}),
        ...(registry ? { registry } : {}),
      };
    }),
    dtype: request.dtype,
    device: made.device,
  };
}

/** The recipe in an MP4 or in saved latents. Throws `recipe.absent`, `recipe.malformed`, `recipe.newer`, `media.*`. */
export async function readRecipe(path: string): Promise<Recipe> {
  if (/\.safetensors$/i.test(path)) return loadLatents(path).recipe;
  const text = (await probe(path)).metadata[RECIPE_KEY];
  if (text !== undefined) return parseRecipe(text, path);
  throw new KinoraError("recipe.absent", `${path} contains no Kinora recipe`, {
    hint: "only videos written by kinora generate do; other programs drop it when they re-encode the video",
  });
}

/**
 * What decides the latents and differs between two recipes, by name. Names of files do not count, their content does;
 * the device may change the last bits, which is for the caller to tell.
 */
export function recipeDifferences(a: Recipe, b: Recipe): string[] {
  const decisive = (recipe: Recipe): Record<string, unknown> => {
    const { kinora: _kinora, device: _device, ...rest } = recipe;
    const bare = (value: unknown): unknown => {
      if (Array.isArray(value)) return value.map(bare);
      if (value === null || typeof value !== "object") return value;
      const entries = Object.entries(value).filter(([key]) => key !== "name" && key !== "registry");
      return Object.fromEntries(entries.sort(([x], [y]) => (x < y ? -1 : 1)).map(([key, item]) => [key, bare(item)]));
    };
    return bare(rest) as Record<string, unknown>;
  };
  const [left, right] = [decisive(a), decisive(b)];
  const keys = new Set([...Object.keys(left), ...Object.keys(right)]);
  return [...keys].filter((key) => JSON.stringify(left[key]) !== JSON.stringify(right[key]));
}

/** What ships with Kinora can be found by its content before it has ever been used on this machine. */
async function lookAtBundled(model: WanModel, cache: HashCache): Promise<void> {
  if (!model.bundled) return;
  for (const path of Object.values(searchCheckpoint(model, {}).paths)) await finished(cache.hash(path));
}

/**
 * The options that repeat a recipe; its files are looked for on this machine by their content. `given` options go
 * before the recipe's. Throws `recipe.missing-files` naming those that are neither found nor given.
 */
export async function repeatOptions(
  recipe: Recipe,
  given: GenerateOptions,
  cache: HashCache,
): Promise<GenerateOptions> {
  const missing: string[] = [];
  const locate = async (option: string, file: { name: string; sha256: string } | undefined, needed: boolean) => {
    if (!file || !needed) return undefined;
    const path = await cache.find(file.sha256);
    if (path === undefined) missing.push(`${file.name} (\`${option}\`; SHA-256 ${file.sha256.slice(0, 12)}…)`);
    return path;
  };
  const sameTask = given.task === undefined || given.task === recipe.task;
  const choices = given.files ?? {};
  // A folder given anew replaces all of the recipe's weights.
  const wanted = sameTask && choices.folder === undefined;
  if (wanted) await lookAtBundled(wanModels[recipe.task], cache);
  const { weights } = recipe;
  const experts = weights.high !== undefined;
  const files = {
    high: await locate("files.high", weights.high, wanted && choices.high === undefined),
    low: experts ? await locate("files.low", weights.low, wanted && choices.low === undefined) : undefined,
    dit: experts ? undefined : await locate("files.transformer", weights.low, wanted && choices.dit === undefined),
    vae: await locate("files.vae", weights.vae, wanted && choices.vae === undefined),
    textEncoder: await locate("files.textEncoder", weights.textEncoder, wanted && choices.textEncoder === undefined),
    tokenizer: await locate("files.tokenizer", weights.tokenizer, wanted && choices.tokenizer === undefined),
  };
  const loras: NonNullable<GenerateOptions["loras"]>[number][] = [];
  if (!given.loras?.length && sameTask) {
    for (const { strength, expert, exclude, registry, ...file } of recipe.loras) {
      const path = await locate("loras", file, true);
      if (path !== undefined)
        loras.push({
          ...{ path, strength, registry },
          ...(experts ? { expert } : {}),
          ...(exclude ? { exclude } : {}),
        });
    }
  }
  const image = given.image ?? (await locate("image", recipe.image, sameTask));
  if (missing.length > 0) {
    throw new KinoraError("recipe.missing-files", "some files of the recipe were not found on this machine", {
      actual: missing.join(", "),
      hint: "give each by its option, or the checkpoint's folder as `checkpoint`",
    });
  }
  return {
    task: recipe.task,
    prompt: recipe.prompt,
    negative: recipe.negative,
    size: recipe.size,
    // Seconds given anew replace frames, and another sampler has settings of its own.
    ...(given.duration === undefined ? { frames: recipe.frames } : {}),
    ...(sameTask ? { fps: recipe.fps } : {}),
    sampler: recipe.sampler,
    ...(given.sampler === undefined || given.sampler === recipe.sampler
      ? { samplerOptions: recipe.samplerOptions }
      : {}),
    schedule: recipe.schedule,
    ...(given.schedule === undefined || given.schedule === recipe.schedule
      ? { scheduleOptions: recipe.scheduleOptions }
      : {}),
    cache: recipe.cache,
    nagNegative: recipe.nagNegative,
    steps: recipe.steps,
    shift: recipe.shift,
    guidance: recipe.guidance,
    ...(sameTask && choices.folder === undefined ? { boundary: recipe.boundary } : {}),
    seed: BigInt(recipe.seed),
    noise: recipe.noise,
    dtype: recipe.dtype,
    ...defined(given),
    out: given.out,
    image,
    loras: given.loras?.length ? given.loras : loras,
    files: { ...files, ...defined(choices) },
  };
}
