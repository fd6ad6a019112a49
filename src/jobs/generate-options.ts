// What is asked of a generation in anybody's words, as the pipeline's options. Two words for one thing may not disagree.
import type { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import { coverGeometry } from "../models/wan/image-geometry.ts";
import type { WanModel } from "../models/wan/params.ts";
import type { BlockMemory } from "../nn/residency.ts";
import type { generateRequestSchema } from "../protocol/jobs/generate.ts";
import { mediaOf } from "../protocol/model-media.ts";
import { withCoefficients } from "../sample/cache-file.ts";
import type { GenerateOptions, LoraChoice } from "../sample/request.ts";

type Asked = z.output<typeof generateRequestSchema>;
/** A LoRA as it was asked for, and the version of a registry that it is, where it is one. */
export type AskedLora = Exclude<NonNullable<Asked["loras"]>[number], string> & { registry?: string };
export type GenerateRequest = Omit<Asked, "loras"> & { loras?: (string | AskedLora)[] | undefined };

/** How far a resolution's shape may be off an aspect ratio's: 832x480 counts as 16:9. */
const SAME_SHAPE = 0.03;

export function contradiction(what: string, actual: string, hint = "give one of them"): KinoraError {
  return new KinoraError("generate.contradiction", what, { actual, hint });
}

/** The options of one film; `model` is the one that will run. Throws `generate.contradiction`, `generate.*`. */
export function filmOptions(request: GenerateRequest, model: WanModel): Omit<GenerateOptions, "out"> {
  const { checkpoint, files = {} } = request;
  const { transformer, ...others } = files;
  const image = imageOf(request);
  return {
    task: request.model,
    prompt: request.prompt,
    negative: request.negativePrompt,
    image,
    size: sizeOf(request, model, image !== undefined),
    frames: request.frames,
    duration: request.duration,
    fps: request.fps,
    sampler: request.sampler,
    samplerOptions: request.samplerOptions,
    steps: request.steps,
    shift: request.flowShift,
    guidance: request.guidanceScale,
    guidanceLayers: request.guidance,
    nagNegative: request.nagNegativePrompt,
    cache: cacheOf(request, model),
    profile: request.profile,
    schedule: request.schedule,
    scheduleOptions: request.scheduleOptions,
    seed: request.seed === undefined ? undefined : BigInt(request.seed),
    noise: request.noise,
    dtype: request.dtype,
    loras: (request.loras ?? []).map(
      (lora): LoraChoice =>
        typeof lora === "string" ? { path: lora, strength: 1 } : { ...lora, strength: lora.strength ?? 1 },
    ),
    files: { folder: checkpoint, dit: transformer, ...others },
    blocks: blocksOf(request),
    vaeTiling: request.vaeTiling,
    keepLatents: request.keepLatents ?? false,
  };
}

function cacheOf(
  { cache, cacheCoefficients, calibrateCache }: GenerateRequest,
  model: WanModel,
): GenerateOptions["cache"] {
  if (calibrateCache && cache) {
    throw contradiction("a calibration computes every pass, and a cache skips some", `cache ${cache.kind}`);
  }
  if (cacheCoefficients === undefined) return cache;
  if (cache) return withCoefficients(cache, cacheCoefficients, model.name);
  throw contradiction("cacheCoefficients without a cache", cacheCoefficients, "choose a cache: teacache or magcache");
}

function blocksOf({ blocksToSwap, blockMemory }: GenerateRequest): BlockMemory | undefined {
  if (blocksToSwap !== undefined && blockMemory !== undefined) {
    throw contradiction("blocksToSwap and blockMemory mean the same", `${blocksToSwap} and ${blockMemory}`);
  }
  if (blockMemory !== undefined) return { budget: blockMemory };
  return blocksToSwap ? { swapped: blocksToSwap } : undefined;
}

function imageOf({ image, frameImages = [] }: GenerateRequest): string | undefined {
  const last = frameImages.find(({ frameType }) => frameType === "last_frame");
  if (last) {
    throw new KinoraError("generate.last-frame-unsupported", "no model in this version takes a last frame", {
      actual: last.image,
      hint: "give a first_frame only",
    });
  }
  const [first, second] = frameImages;
  if (second) throw contradiction("a video starts with one picture", `${first!.image} and ${second.image}`);
  if (image !== undefined && first && first.image !== image) {
    throw contradiction("both image and frameImages give a first frame", `${image} and ${first.image}`);
  }
  return image ?? first?.image;
}

function sizeOf(
  { resolution, size, aspectRatio }: GenerateRequest,
  model: WanModel,
  pictured: boolean,
): { width: number; height: number } | undefined {
  const [width, height] = resolution?.split("x").map(Number) ?? [];
  const asked = width && height ? { width, height } : size;
  const text = ({ width: w, height: h }: { width: number; height: number }) => `${w}x${h}`;
  if (asked && size && text(asked) !== text(size)) {
    throw contradiction(
      "resolution and size mean the same but have different values",
      `${text(asked)} and ${text(size)}`,
    );
  }
  if (aspectRatio === undefined) return asked;
  if (aspectRatio === "adaptive") {
    if (pictured) return asked;
    throw contradiction(
      `aspectRatio "adaptive" takes a picture's shape`,
      "no picture",
      "give an image, or an aspect ratio",
    );
  }
  if (pictured) {
    const hint = `leave aspectRatio out, or say "adaptive"`;
    throw contradiction("a video that starts with a picture has its aspect ratio", `aspectRatio ${aspectRatio}`, hint);
  }
  const [across, down] = aspectRatio.split(":").map(Number) as [number, number];
  if (!(across > 0 && down > 0)) {
    throw new KinoraError("request.invalid", "aspectRatio is invalid", { actual: aspectRatio, hint: `e.g. "16:9"` });
  }
  if (asked) {
    if (Math.abs((asked.width * down) / (asked.height * across) - 1) <= SAME_SHAPE) return asked;
    throw contradiction("resolution and aspectRatio contradict each other", `${text(asked)} and ${aspectRatio}`);
  }
  const { defaults } = model;
  const step = mediaOf(model).sizeMultiple;
  const cover = coverGeometry(across, down, defaults.width * defaults.height, [step, step]);
  if (cover.width > 0 && cover.height > 0) return { width: cover.width, height: cover.height };
  throw new KinoraError("request.invalid", `${model.name} does not support this aspect ratio`, {
    actual: `aspectRatio ${aspectRatio}`,
    hint: `sides are multiples of ${step}; give a resolution to choose them`,
  });
}
