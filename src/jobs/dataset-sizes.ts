// Every size near a source's shape, with its tokens, the cost of a training step and memory.
import type { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import { formatInteger } from "../base/units.ts";
import { clipLengths, type NearSize, sizesNear } from "../dataset/sizes.ts";
import { latentSize } from "../models/wan/geometry.ts";
import { type WanModel, wanModels } from "../models/wan/params.ts";
import { datasetSizesContract } from "../protocol/jobs/inspect-dataset.ts";
import { findModel, mediaOf } from "../protocol/model-media.ts";
import { planLoraStep } from "../train/plan/lora-step.ts";
import { type StepCost, stepCosts } from "../train/plan/step-costs.ts";
import { job, type Work } from "./job.ts";

type Contract = typeof datasetSizesContract;
type Row = z.input<Contract["result"]>["sizes"][number];

const cards = [16, 24, 40, 80] as const;
/** What the driver, its libraries and the display take of a card. */
const RESERVED = 1e9;

const usualMinSide = 128;
/** Beyond this listing all sizes takes longer than anybody waits. */
const mostTokens = 1_000_000;
const mostSizes = 300_000;

export const datasetSizesJob = job(datasetSizesContract, async function* (request, { signal }): Work<Contract> {
  const { source, tolerance = 0.01, rank = 32, dtype = "bf16" } = request;
  const model: WanModel = wanModels[findModel(request.model)];
  const { defaults } = model;
  const usual = { size: defaults, tokens: latentSize(model, defaults).tokens };
  const { maxTokens = usual.tokens, minSide = Math.min(usualMinSide, defaults.width, defaults.height) } = request;
  if (maxTokens > mostTokens)
    throw new KinoraError("request.invalid", "`maxTokens` is larger than any model supports", {
      expected: `at most ${mostTokens}`,
      actual: String(maxTokens),
      hint: "a few ten thousand tokens are usual",
    });
  const step = mediaOf(model).sizeMultiple;
  // A single frame has a token a step each way.
  const sizes = sizesNear(source, { step, tolerance, minSide, mostArea: maxTokens * step * step });
  const lengths = request.frames === undefined ? clipLengths(defaults.frames) : checkedLengths(request.frames);
  if (sizes.length * lengths.length > mostSizes)
    throw new KinoraError("dataset.too-many-sizes", "too many sizes near this aspect ratio to list", {
      expected: `at most ${formatInteger(mostSizes)}`,
      actual: formatInteger(sizes.length * lengths.length),
      hint: "lower `tolerance` or `maxTokens`, or name lengths with `frames`",
    });
  const candidates = sizes.flatMap((size) =>
    lengths.flatMap((frames) => {
      const { tokens } = latentSize(model, { ...size, frames });
      return tokens <= maxTokens ? [{ size: { ...size, frames }, tokens }] : [];
    }),
  );
  if (candidates.length === 0)
    throw new KinoraError("dataset.no-size", `no size of ${model.name} near ${source.width}x${source.height}`, {
      actual: `${sizes.length} sizes within ${Number((100 * tolerance).toPrecision(6))} % of the aspect ratio, none within ${maxTokens} tokens`,
      hint: sizes.length === 0 ? "raise `tolerance` or lower `minSide`" : "raise `maxTokens`",
    });
  const run = stepCosts([usual, ...candidates], (size) =>
    planLoraStep(model, size, {
      dtype: dtype === "f32" ? "f32" : "bf16",
      fp8: dtype === "fp8",
      rank,
      recompute: true,
    }),
  );
  for (;;) {
    const { done, value } = await run.next();
    if (!done) {
      signal.throwIfAborted();
      yield { type: "planned", done: value.planned, of: value.of };
      continue;
    }
    const reference = value(usual.tokens).flops;
    const rows = candidates.map(({ size, tokens }) => rowOf(size, tokens, value(tokens), reference));
    const named = `${defaults.width}x${defaults.height}x${defaults.frames}`;
    return { source, model: model.name, step, maxTokens, rank, dtype, usual: named, sizes: rows };
  }
});

function checkedLengths(lengths: readonly number[]): number[] {
  const wrong = lengths.find((frames) => frames % 4 !== 1);
  if (wrong === undefined) return [...new Set(lengths)].sort((a, b) => a - b);
  const below = wrong - ((wrong + 3) % 4);
  throw new KinoraError("size.frames", `${wrong} frames are not 4n+1`, {
    hint: `use ${below < 1 ? "" : `${below} or `}${below + 4}`,
  });
}

function rowOf(
  { width, height, frames, crop }: NearSize & { frames: number },
  tokens: number,
  cost: StepCost,
  reference: number,
): Row {
  return {
    width,
    height,
    frames,
    tokens,
    cropped: Math.max(0, crop.lost),
    relativeCost: cost.flops / reference,
    stepFlops: cost.flops,
    peakBytes: Math.round(cost.peak),
    cards: cards.map((gigabytes) => {
      // A "24 GB" card has 24 · 2^30 bytes.
      const spareBytes = Math.round(gigabytes * 2 ** 30 - RESERVED - cost.peak);
      return { gigabytes, fits: spareBytes >= 0, spareBytes };
    }),
  };
}
