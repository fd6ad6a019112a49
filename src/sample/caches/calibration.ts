// Measures what step caches go by, on a run that computes every pass: MagCache's ratios, and the polynomials of TeaCache.
import type { Place, RunMemory } from "../guidance/guidance.ts";
import { CACHE_MEMORY, meanChange, meanSize, passName, remember, type StepCache } from "./cache.ts";

/** What a run has measured, as it is written beside the film. */
export interface CacheCoefficients {
  /** Ratios of what the blocks add, conditional, unconditional, …, from the second step on: `ratios` of magcache. */
  magcache: number[];
  /** `coefficients` of teacache, without and with `ret_steps`; absent where the run was too short to fit them. */
  teacache?: { embedding: number[]; projection: number[] };
}

/** Degree of TeaCache's polynomials. */
const DEGREE = 4;

const TIME = { embedding: "time.embedding", projection: "time.projection" } as const;
type Measure = "ratio" | "output" | keyof typeof TIME;

const listOf = (memory: RunMemory, measure: Measure, name: string): Float32Array =>
  memory.get(`${CACHE_MEMORY}${measure}.${name}`) ?? new Float32Array();

const append = (memory: RunMemory, measure: Measure, name: string, value: number): void =>
  remember(memory, `${measure}.${name}`, Float32Array.from([...listOf(memory, measure, name), value]));

/** The mean over tokens of |now| / |before|. */
function meanRatio(now: Float32Array, before: Float32Array, dim: number): number {
  let sum = 0;
  for (let start = 0; start < now.length; start += dim) {
    let [a, b] = [0, 0];
    for (let i = start; i < start + dim; i++) {
      a += now[i]! ** 2;
      b += before[i]! ** 2;
    }
    sum += Math.sqrt(a / b);
  }
  return sum / (now.length / dim);
}

/** Skips nothing and measures each step's first evaluation. The times of a step: `embedding` and `projection`, end to end. */
export function calibration(): StepCache & { looksAt: "embedding" } {
  return {
    keeps: "blocks",
    looksAt: "embedding",
    acrossExperts: true,
    decide: ({ passes }) => passes.map(() => ({ skip: false })),
    observe({ place, pass, tokens, residual, dim }, memory) {
      const name = passName(pass);
      if (place.step === lastStep(memory, name)) return;
      remember(memory, `step.${name}`, place.step);
      const output = residual.map((value, i) => value + tokens[i]!);
      const [before, outputBefore] = [
        memory.get(`${CACHE_MEMORY}kept.${name}`),
        memory.get(`${CACHE_MEMORY}blocks.${name}`),
      ];
      remember(memory, `blocks.${name}`, output);
      if (!before || !outputBefore) return;
      append(memory, "ratio", name, meanRatio(residual, before, dim));
      append(memory, "output", name, meanChange(output, outputBefore) / meanSize(outputBefore));
    },
  };
}

const lastStep = (memory: RunMemory, name: string): number | undefined =>
  memory.get(`${CACHE_MEMORY}step.${name}`)?.[0];

/** The time vectors of a step, kept to be told apart from the next step's. */
export function observeTime(place: Place, times: Record<keyof typeof TIME, Float32Array>, memory: RunMemory): void {
  if (place.step === lastStep(memory, "time")) return;
  remember(memory, "step.time", place.step);
  for (const key of ["embedding", "projection"] as const) {
    const before = memory.get(CACHE_MEMORY + TIME[key]);
    remember(memory, TIME[key], times[key]);
    if (before) append(memory, key, "distances", meanChange(times[key], before) / meanSize(before));
  }
}

/** What the run has measured. */
export function coefficientsFrom(memory: RunMemory): CacheCoefficients {
  const [conditional, unconditional] = [listOf(memory, "ratio", "positive"), listOf(memory, "ratio", "negative")];
  // Without a negative pass there is one list for both.
  const magcache = Array.from(conditional, (ratio, i) => [ratio, unconditional[i] ?? ratio]).flat();
  const outputs = Array.from(listOf(memory, "output", "positive"));
  const fitted = (key: keyof typeof TIME) =>
    fitPolynomial(Array.from(listOf(memory, key, "distances")), outputs, DEGREE);
  const [embedding, projection] = [fitted("embedding"), fitted("projection")];
  return { magcache, ...(embedding && projection ? { teacache: { embedding, projection } } : {}) };
}

/** Least squares, the highest power first; undefined where there are too few points, or too many on one another. */
export function fitPolynomial(xs: readonly number[], ys: readonly number[], degree: number): number[] | undefined {
  const size = degree + 1;
  if (new Set(xs).size < size || xs.length !== ys.length) return undefined;
  const largest = Math.max(...xs.map(Math.abs));
  // Powers of x / largest, orthogonalised twice (Gram–Schmidt), so that nothing is squared that is nearly dependent.
  const columns = Array.from({ length: size }, (_, power) => xs.map((x) => (x / largest) ** power));
  const basis: number[][] = [];
  const upper = columns.map(() => new Array<number>(size).fill(0));
  const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
  for (const [j, column] of columns.entries()) {
    let rest = [...column];
    for (let round = 0; round < 2; round++) {
      for (const [i, unit] of basis.entries()) {
        const share = dot(unit, rest);
        upper[i]![j]! += share;
        rest = rest.map((value, k) => value - share * unit[k]!);
      }
    }
    const length = Math.sqrt(dot(rest, rest));
    if (!(length > 1e-12)) return undefined;
    upper[j]![j] = length;
    basis.push(rest.map((value) => value / length));
  }
  const solution = new Array<number>(size).fill(0);
  for (let i = size - 1; i >= 0; i--) {
    let rest = dot(basis[i]!, ys);
    for (let j = i + 1; j < size; j++) rest -= upper[i]![j]! * solution[j]!;
    solution[i] = rest / upper[i]![i]!;
  }
  return solution.map((value, power) => value / largest ** power).reverse();
}
