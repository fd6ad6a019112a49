// Strided copies in all their uses, reductions, gathers.
import { expect } from "vitest";
import type { DType } from "../../../src/base/dtype.ts";
import { elementCount } from "../../../src/base/shape.ts";
import { type Bench, type Case, numericalGradient } from "./bench.ts";
import { build, place, sumOver } from "./oracle.ts";

const everyType: readonly DType[] = ["f32", "bf16", "f16", "f8e4m3", "f64", "i64", "i32", "i16", "i8", "u8", "bool"];

const permuteCases: Case[] = everyType.map((dtype) => ({
  name: `stridedCopy permutes [2, 3, 4] to [4, 2, 3] ${dtype}`,
  async run(bench: Bench) {
    const x = bench.random([2, 3, 4], dtype, dtype === "bool" ? 1 : 50);
    const out = bench.blank([4, 2, 3], dtype);
    bench.kernels.stridedCopy(
      { operand: x, offset: 0, strides: [1, 12, 4] },
      { operand: out, offset: 0, strides: [6, 3, 1] },
      [4, 2, 3],
    );
    await bench.expectEqual(out, () => build([4, 2, 3], ([a, b, c]) => x.values[place([2, 3, 4], [b!, c!, a!])]!));
  },
}));

const windowCases: Case[] = [
  {
    name: "stridedCopy slices rows and columns, with steps",
    async run(bench) {
      const x = bench.random([7, 9]);
      const out = bench.blank([3, 4]);
      bench.kernels.stridedCopy(
        { operand: x, offset: 1 * 9 + 2, strides: [18, 2] },
        { operand: out, offset: 0, strides: [4, 1] },
        [3, 4],
      );
      await bench.expectEqual(out, () => build([3, 4], ([i, j]) => x.values[(1 + 2 * i!) * 9 + 2 + 2 * j!]!));
    },
  },
  {
    name: "stridedCopy turns an axis around with a negative stride",
    async run(bench) {
      const x = bench.random([5, 3]);
      const out = bench.blank([5, 3]);
      bench.kernels.stridedCopy(
        { operand: x, offset: 12, strides: [-3, 1] },
        { operand: out, offset: 0, strides: [3, 1] },
        [5, 3],
      );
      await bench.expectEqual(out, () => build([5, 3], ([i, j]) => x.values[(4 - i!) * 3 + j!]!));
    },
  },
  {
    name: "stridedCopy concatenates along a middle axis and leaves the rest alone",
    async run(bench) {
      const [a, b] = [bench.random([2, 1, 3], "bf16"), bench.random([2, 2, 3], "bf16")];
      const out = bench.random([2, 4, 3], "bf16");
      const strides = [12, 3, 1];
      bench.kernels.stridedCopy(
        { operand: a, offset: 0, strides: [3, 3, 1] },
        { operand: out, offset: 0, strides },
        [2, 1, 3],
      );
      bench.kernels.stridedCopy(
        { operand: b, offset: 0, strides: [6, 3, 1] },
        { operand: out, offset: 3, strides },
        [2, 2, 3],
      );
      await bench.expectEqual(out, () =>
        build([2, 4, 3], ([i, j, k]) =>
          j === 0
            ? a.values[place([2, 1, 3], [i!, 0, k!])]!
            : j! < 3
              ? b.values[place([2, 2, 3], [i!, j! - 1, k!])]!
              : out.values[place([2, 4, 3], [i!, j!, k!])]!,
        ),
      );
    },
  },
  {
    name: "stridedCopy pads into the middle of zeros",
    async run(bench) {
      const x = bench.random([2, 3]);
      const out = bench.blank([4, 6]);
      bench.kernels.fill(out, 0);
      bench.kernels.stridedCopy(
        { operand: x, offset: 0, strides: [3, 1] },
        { operand: out, offset: 6 + 2, strides: [6, 1] },
        [2, 3],
      );
      await bench.expectEqual(out, () =>
        build([4, 6], ([i, j]) => (i! >= 1 && i! < 3 && j! >= 2 && j! < 5 ? x.values[(i! - 1) * 3 + j! - 2]! : 0)),
      );
    },
  },
  {
    name: "stridedCopy repeats by a stride of 0: nearest upsampling",
    async run(bench) {
      const x = bench.random([2, 3, 4]);
      const out = bench.blank([4, 6, 4]);
      bench.kernels.stridedCopy(
        { operand: x, offset: 0, strides: [12, 0, 4, 0, 1] },
        { operand: out, offset: 0, strides: [48, 24, 8, 4, 1] },
        [2, 2, 3, 2, 4],
      );
      await bench.expectEqual(out, () =>
        build([4, 6, 4], ([i, j, k]) => x.values[place([2, 3, 4], [i! >> 1, j! >> 1, k!])]!),
      );
    },
  },
  ...(["f32", "bf16"] as const).map((dtype) => ({
    name: `stridedCopy accumulates ${dtype}`,
    async run(bench: Bench) {
      const x = bench.random([3, 4], dtype);
      const out = bench.random([4, 5], dtype);
      bench.kernels.stridedCopy(
        { operand: x, offset: 0, strides: [1, 4] },
        { operand: out, offset: 1, strides: [5, 1] },
        [4, 3],
        { accumulate: true },
      );
      await bench.expectClose(out, () =>
        build([4, 5], ([i, j]) => out.values[i! * 5 + j!]! + (j! >= 1 && j! < 4 ? x.values[(j! - 1) * 4 + i!]! : 0)),
      );
    },
  })),
  {
    name: "stridedCopy of a scalar, of one row, of nothing",
    async run(bench) {
      const x = bench.random([1]);
      const out = bench.blank([1]);
      bench.kernels.stridedCopy({ operand: x, offset: 0, strides: [] }, { operand: out, offset: 0, strides: [] }, []);
      await bench.expectEqual(out, () => x.values);
      const row = bench.random([40]);
      const copied = bench.blank([40]);
      bench.kernels.stridedCopy(
        { operand: row, offset: 0, strides: [40, 1] },
        { operand: copied, offset: 0, strides: [40, 1] },
        [1, 40],
      );
      await bench.expectEqual(copied, () => row.values);
      const empty = bench.blank([0, 4]);
      bench.kernels.stridedCopy(
        { operand: empty, offset: 0, strides: [4, 1] },
        { operand: empty, offset: 0, strides: [4, 1] },
        [0, 4],
      );
    },
  },
];

const sumCases: Case[] = (
  [
    [[3, 5], [0]],
    [[3, 5], [1]],
    [
      [3, 5],
      [0, 1],
    ],
    [[2, 3, 4], [1]],
    [
      [2, 3, 4],
      [0, 2],
    ],
    [[2, 3, 4], []],
    [
      [1, 7, 1],
      [0, 1],
    ],
    [[0, 4], [0]],
    [[0, 4], [1]],
    [[300, 33], [0]],
    [[], []],
  ] as const
).flatMap(([shape, axes]) =>
  (
    [
      ["f32", "f32"],
      ["bf16", "f32"],
      ["bf16", "bf16"],
    ] as const
  ).map(([typeX, typeOut]) => ({
    name: `sum [${shape}] over [${axes}] ${typeX} → ${typeOut}`,
    async run(bench: Bench) {
      const x = bench.random(shape, typeX);
      const shapeOut: number[] = shape.map((size, axis) => ((axes as readonly number[]).includes(axis) ? 1 : size));
      const out = bench.blank(shapeOut, typeOut);
      bench.kernels.sum(x, axes, out);
      await bench.expectClose(out, () => {
        const sums = new Float64Array(elementCount(shapeOut));
        build(shape, (index) => {
          sums[
            place(
              shapeOut,
              index.map((position, axis) => (shapeOut[axis] === 1 ? 0 : position)),
            )
          ]! += x.values[place(shape, index)]!;
          return 0;
        });
        return sums;
      });
    },
  })),
);

const sumSquaresCases: Case[] = (["f32", "bf16"] as const).map((dtype) => ({
  name: `sumSquares ${dtype} keeps small terms beside large ones`,
  async run(bench: Bench) {
    // In plain float32 the ones would vanish beside 2^26.
    const values = Float64Array.from({ length: 20_001 }, (_, i) => (i === 0 ? 8192 : 1));
    const x = bench.from(values, [20_001], dtype);
    const out = bench.blank([]);
    bench.kernels.sumSquares(x, out);
    const [total] = await bench.read(out);
    if (bench.computes) expect(Math.abs(total! - (8192 ** 2 + 20_000))).toBeLessThanOrEqual(8);
    const nothing = bench.from([], [0]);
    bench.kernels.sumSquares(nothing, out);
    await bench.expectEqual(out, () => [0]);
  },
}));

const embeddingCases: Case[] = (["f32", "bf16"] as const).map((dtype) => ({
  name: `embedding and its gradient ${dtype}, ids repeating`,
  async run(bench: Bench) {
    const table = bench.random([6, 5], dtype);
    const ids = bench.from([3, 0, 3, 5, 3, 1], [2, 3], "i32");
    const out = bench.blank([2, 3, 5], dtype);
    bench.kernels.embedding(table, ids, out);
    const gather = ([values]: Float64Array[]) => build([6, 5], ([i, c]) => values![ids.values[i!]! * 5 + c!]!);
    await bench.expectEqual(out, () => gather([table.values]));
    const dy = bench.random([2, 3, 5], dtype);
    const dtable = bench.blank([6, 5]);
    bench.kernels.embeddingBackward(ids, dy, dtable);
    await bench.expectClose(dtable, () => numericalGradient(gather, [table.values], 0, dy.values));
    const none = bench.from([], [0], "i32");
    const empty = bench.blank([0, 5], dtype);
    bench.kernels.embedding(table, none, empty);
    bench.kernels.embeddingBackward(none, empty, dtable);
    await bench.expectEqual(dtable, () => new Float64Array(30));
  },
}));

const longSumCase: Case = {
  name: "sum of a million bf16 ones is a million in float32",
  async run(bench) {
    const count = 2 ** 20;
    const x = bench.from(new Float64Array(count).fill(1), [count], "bf16");
    const out = bench.blank([1]);
    bench.kernels.sum(x, [0], out);
    await bench.expectEqual(out, () => [sumOver(count, () => 1)]);
  },
};

export const movementCases: readonly Case[] = [
  ...permuteCases,
  ...windowCases,
  ...sumCases,
  ...sumSquaresCases,
  ...embeddingCases,
  longSumCase,
];
