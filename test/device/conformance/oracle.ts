// The kernels once more, from their definitions: float64, index by index, sharing nothing with any device.
import { elementCount } from "../../../src/base/shape.ts";
import type {
  Activation,
  AttentionOptions,
  ConvolutionOptions,
  RmsNormOptions,
  RowRuns,
} from "../../../src/device/kernels.ts";

type Shape = readonly number[];
type Index = readonly number[];

/** Where an index lies in a row-major array. */
export function place(shape: Shape, index: Index): number {
  return index.reduce((sum, at, axis) => sum * shape[axis]! + at, 0);
}

/** The array whose value at each index is `value(index)`. */
export function build(shape: Shape, value: (index: number[]) => number): Float64Array {
  const result = new Float64Array(elementCount(shape));
  for (let i = 0; i < result.length; i++) {
    const index: number[] = [];
    let rest = i;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index.unshift(rest % shape[axis]!);
      rest = Math.floor(rest / shape[axis]!);
    }
    result[i] = value(index);
  }
  return result;
}

export function sumOver(count: number, term: (i: number) => number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += term(i);
  return sum;
}

export const rowOf = (runs: RowRuns, position: number): number =>
  runs.find(({ start, count }) => position >= start && position < start + count)!.row;

/** The distribution function of the standard normal: Simpson's rule over its density. */
function normalBelow(x: number): number {
  const steps = 2000;
  const density = (t: number) => Math.exp((-t * t) / 2) / Math.sqrt(2 * Math.PI);
  const h = x / steps;
  const inner = sumOver(steps - 1, (i) => ((i + 1) % 2 === 1 ? 4 : 2) * density((i + 1) * h));
  return 0.5 + (h / 3) * (density(0) + inner + density(x));
}

export const activate: Readonly<Record<Activation, (x: number) => number>> = {
  "gelu-tanh": (x) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  "gelu-erf": (x) => x * normalBelow(x),
  "quick-gelu": (x) => x / (1 + Math.exp(-1.702 * x)),
  silu: (x) => x / (1 + Math.exp(-x)),
};

/** [.., M, K]·[.., K, N]; `lead` are the batch axes. */
export function matmul(
  a: Float64Array,
  b: Float64Array,
  lead: Shape,
  [rows, inner, columns]: readonly [number, number, number],
  transposeA = false,
  transposeB = false,
): Float64Array {
  const shapeA = [...lead, ...(transposeA ? [inner, rows] : [rows, inner])];
  const shapeB = [...lead, ...(transposeB ? [columns, inner] : [inner, columns])];
  return build([...lead, rows, columns], (index) => {
    const batch = index.slice(0, -2);
    const [m, n] = index.slice(-2) as [number, number];
    return sumOver(inner, (k) => {
      const left = a[place(shapeA, [...batch, ...(transposeA ? [k, m] : [m, k])])]!;
      const right = b[place(shapeB, [...batch, ...(transposeB ? [n, k] : [k, n])])]!;
      return left * right;
    });
  });
}

export interface EpilogueValues {
  scale?: number;
  bias?: Float64Array;
  before?: Float64Array;
  activation?: Activation;
  gate?: { table: Float64Array; runs: RowRuns };
  residual?: Float64Array;
}

export function epilogue(product: Float64Array, columns: number, values: EpilogueValues): Float64Array {
  return product.map((value, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    let z = value * (values.scale ?? 1) + (values.bias?.[column] ?? 0) + (values.before?.[i] ?? 0);
    if (values.activation) z = activate[values.activation](z);
    if (values.gate) z *= values.gate.table[rowOf(values.gate.runs, row) * columns + column]!;
    return z + (values.residual?.[i] ?? 0);
  });
}

export interface AttentionSizes {
  batch: number;
  queries: number;
  keys: number;
  heads: number;
  depth: number;
}

/** Output [B, Lq, H, D] and log-sum-exp [B, H, Lq]. */
export function attention(
  q: Float64Array,
  k: Float64Array,
  v: Float64Array,
  { batch, queries, keys, heads, depth }: AttentionSizes,
  options: AttentionOptions,
  bias?: Float64Array,
): { out: Float64Array; logSumExp: Float64Array } {
  const shapeQ = [batch, queries, heads, depth];
  const shapeK = [batch, keys, heads, depth];
  const scores = (b: number, h: number, i: number) =>
    Array.from({ length: options.keyLengths?.[b] ?? keys }, (_, j) => {
      const product = sumOver(depth, (d) => q[place(shapeQ, [b, i, h, d])]! * k[place(shapeK, [b, j, h, d])]!);
      return options.scale * product + (bias ? bias[place([heads, queries, keys], [h, i, j])]! : 0);
    });
  const logSum = (values: number[]) => {
    const top = Math.max(...values);
    return top + Math.log(values.reduce((sum, value) => sum + Math.exp(value - top), 0));
  };
  const logSumExp = build([batch, heads, queries], ([b, h, i]) => {
    const values = scores(b!, h!, i!);
    return values.length === 0 ? Number.NEGATIVE_INFINITY : logSum(values);
  });
  const out = new Float64Array(elementCount(shapeQ));
  build([batch, heads, queries], ([b, h, i]) => {
    const values = scores(b!, h!, i!);
    const total = logSum(values);
    for (let d = 0; d < depth; d++) {
      out[place(shapeQ, [b!, i!, h!, d])] = sumOver(
        values.length,
        (j) => Math.exp(values[j]! - total) * v[place(shapeK, [b!, j, h!, d])]!,
      );
    }
    return 0;
  });
  return { out, logSumExp };
}

/** (x − mean)/√(variance + eps) over the last axis. */
export function normalized(x: Float64Array, columns: number, eps: number): Float64Array {
  return x.map((value, i) => {
    const start = i - (i % columns);
    const mean = sumOver(columns, (c) => x[start + c]!) / columns;
    const variance = sumOver(columns, (c) => (x[start + c]! - mean) ** 2) / columns;
    return (value - mean) / Math.sqrt(variance + eps);
  });
}

export function rmsNorm(x: Float64Array, weight: Float64Array, options: RmsNormOptions): Float64Array {
  const columns = weight.length;
  return x.map((value, i) => {
    const start = i - (i % columns);
    const squares = sumOver(columns, (c) => x[start + c]! ** 2);
    const z =
      options.kind === "mean"
        ? (value / Math.sqrt(squares / columns + options.eps)) * weight[i % columns]!
        : (value / Math.max(Math.sqrt(squares), options.eps)) * Math.sqrt(columns) * weight[i % columns]!;
    return options.silu ? activate.silu(z) : z;
  });
}

export function softmax(x: Float64Array, columns: number): Float64Array {
  return x.map((value, i) => {
    const start = i - (i % columns);
    return 1 / sumOver(columns, (c) => Math.exp(x[start + c]! - value));
  });
}

/** The extent of a convolution's output on one axis. */
export const convolved = (size: number, kernel: number, stride: number, [before, after]: readonly [number, number]) =>
  Math.max(0, Math.floor((size + before + after - kernel) / stride) + 1);

export function conv3d(
  x: Float64Array,
  shapeX: Shape,
  weight: Float64Array,
  shapeW: Shape,
  bias: Float64Array | undefined,
  shapeOut: Shape,
  { stride, padding }: ConvolutionOptions,
): Float64Array {
  const [, inputs, kt, kh, kw] = shapeW as [number, number, number, number, number];
  const [, frames, height, width, channels] = shapeX as [number, number, number, number, number];
  const inside = (t: number, h: number, w: number) =>
    t >= 0 && t < frames && h >= 0 && h < height && w >= 0 && w < width;
  return build(shapeOut, ([b, t, h, w, o]) => {
    let sum = bias?.[o!] ?? 0;
    for (let dt = 0; dt < kt; dt++) {
      for (let dh = 0; dh < kh; dh++) {
        for (let dw = 0; dw < kw; dw++) {
          const ft = t! * stride[0] + dt - padding[0][0];
          const fh = h! * stride[1] + dh - padding[1][0];
          const fw = w! * stride[2] + dw - padding[2][0];
          if (!inside(ft, fh, fw)) continue;
          const from = (((b! * frames + ft) * height + fh) * width + fw) * channels;
          for (let i = 0; i < inputs; i++) {
            sum += x[from + i]! * weight[(((o! * inputs + i) * kt + dt) * kh + dh) * kw + dw]!;
          }
        }
      }
    }
    return sum;
  });
}

/** torch.optim.AdamW, written out. */
export function adamw(
  p: Float64Array,
  gradients: readonly Float64Array[],
  o: { learningRate: number; beta1: number; beta2: number; eps: number; weightDecay: number; gradientScale: number },
): { p: Float64Array; m: Float64Array; v: Float64Array } {
  const [parameter, m, v] = [p.slice(), new Float64Array(p.length), new Float64Array(p.length)];
  for (const [index, gradient] of gradients.entries()) {
    const t = index + 1;
    for (let i = 0; i < p.length; i++) {
      const g = gradient[i]! * o.gradientScale;
      m[i] = o.beta1 * m[i]! + (1 - o.beta1) * g;
      v[i] = o.beta2 * v[i]! + (1 - o.beta2) * g * g;
      const meanHat = m[i]! / (1 - o.beta1 ** t);
      const squareHat = v[i]! / (1 - o.beta2 ** t);
      parameter[i]! -= o.learningRate * o.weightDecay * parameter[i]!;
      parameter[i]! -= (o.learningRate * meanHat) / (Math.sqrt(squareHat) + o.eps);
    }
  }
  return { p: parameter, m, v };
}
