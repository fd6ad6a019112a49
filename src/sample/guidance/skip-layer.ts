// Skip-layer guidance: away from what the transformer answers with some of its blocks left out. In a pass of its own, or
// in the negative pass. https://github.com/Comfy-Org/ComfyUI/blob/a125cd8/comfy_extras/nodes_slg.py
import { z } from "zod";
import { KinoraError } from "../../base/errors.ts";
import { defineLayer, type Guidance, isConditional } from "./guidance.ts";
import { rangeSettings, within } from "./range.ts";

const blocks = z.array(z.int().min(0).max(999)).min(1).max(100);

/** Velocity and sample to the predicted clip. */
const clipOf = (velocity: Float32Array, sample: Float32Array, sigma: number): Float32Array =>
  velocity.map((value, i) => sample[i]! - sigma * value);

/** Unbiased standard deviation over all elements. */
export function deviation(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  const mean = sum / values.length;
  let squares = 0;
  for (const value of values) squares += (value - mean) ** 2;
  return Math.sqrt(squares / (values.length - 1));
}

/** Clips made r of the way as wide spread as the conditional one. */
export function rescaled(clip: Float32Array, conditional: Float32Array, rescale: number): Float32Array {
  const factor = rescale * (deviation(conditional) / deviation(clip)) + 1 - rescale;
  return clip.map((value) => value * factor);
}

export const skipLayerRow = defineLayer({
  name: "slg",
  help: "skip-layer guidance: guides away from a third pass that skips some blocks",
  options: z.strictObject({
    blocks: blocks.default([7, 8, 9]),
    scale: z.number().min(0).max(100).default(3),
    ...rangeSettings(0.01, 0.15),
    rescale: z.number().min(0).max(10).default(0),
  }),
  create({ blocks: skipBlocks, scale, rescale, ...range }, base): Guidance {
    const skipped = { text: "positive", skipBlocks } as const;
    return {
      negative: base.negative,
      passes(place) {
        const passes = base.passes(place);
        return scale > 0 && passes.some(isConditional) && within(range, place) ? [...passes, skipped] : passes;
      },
      combine(answers, place, memory) {
        const passes = base.passes(place);
        const led = base.combine(answers.slice(0, passes.length), place, memory);
        if (answers.length === passes.length) return led;
        const conditional = answers[passes.findIndex(isConditional)]!;
        const without = answers.at(-1)!;
        const beyond = led.map((value, i) => value + scale * (conditional[i]! - without[i]!));
        if (rescale === 0) return beyond;
        const { sample, sigma } = place;
        const clip = rescaled(clipOf(beyond, sample, sigma), clipOf(conditional, sample, sigma), rescale);
        return clip.map((value, i) => (sample[i]! - value) / sigma);
      },
    };
  },
});

export const skipLayerSimpleRow = defineLayer({
  name: "slg-simple",
  help: "skip-layer guidance without a third pass: the negative pass skips the blocks",
  options: z.strictObject({ blocks: blocks.default([9]), ...rangeSettings(0, 1) }),
  create({ blocks: skipBlocks, ...range }, base): Guidance {
    if (!base.negative) {
      throw new KinoraError(
        "generate.bad-guidance",
        "slg-simple skips blocks of the negative pass, and there is none",
        {
          hint: "give a guidance scale other than 1, or use slg, which adds its own pass",
        },
      );
    }
    return {
      ...base,
      passes(place) {
        const passes = base.passes(place);
        if (!within(range, place)) return passes;
        return passes.map((pass) => (pass.text === "negative" ? { ...pass, skipBlocks } : pass));
      },
    };
  },
});
