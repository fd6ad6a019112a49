// 3D convolution: the shapes the autoencoders and the patch embedding use, and odd ones; gradients by their definition.
import type { ConvolutionOptions } from "../../../src/device/kernels.ts";
import { type Bench, type Case, type Known, numericalGradient } from "./bench.ts";
import { conv3d, convolved } from "./oracle.ts";

interface Variant extends ConvolutionOptions {
  name: string;
  /** [B, T, H, W, Ci] */
  x: readonly [number, number, number, number, number];
  outputs: number;
  kernel: readonly [number, number, number];
}

const none = [0, 0] as const;
const one = [1, 1] as const;

const variants: readonly Variant[] = [
  {
    name: "causal 3×3×3",
    x: [1, 3, 4, 5, 6],
    outputs: 4,
    kernel: [3, 3, 3],
    stride: [1, 1, 1],
    padding: [[2, 0], one, one],
  },
  {
    name: "same 3×3×3, batch",
    x: [2, 2, 3, 3, 3],
    outputs: 5,
    kernel: [3, 3, 3],
    stride: [1, 1, 1],
    padding: [one, one, one],
  },
  { name: "point", x: [1, 2, 3, 5, 7], outputs: 9, kernel: [1, 1, 1], stride: [1, 1, 1], padding: [none, none, none] },
  {
    name: "patch 1×2×2",
    x: [1, 2, 4, 6, 5],
    outputs: 8,
    kernel: [1, 2, 2],
    stride: [1, 2, 2],
    padding: [none, none, none],
  },
  {
    name: "time 3, stride 2",
    x: [1, 5, 2, 3, 4],
    outputs: 4,
    kernel: [3, 1, 1],
    stride: [2, 1, 1],
    padding: [none, none, none],
  },
  {
    name: "down, padded right and below",
    x: [2, 1, 6, 8, 3],
    outputs: 4,
    kernel: [1, 3, 3],
    stride: [1, 2, 2],
    padding: [none, [0, 1], [0, 1]],
  },
  {
    name: "one channel in and out",
    x: [1, 3, 3, 3, 1],
    outputs: 1,
    kernel: [3, 3, 3],
    stride: [1, 1, 1],
    padding: [[2, 0], one, one],
  },
  {
    name: "strides that leave a rest",
    x: [1, 4, 5, 7, 2],
    outputs: 3,
    kernel: [2, 3, 2],
    stride: [2, 2, 3],
    padding: [[1, 0], [0, 2], none],
  },
  {
    name: "channels beyond 16",
    x: [1, 1, 3, 4, 20],
    outputs: 18,
    kernel: [1, 3, 3],
    stride: [1, 1, 1],
    padding: [none, one, one],
  },
  {
    name: "one pixel",
    x: [1, 1, 1, 1, 3],
    outputs: 2,
    kernel: [3, 3, 3],
    stride: [1, 1, 1],
    padding: [[2, 0], one, one],
  },
  {
    name: "empty batch",
    x: [0, 2, 3, 3, 2],
    outputs: 2,
    kernel: [1, 1, 1],
    stride: [1, 1, 1],
    padding: [none, none, none],
  },
];

interface Made {
  x: Known;
  weight: Known;
  bias: Known;
  shapeOut: number[];
}

function make(bench: Bench, { x, outputs, kernel, stride, padding }: Variant, dtype: "f32" | "bf16"): Made {
  const sizes = [0, 1, 2].map((axis) => convolved(x[1 + axis]!, kernel[axis]!, stride[axis]!, padding[axis]!));
  return {
    x: bench.random(x, dtype),
    weight: bench.random([outputs, x[4], ...kernel], dtype),
    bias: bench.random([outputs], dtype),
    shapeOut: [x[0], ...sizes, outputs],
  };
}

const forwardCases: Case[] = variants.flatMap((variant) =>
  (["f32", "bf16"] as const).map((dtype) => ({
    name: `conv3d ${variant.name} ${dtype}, with and without bias`,
    async run(bench: Bench) {
      const { x, weight, bias, shapeOut } = make(bench, variant, dtype);
      for (const added of [undefined, bias]) {
        const out = bench.blank(shapeOut, dtype);
        bench.kernels.conv3d(x, weight, added, out, variant);
        await bench.expectClose(out, () =>
          conv3d(x.values, x.shape, weight.values, weight.shape, added?.values, shapeOut, variant),
        );
      }
    },
  })),
);

const gradientCases: Case[] = variants.flatMap((variant) =>
  (["f32", "bf16"] as const).map((dtype) => ({
    name: `conv3d gradients ${variant.name} ${dtype}`,
    async run(bench: Bench) {
      const { x, weight, bias, shapeOut } = make(bench, variant, dtype);
      const dy = bench.random(shapeOut, dtype);
      const dx = bench.blank(x.shape, dtype);
      const [dweight, dbias, alone] = [bench.blank(weight.shape), bench.blank(bias.shape), bench.blank(weight.shape)];
      bench.kernels.conv3dBackwardData(dy, weight, dx, variant);
      bench.kernels.conv3dBackwardWeights(x, dy, dweight, dbias, variant);
      bench.kernels.conv3dBackwardWeights(x, dy, alone, undefined, variant);
      const values = [x.values, weight.values, bias.values];
      const f = ([vx, vw, vb]: Float64Array[]) => conv3d(vx!, x.shape, vw!, weight.shape, vb, shapeOut, variant);
      for (const [which, gradient] of [dx, dweight, dbias].entries()) {
        const out = await bench.read(gradient);
        if (!bench.computes) continue;
        const { indices, expected } = sampled(f, values, which, dy.values);
        const chosen = bench.from(
          indices.map((i) => out[i]!),
          [indices.length],
          "f64",
        );
        await bench.expectClose(chosen, () => expected, [dtype]);
      }
      const together = await bench.read(dweight);
      await bench.expectClose(alone, () => together, [dtype]);
    },
  })),
);

/** Finite differences at two dozen elements of an input, spread over it: each costs two convolutions. */
function sampled(
  f: (inputs: Float64Array[]) => Float64Array,
  values: readonly Float64Array[],
  which: number,
  dy: Float64Array,
) {
  const count = values[which]!.length;
  const step = Math.max(1, Math.floor(count / 24));
  const indices = Array.from({ length: Math.ceil(count / step) }, (_, i) => i * step);
  const expected = indices.map((i) => {
    const narrowed = values.map((array) => array.slice());
    const g = ([moved]: Float64Array[]) => {
      narrowed[which]![i] = moved![0]!;
      return f(narrowed);
    };
    return numericalGradient(g, [Float64Array.of(values[which]![i]!)], 0, dy)[0]!;
  });
  return { indices, expected };
}

export const convolutionCases: readonly Case[] = [...forwardCases, ...gradientCases];
