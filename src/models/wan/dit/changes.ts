// What a pass of the transformer may do otherwise than in training: guidance that works inside it. Blocks left out
// (skip-layer guidance), a second text in cross-attention (NAG), attention between frames made stronger (Enhance-A-Video).
import { elementCount } from "../../../base/shape.ts";
import {
  add,
  cast,
  clamp,
  divide,
  matmul,
  multiply,
  permute,
  reshape,
  scale,
  softmax,
  subtract,
  sum,
} from "../../../tensor/ops/index.ts";
import { scoped } from "../../../tensor/scope.ts";
import { fromValues, type Tensor } from "../../../tensor/tensor.ts";
import type { KeptKeys } from "./kept-keys.ts";

/** None of it is differentiated: a training step has no changes. */
export interface PassChanges {
  /** Blocks whose output is their input. */
  skipBlocks?: readonly number[];
  /** Per sample: a text to lead cross-attention away from, as in `DitInput.texts`. */
  nag?: NagStrength & { texts: readonly Tensor[]; kept?: KeptKeys };
  enhance?: Enhancement;
}

export interface NagStrength {
  /** How far beyond the positive attention, away from the negative. */
  scale: number;
  /** How many times the positive attention's L1 norm the guided one may have. */
  tau: number;
  /** The share of the guided attention in the result. */
  alpha: number;
}

/**
 * Normalized attention guidance: z⁺, z⁻ [B, L, dim], all heads side by side, before the output product → the same.
 * https://github.com/ChenDarYen/ComfyUI-NAG/blob/ef8a641 (arXiv 2505.21179)
 */
export function normalizedGuidance(positive: Tensor, negative: Tensor, strength: NagStrength): Tensor {
  const { scale: by, tau, alpha } = strength;
  return scoped(positive.device, () => {
    const beyond = subtract(scale(positive, by), scale(negative, by - 1));
    const ratio = divide(tokenNorm(beyond), tokenNorm(positive));
    const kept = divide(clamp(ratio, 0, tau), ratio);
    const guided = multiply(beyond, scale(cast(kept, positive.dtype), alpha));
    return add(guided, scale(positive, 1 - alpha));
  });
}

/** The L1 norm of each token, float32 [B, L, 1]. */
export function tokenNorm(x: Tensor): Tensor {
  return scoped(x.device, () => {
    const wide = cast(x, "f32");
    const magnitude = subtract(scale(clamp(wide, 0, Number.MAX_VALUE), 2), wide);
    return clamp(sum(magnitude, [x.shape.length - 1]), 1e-6, Number.MAX_VALUE);
  });
}

/** How Enhance-A-Video is built in; the three differ in their results. */
export const enhanceVariants = {
  /** ComfyUI-WanVideoWrapper of March 2025. Neighbouring tokens are taken for frames. */
  wrapper: { rotated: false, neighbours: true, afterOutput: false },
  /** The wrapper since: the same score, behind the output product. */
  "wrapper-new": { rotated: false, neighbours: true, afterOutput: true },
  /** KJNodes: true frames, after the rotation. */
  kj: { rotated: true, neighbours: false, afterOutput: true },
} as const;

export interface Enhancement {
  /** 0 leaves the strength to the attention between frames alone. */
  weight: number;
  variant: keyof typeof enhanceVariants;
}

/**
 * How much stronger self-attention becomes: the mean attention of a frame to the others, times frames + weight, at least
 * 1. q and k [B, L, H, D] of `frames` frames → float32 [B, 1, 1]. https://arxiv.org/abs/2502.07508
 */
export function frameScore(
  q: Tensor,
  k: Tensor,
  { frames, weight, neighbours }: { frames: number; weight: number; neighbours: boolean },
): Tensor {
  const [batch, length, heads, width] = q.shape as [number, number, number, number];
  const { device } = q;
  const places = length / frames;
  return scoped(device, () => {
    // [B, places, H, frames, D]
    const byPlace = (x: Tensor) =>
      neighbours
        ? permute(reshape(x, [batch, places, frames, heads, width]), [0, 1, 3, 2, 4])
        : permute(reshape(x, [batch, frames, places, heads, width]), [0, 2, 3, 1, 4]);
    const scores = matmul(byPlace(q), byPlace(k), { transposeB: true, scale: 1 / Math.sqrt(width) });
    const others = Float32Array.from({ length: frames * frames }, (_, i) => (i % (frames + 1) === 0 ? 0 : 1));
    const between = multiply(softmax(cast(scores, "f32")), fromValues(device, others, [frames, frames]));
    const count = elementCount([places, heads, frames, frames - 1]);
    const strength = scale(sum(between, [1, 2, 3, 4]), (frames + weight) / count);
    return reshape(clamp(strength, 1, Number.MAX_VALUE), [batch, 1, 1]);
  });
}
