// Costs of a training step at many sizes from four plans: both depend on the number of tokens alone. Arithmetic is a
// parabola; memory is one straight line while a step's fixed parts are the most, and a steeper one from there on.
import type { VideoSize } from "../../models/wan/geometry.ts";
import type { StepPlan } from "./lora-step.ts";

export interface StepCost {
  flops: number;
  /** Peak bytes on the device. */
  peak: number;
}

/** A size and its tokens. */
export interface CountedSize {
  size: VideoSize;
  tokens: number;
}

interface Point extends StepCost {
  tokens: number;
}

/**
 * The cost of a step at any of `sizes` (any order), by tokens. Plans the two smallest, the one in the middle and the
 * largest; yields after each.
 */
export async function* stepCosts(
  sizes: readonly CountedSize[],
  plan: (size: VideoSize) => Promise<Pick<StepPlan, "flops" | "bytes">>,
): AsyncGenerator<{ planned: number; of: number }, (tokens: number) => StepCost> {
  const distinct = [...new Map(sizes.map((entry) => [entry.tokens, entry])).values()];
  distinct.sort((a, b) => a.tokens - b.tokens);
  const last = distinct.length - 1;
  const half = ((distinct[0]?.tokens ?? 0) + (distinct[last]?.tokens ?? 0)) / 2;
  const offHalf = (i: number) => Math.abs(distinct[i]!.tokens - half);
  let middle = Math.min(2, last);
  for (let i = middle; i < last; i++) if (offHalf(i) < offHalf(middle)) middle = i;
  const chosen = [...new Set([0, 1, middle, last])].flatMap((i) => distinct[i] ?? []);
  const points: Point[] = [];
  for (const { size, tokens } of chosen) {
    const { flops, bytes } = await plan(size);
    points.push({ tokens, flops: flops.step, peak: bytes.peak });
    yield { planned: points.length, of: chosen.length };
  }
  points.sort((a, b) => a.tokens - b.tokens);
  const [small, large] = [points.slice(0, 2), points.slice(-2)];
  const three = [...new Set([points[0], points.at(-2), points.at(-1)])].flatMap((point) => point ?? []);
  return (tokens) => ({
    flops: through(three, "flops", tokens),
    peak: Math.max(through(small, "peak", tokens), through(large, "peak", tokens)),
  });
}

/** The polynomial through these points, in Lagrange's form: a line for two, a parabola for three. */
function through(points: readonly Point[], value: keyof StepCost, tokens: number): number {
  return points.reduce((sum, p) => {
    const others = points.filter((q) => q !== p);
    return sum + p[value] * others.reduce((w, q) => (w * (tokens - q.tokens)) / (p.tokens - q.tokens), 1);
  }, 0);
}
