// CFG-Zero*: the unconditional answer is scaled to fit the conditional one best before they are told apart, and the
// first steps stand still. https://github.com/WeichenFan/CFG-Zero-star/blob/3162be1 (arXiv 2503.18886)
import { z } from "zod";
import { scaleSchema } from "./cfg.ts";
import { defineGuidance, type Guidance } from "./guidance.ts";

/** ⟨a, b⟩ / (⟨b, b⟩ + 1e-8) over a part of both. */
export function fittingScale(a: Float32Array, b: Float32Array, start = 0, end = b.length): number {
  let product = 0;
  let square = 0;
  for (let i = start; i < end; i++) {
    product += a[i]! * b[i]!;
    square += b[i]! * b[i]!;
  }
  return product / (square + 1e-8);
}

/** α·u + scale·(c − α·u) of each of `parts` equal parts, with an α of its own. */
export function fittedCfg(
  conditional: Float32Array,
  unconditional: Float32Array,
  scale: number,
  parts = 1,
): Float32Array {
  const result = new Float32Array(conditional.length);
  const size = conditional.length / parts;
  for (let start = 0; start < result.length; start += size) {
    const alpha = fittingScale(conditional, unconditional, start, start + size);
    for (let i = start; i < start + size; i++) {
      const base = alpha * unconditional[i]!;
      result[i] = base + scale * (conditional[i]! - base);
    }
  }
  return result;
}

/** ComfyUI's CFGZeroStar: the α of velocities, put to the predicted clips. The velocity that this comes to. */
export function fittedClips(
  conditional: Float32Array,
  unconditional: Float32Array,
  scale: number,
  { sample, sigma }: { sample: Float32Array; sigma: number },
): Float32Array {
  const alpha = fittingScale(conditional, unconditional);
  const result = new Float32Array(conditional.length);
  for (let i = 0; i < result.length; i++) {
    const base = alpha * (sample[i]! - sigma * unconditional[i]!);
    const clip = base + scale * (sample[i]! - sigma * conditional[i]! - base);
    result[i] = (sample[i]! - clip) / sigma;
  }
  return result;
}

const passes = [{ text: "positive" }, { text: "negative" }] as const;

export const cfgZeroRow = defineGuidance({
  name: "cfg-zero",
  help: "CFG-Zero*: rescales the negative prediction, with zero velocity in the first steps",
  options: z.strictObject({
    scale: scaleSchema.default(5),
    /** One α for all, one for each channel (the authors' image-to-video), or ComfyUI's node, which has no zero steps. */
    form: z.enum(["sample", "channel", "comfy"]).default("sample"),
    zero_init: z.boolean().default(true),
    /** The last step that stands still; 0 is the first of all. */
    zero_steps: z.int().min(0).max(10_000).default(0),
  }),
  create({ scale, form, zero_init, zero_steps }): Guidance {
    const still = (step: number) => zero_init && form !== "comfy" && step <= zero_steps;
    return {
      negative: true,
      passes: ({ step }) => (still(step) ? [] : passes),
      combine([conditional, unconditional], place) {
        if (still(place.step)) return new Float32Array(place.sample.length);
        if (form === "comfy") return fittedClips(conditional!, unconditional!, scale, place);
        return fittedCfg(conditional!, unconditional!, scale, form === "channel" ? place.shape[0] : 1);
      },
    };
  },
});
