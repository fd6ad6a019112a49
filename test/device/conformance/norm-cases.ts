// Layer norm, RMS norm, softmax: affine and modulated, both kinds, tiny inputs, gradients by finite differences.
import type { DType } from "../../../src/base/dtype.ts";
import { rowCount } from "../../../src/base/shape.ts";
import type { ModulatedNorm, RmsNormOptions, RowRuns } from "../../../src/device/kernels.ts";
import { type Bench, type Case, type Known, numericalGradient } from "./bench.ts";
import { normalized, rmsNorm, rowOf, softmax } from "./oracle.ts";

type Form = "plain" | "weight" | "affine" | "modulated";

const shapes: readonly (readonly number[])[] = [[1, 1], [5, 33], [2, 3, 64], [4, 7], [0, 8], [130]];
const forms: readonly Form[] = ["plain", "weight", "affine", "modulated"];

/** Two runs that share a row of the table, and one between. */
function threeRuns(rows: number): RowRuns {
  const [first, second] = [Math.ceil(rows / 3), Math.ceil((2 * rows) / 3)];
  return [
    { start: 0, count: first, row: 1 },
    { start: first, count: second - first, row: 0 },
    { start: second, count: rows - second, row: 1 },
  ];
}

interface Affine {
  options: ModulatedNorm;
  /** Trainable operands: gain and shift, as far as the form has them. */
  gain: Known | undefined;
  shift: Known | undefined;
}

function affine(bench: Bench, form: Form, rows: number, columns: number, eps: number): Affine {
  if (form === "modulated") {
    const [gain, shift] = [bench.random([2, columns]), bench.random([2, columns])];
    return { options: { eps, modulation: { scale: gain, shift, runs: threeRuns(rows) } }, gain, shift };
  }
  const gain = form === "plain" ? undefined : bench.random([columns]);
  const shift = form === "affine" ? bench.random([columns]) : undefined;
  return { options: { eps, ...(gain ? { weight: gain } : {}), ...(shift ? { bias: shift } : {}) }, gain, shift };
}

function layerNorm(
  x: Float64Array,
  gain: Float64Array | undefined,
  shift: Float64Array | undefined,
  columns: number,
  { eps, modulation }: ModulatedNorm,
): Float64Array {
  return normalized(x, columns, eps).map((value, i) => {
    const at = (modulation ? rowOf(modulation.runs, Math.floor(i / columns)) * columns : 0) + (i % columns);
    return value * ((modulation ? 1 : 0) + (gain?.[at] ?? 1)) + (shift?.[at] ?? 0);
  });
}

const dtypePairs: readonly (readonly [DType, DType])[] = [
  ["f32", "f32"],
  ["f32", "bf16"],
  ["bf16", "bf16"],
  ["bf16", "f32"],
];

const layerNormCases: Case[] = shapes.flatMap((shape) =>
  forms.flatMap((form) =>
    dtypePairs
      .filter((_, i) => i === 0 || shape.length === 3)
      .map(([typeX, typeOut]) => ({
        name: `layerNorm [${shape}] ${form} ${typeX}→${typeOut}`,
        async run(bench: Bench) {
          const columns = shape.at(-1)!;
          const x = bench.random(shape, typeX, 2);
          const { options, gain, shift } = affine(bench, form, rowCount(shape), columns, 1e-6);
          const out = bench.blank(shape, typeOut);
          bench.kernels.layerNorm(x, out, options);
          await bench.expectClose(out, () => layerNorm(x.values, gain?.values, shift?.values, columns, options), [
            typeX,
          ]);
        },
      })),
  ),
);

const layerNormGradientCases: Case[] = [
  [5, 9],
  [2, 3, 4],
  [1, 2],
  [7, 16],
].flatMap((shape) =>
  forms.flatMap((form) =>
    (["f32", "bf16"] as const).map((dtype) => ({
      name: `layerNormBackward [${shape}] ${form} ${dtype}`,
      async run(bench: Bench) {
        const columns = shape.at(-1)!;
        const x = bench.random(shape, dtype, 2);
        const { options, gain, shift } = affine(bench, form, rowCount(shape), columns, 1e-3);
        const dy = bench.random(shape, dtype);
        const dx = bench.blank(shape, dtype);
        const dgain = gain && bench.blank(gain.shape);
        const dshift = shift && bench.blank(shift.shape);
        const modulated = form === "modulated";
        bench.kernels.layerNormBackward(x, dy, options, {
          dx,
          ...(dgain && { [modulated ? "dscale" : "dweight"]: dgain }),
          ...(dshift && { [modulated ? "dshift" : "dbias"]: dshift }),
        });
        const values = [x.values, gain?.values ?? new Float64Array(), shift?.values ?? new Float64Array()];
        const f = ([vx, vg, vs]: Float64Array[]) => layerNorm(vx!, gain && vg, shift && vs, columns, options);
        await bench.expectClose(dx, () => numericalGradient(f, values, 0, dy.values), [dtype]);
        if (dgain) await bench.expectClose(dgain, () => numericalGradient(f, values, 1, dy.values), [dtype]);
        if (dshift) await bench.expectClose(dshift, () => numericalGradient(f, values, 2, dy.values), [dtype]);
      },
    })),
  ),
);

const rmsKinds: readonly RmsNormOptions[] = [
  { kind: "mean", eps: 1e-6 },
  { kind: "l2", eps: 1e-12 },
  { kind: "l2", eps: 1e-12, silu: true },
  { kind: "mean", eps: 1e-6, silu: true },
];

const describeRms = ({ kind, silu }: RmsNormOptions) => `${kind}${silu ? " + silu" : ""}`;

const rmsNormCases: Case[] = shapes.flatMap((shape) =>
  rmsKinds.flatMap((options) =>
    dtypePairs
      .filter((_, i) => i === 0 || shape.length === 3)
      .map(([typeX, typeOut]) => ({
        name: `rmsNorm ${describeRms(options)} [${shape}] ${typeX}→${typeOut}`,
        async run(bench: Bench) {
          const x = bench.random(shape, typeX);
          const weight = bench.random([shape.at(-1)!]);
          const out = bench.blank(shape, typeOut);
          bench.kernels.rmsNorm(x, weight, out, options);
          await bench.expectClose(out, () => rmsNorm(x.values, weight.values, options), [typeX]);
        },
      })),
  ),
);

const rmsNormGradientCases: Case[] = rmsKinds.flatMap((options) =>
  (["f32", "bf16"] as const).map((dtype) => ({
    name: `rmsNormBackward ${describeRms(options)} ${dtype}`,
    async run(bench: Bench) {
      const shape = [5, 9];
      const x = bench.random(shape, dtype);
      const weight = bench.random([9]);
      const dy = bench.random(shape, dtype);
      const [dx, dweight] = [bench.blank(shape, dtype), bench.blank([9])];
      bench.kernels.rmsNormBackward(x, weight, dy, options, { dx, dweight });
      const values = [x.values, weight.values];
      const f = ([vx, vw]: Float64Array[]) => rmsNorm(vx!, vw!, options);
      await bench.expectClose(dx, () => numericalGradient(f, values, 0, dy.values), [dtype]);
      await bench.expectClose(dweight, () => numericalGradient(f, values, 1, dy.values), [dtype]);
    },
  })),
);

const tinyCases: Case[] = [
  {
    name: "layerNorm and rmsNorm of values so small that eps matters",
    async run(bench) {
      const x = bench.random([3, 16], "f32", 1e-3);
      const weight = bench.random([16]);
      const [normed, scaled] = [bench.blank([3, 16]), bench.blank([3, 16])];
      bench.kernels.layerNorm(x, normed, { eps: 1e-6 });
      bench.kernels.rmsNorm(x, weight, scaled, { kind: "mean", eps: 1e-6 });
      await bench.expectClose(normed, () => normalized(x.values, 16, 1e-6));
      await bench.expectClose(scaled, () => rmsNorm(x.values, weight.values, { kind: "mean", eps: 1e-6 }));
    },
  },
  {
    name: "rmsNorm l2 below its eps divides by eps, and so does its gradient",
    async run(bench) {
      const options = { kind: "l2", eps: 1 } as const;
      const x = bench.random([2, 4], "f32", 0.1);
      const weight = bench.random([4]);
      const dy = bench.random([2, 4]);
      const [out, dx] = [bench.blank([2, 4]), bench.blank([2, 4])];
      bench.kernels.rmsNorm(x, weight, out, options);
      bench.kernels.rmsNormBackward(x, weight, dy, options, { dx });
      await bench.expectClose(out, () => rmsNorm(x.values, weight.values, options));
      const f = ([values]: Float64Array[]) => rmsNorm(values!, weight.values, options);
      await bench.expectClose(dx, () => numericalGradient(f, [x.values], 0, dy.values));
    },
  },
  {
    name: "rmsNorm l2 of a row of zeros is zeros",
    async run(bench) {
      const x = bench.from(new Float64Array(8), [2, 4]);
      const out = bench.blank([2, 4]);
      bench.kernels.rmsNorm(x, bench.random([4]), out, { kind: "l2", eps: 1e-12 });
      await bench.expectClose(out, () => new Float64Array(8));
    },
  },
  {
    name: "layerNorm and rmsNorm may write over their input",
    async run(bench) {
      const [x, y] = [bench.random([5, 12]), bench.random([5, 12])];
      const weight = bench.random([12]);
      bench.kernels.layerNorm(x, x, { eps: 1e-6 });
      bench.kernels.rmsNorm(y, weight, y, { kind: "mean", eps: 1e-6 });
      await bench.expectClose(x, () => normalized(x.values, 12, 1e-6));
      await bench.expectClose(y, () => rmsNorm(y.values, weight.values, { kind: "mean", eps: 1e-6 }));
    },
  },
];

const softmaxCases: Case[] = [[3, 7], [2, 2, 64], [1, 1], [0, 5], [4, 1], [9]].flatMap((shape) =>
  (["f32", "bf16"] as const).map((dtype) => ({
    name: `softmax and its gradient [${shape}] ${dtype}`,
    async run(bench: Bench) {
      const x = bench.random(shape, dtype, 3);
      const out = bench.blank(shape, dtype);
      const columns = shape.at(-1)!;
      bench.kernels.softmax(x, out);
      await bench.expectClose(out, () => softmax(x.values, columns));
      const y = bench.from(softmax(x.values, columns), shape, dtype);
      const dy = bench.random(shape, dtype);
      const dx = bench.blank(shape, dtype);
      bench.kernels.softmaxBackward(y, dy, dx);
      if (columns === 1) return; // The gradient is rounding noise around zero.
      const f = ([values]: Float64Array[]) => softmax(values!, columns);
      await bench.expectClose(dx, () => numericalGradient(f, [x.values], 0, dy.values), [dtype]);
    },
  })),
);

/** Rows that devices share out among many threads. Too long for finite differences: the formulas written out. */
const longRowCases: Case[] = (["f32", "bf16"] as const).map((dtype) => ({
  name: `norms, softmax and their gradients of rows of 1100 ${dtype}`,
  async run(bench: Bench) {
    const [rows, columns, eps] = [3, 1100, 1e-6];
    const shape = [rows, columns];
    const [x, dy] = [bench.random(shape, dtype, 2), bench.random(shape, dtype)];
    const weight = bench.random([columns]);
    const out = bench.blank(shape, dtype);
    /** The value of each element, from sums over its row. */
    const byRow = (
      value: (i: number, c: number, mean: (term: (i: number, c: number) => number) => number) => number,
    ) => {
      const result = new Float64Array(rows * columns);
      for (let row = 0; row < rows; row++) {
        const means = new Map<string, number>();
        const mean = (term: (i: number, c: number) => number) => {
          const key = term.toString();
          if (!means.has(key)) {
            let sum = 0;
            for (let c = 0; c < columns; c++) sum += term(row * columns + c, c);
            means.set(key, sum / columns);
          }
          return means.get(key)!;
        };
        for (let c = 0; c < columns; c++) result[row * columns + c] = value(row * columns + c, c, mean);
      }
      return result;
    };
    const slope = (i: number, c: number) => dy.values[i]! * weight.values[c]!;

    const normed = bench.computes ? normalized(x.values, columns, eps) : new Float64Array();
    bench.kernels.layerNorm(x, out, { eps, weight });
    await bench.expectClose(out, () => normed.map((value, i) => value * weight.values[i % columns]!), [dtype]);
    bench.kernels.layerNormBackward(x, dy, { eps, weight }, { dx: out });
    const layerNormGradient = () =>
      byRow((i, c, mean) => {
        const center = mean((at) => x.values[at]!);
        const inverse = 1 / Math.sqrt(mean((at) => x.values[at]! ** 2) - center ** 2 + eps);
        const products = mean((at, column) => slope(at, column) * normed[at]!);
        return inverse * (slope(i, c) - mean(slope) - normed[i]! * products);
      });
    await bench.expectClose(out, layerNormGradient, [dtype]);

    bench.kernels.rmsNorm(x, weight, out, { kind: "mean", eps });
    await bench.expectClose(out, () => rmsNorm(x.values, weight.values, { kind: "mean", eps }), [dtype]);
    bench.kernels.rmsNormBackward(x, weight, dy, { kind: "mean", eps }, { dx: out });
    const rmsNormGradient = () =>
      byRow((i, c, mean) => {
        const factor = 1 / Math.sqrt(mean((at) => x.values[at]! ** 2) + eps);
        return (
          factor * (slope(i, c) - x.values[i]! * factor ** 2 * mean((at, column) => slope(at, column) * x.values[at]!))
        );
      });
    await bench.expectClose(out, rmsNormGradient, [dtype]);

    const y = bench.from(bench.computes ? softmax(x.values, columns) : x.values, shape, dtype);
    bench.kernels.softmax(x, out);
    await bench.expectClose(out, () => softmax(x.values, columns), [dtype]);
    bench.kernels.softmaxBackward(y, dy, out);
    const softmaxGradient = () =>
      byRow((i, _, mean) => y.values[i]! * (dy.values[i]! - columns * mean((at) => y.values[at]! * dy.values[at]!)));
    await bench.expectClose(out, softmaxGradient, [dtype]);
  },
}));

export const normCases: readonly Case[] = [
  ...layerNormCases,
  ...layerNormGradientCases,
  ...rmsNormCases,
  ...rmsNormGradientCases,
  ...tinyCases,
  ...softmaxCases,
  ...longRowCases,
];
