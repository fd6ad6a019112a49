// Activations, gates, rotations, arithmetic with broadcasting, casts between all formats.
import { expect } from "vitest";
import type { DType } from "../../../src/base/dtype.ts";
import type { Activation, BinaryOp, RowRuns } from "../../../src/device/kernels.ts";
import { type Bench, type Case, numericalGradient } from "./bench.ts";
import { activate, build, place, rowOf } from "./oracle.ts";

const kinds: readonly Activation[] = ["gelu-tanh", "silu", "quick-gelu", "gelu-erf"];

const activationCases: Case[] = kinds.flatMap((kind) =>
  (["f32", "bf16"] as const).map((dtype) => ({
    name: `activation ${kind} and its gradient ${dtype}`,
    async run(bench: Bench) {
      const values = Float64Array.from({ length: 77 }, (_, i) => (i - 38) / 5);
      const x = bench.from(values, [7, 11], dtype);
      const dy = bench.random([7, 11], dtype);
      const [out, dx] = [bench.blank([7, 11], dtype), bench.blank([7, 11], dtype)];
      bench.kernels.activation(kind, x, out);
      bench.kernels.activationBackward(kind, x, dy, dx);
      await bench.expectClose(out, () => x.values.map(activate[kind]));
      const f = ([input]: Float64Array[]) => input!.map(activate[kind]);
      await bench.expectClose(dx, () => slopes(f, x.values).map((slope, i) => slope * dy.values[i]!), [dtype]);
      bench.kernels.activation(kind, x, x);
      await bench.expectClose(x, () => x.values.map(activate[kind]));
    },
  })),
);

/** f'(x) of a pointwise f: all elements moved at once. */
function slopes(f: (inputs: Float64Array[]) => Float64Array, x: Float64Array): Float64Array {
  const step = 1e-5;
  const [above, below] = [f([x.map((value) => value + step)]), f([x.map((value) => value - step)])];
  return above.map((value, i) => (value - below[i]!) / (2 * step));
}

const extremeActivationCase: Case = {
  name: "activations of very large inputs are the input or zero, with slopes 1 and 0",
  async run(bench) {
    const x = bench.from([1e4, -1e4, 100, -100], [4]);
    const ones = bench.from([1, 1, 1, 1], [4]);
    for (const kind of kinds) {
      const [out, dx] = [bench.blank([4]), bench.blank([4])];
      bench.kernels.activation(kind, x, out);
      bench.kernels.activationBackward(kind, x, ones, dx);
      await bench.expectClose(out, () => [1e4, 0, 100, 0]);
      await bench.expectClose(dx, () => [1, 0, 1, 0]);
    }
  },
};

const runs: RowRuns = [
  { start: 0, count: 2, row: 1 },
  { start: 2, count: 0, row: 2 },
  { start: 2, count: 3, row: 0 },
  { start: 5, count: 1, row: 1 },
];

const gateCases: Case[] = (
  [
    ["f32", "f32", "f32"],
    ["f32", "bf16", "f32"],
    ["bf16", "bf16", "bf16"],
    [undefined, "f32", "f32"],
    [undefined, "bf16", "bf16"],
  ] as const
).map(([typeX, typeY, typeOut]) => ({
  name: `gatedAdd ${typeX ?? "without x"} + ${typeY}·gate → ${typeOut}`,
  async run(bench: Bench) {
    const y = bench.random([2, 3, 10], typeY);
    const x = typeX && bench.random([2, 3, 10], typeX);
    const table = bench.random([3, 10]);
    const out = bench.blank([2, 3, 10], typeOut);
    bench.kernels.gatedAdd(x, y, table, runs, out);
    const reference = () =>
      y.values.map((value, i) => {
        const gate = table.values[rowOf(runs, Math.floor(i / 10)) * 10 + (i % 10)]!;
        return (x?.values[i] ?? 0) + value * gate;
      });
    await bench.expectClose(out, reference, [typeY]);
    if (x && typeX === typeOut) {
      bench.kernels.gatedAdd(x, y, table, runs, x);
      await bench.expectClose(x, reference, [typeY]);
    }
  },
}));

const sumRunsCases: Case[] = [true, false].flatMap((withB) =>
  (["f32", "bf16"] as const).map((dtype) => ({
    name: `sumRuns of a${withB ? "∘b" : ""} ${dtype}`,
    async run(bench: Bench) {
      const a = bench.random([6, 10], dtype);
      const b = withB ? bench.random([6, 10], "f32") : undefined;
      const out = bench.blank([3, 10]);
      bench.kernels.sumRuns(a, b, runs, out);
      await bench.expectClose(out, () =>
        build([3, 10], ([row, column]) =>
          a.values.reduce(
            (sum, value, i) =>
              rowOf(runs, Math.floor(i / 10)) === row && i % 10 === column ? sum + value * (b?.values[i] ?? 1) : sum,
            0,
          ),
        ),
      );
    },
  })),
);

function rotated(
  x: Float64Array,
  shape: readonly number[],
  cos: Float64Array,
  sin: Float64Array,
  turns: number,
): Float64Array {
  const half = shape[3]! / 2;
  return build(shape, ([b, l, h, d]) => {
    const even = d! - (d! % 2);
    const [re, im] = [x[place(shape, [b!, l!, h!, even])]!, x[place(shape, [b!, l!, h!, even + 1])]!];
    const entry = l! * half + even / 2;
    const [c, s] = l! < turns ? [cos[entry]!, sin[entry]!] : [1, 0];
    return d! % 2 === 0 ? re * c - im * s : re * s + im * c;
  });
}

const ropeCases: Case[] = (
  [
    [[1, 7, 2, 8], 7],
    [[2, 9, 3, 6], 5],
    [[2, 1, 1, 2], 1],
    [[1, 4, 2, 4], 0],
    [[0, 4, 2, 4], 4],
    [[1, 3, 2, 128], 3],
  ] as const
).flatMap(([shape, turns]) =>
  (["f32", "bf16"] as const).map((dtype) => ({
    name: `rope [${shape}] over ${turns} rows ${dtype}, back again, in place`,
    async run(bench: Bench) {
      const x = bench.random(shape, dtype);
      const angles = bench.random([turns, shape[3] / 2]).values;
      const [cos, sin] = [Math.cos, Math.sin].map((f) => bench.from(angles.map(f), [turns, shape[3] / 2]));
      const out = bench.blank(shape, dtype);
      bench.kernels.rope(x, { cos: cos!, sin: sin! }, out);
      await bench.expectClose(out, () => rotated(x.values, shape, cos!.values, sin!.values, turns));
      bench.kernels.rope(out, { cos: cos!, sin: sin! }, out, { inverse: true });
      await bench.expectClose(out, () => x.values);
      // The gradient turns back.
      const [dy, dx] = [bench.random(shape, dtype), bench.blank(shape, dtype)];
      bench.kernels.rope(dy, { cos: cos!, sin: sin! }, dx, { inverse: true });
      if (shape[3] > 16) return;
      const f = ([values]: Float64Array[]) => rotated(values!, shape, cos!.values, sin!.values, turns);
      await bench.expectClose(dx, () => numericalGradient(f, [x.values], 0, dy.values), [dtype]);
    },
  })),
);

const operations: Readonly<Record<BinaryOp, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  subtract: (a, b) => a - b,
  multiply: (a, b) => a * b,
  divide: (a, b) => a / b,
};

const broadcasts: readonly (readonly [readonly number[], readonly number[], readonly number[]])[] = [
  [
    [3, 5],
    [3, 5],
    [3, 5],
  ],
  [[3, 5], [5], [3, 5]],
  [[5], [3, 5], [3, 5]],
  [
    [3, 1],
    [1, 5],
    [3, 5],
  ],
  [
    [2, 1, 4],
    [3, 1],
    [2, 3, 4],
  ],
  [[], [2, 3], [2, 3]],
  [[2, 3], [1], [2, 3]],
  [[], [], []],
  [[1, 6], [1], [1, 6]],
  [[0, 5], [5], [0, 5]],
  [
    [2, 1, 3, 1, 5],
    [4, 1, 2, 1],
    [2, 4, 3, 2, 5],
  ],
  [
    [100, 33],
    [100, 1],
    [100, 33],
  ],
];

const at = (values: Float64Array, shape: readonly number[], index: readonly number[]) =>
  values[
    place(
      shape,
      shape.map((size, axis) => (size === 1 ? 0 : index[index.length - shape.length + axis]!)),
    )
  ]!;

const binaryCases: Case[] = (Object.keys(operations) as BinaryOp[]).flatMap((op) =>
  broadcasts.flatMap(([shapeA, shapeB, shapeOut]) =>
    (
      [
        ["f32", "f32", "f32"],
        ["bf16", "f32", "f32"],
        ["bf16", "bf16", "bf16"],
      ] as const
    )
      .filter((_, i) => i === 0 || op === "add" || op === "multiply")
      .map(([typeA, typeB, typeOut]) => ({
        name: `${op} [${shapeA}] [${shapeB}] ${typeA}, ${typeB} → ${typeOut}`,
        async run(bench: Bench) {
          const a = bench.random(shapeA, typeA);
          const drawn = bench.random(shapeB, typeB).values;
          const b = bench.from(
            drawn.map((value) => value + 3 * (Math.sign(value) || 1)),
            shapeB,
            typeB,
          );
          const out = bench.blank(shapeOut, typeOut);
          bench.kernels.binary(op, a, b, out);
          await bench.expectClose(
            out,
            () => build(shapeOut, (index) => operations[op](at(a.values, shapeA, index), at(b.values, shapeB, index))),
            [],
          );
        },
      })),
  ),
);

const inPlaceCase: Case = {
  name: "binary and affine may write over an input of the result's shape",
  async run(bench) {
    const [a, b, c] = [bench.random([4, 6]), bench.random([6]), bench.random([4, 6])];
    bench.kernels.binary("multiply", a, b, a);
    await bench.expectClose(a, () => a.values.map((value, i) => value * b.values[i % 6]!));
    bench.kernels.binary("subtract", b, c, c);
    await bench.expectClose(c, () => c.values.map((value, i) => b.values[i % 6]! - value));
    const d = bench.random([4, 6]);
    bench.kernels.affine(d, 2, d, 3, d, 1);
    await bench.expectClose(d, () => d.values.map((value) => 5 * value + 1));
  },
};

const affineCases: Case[] = (["f32", "bf16"] as const).map((dtype) => ({
  name: `affine, clamp and fill ${dtype}`,
  async run(bench: Bench) {
    const [a, b] = [bench.random([5, 7], dtype), bench.random([5, 7], "f32")];
    const [both, one, limited, filled] = [0, 1, 2, 3].map(() => bench.blank([5, 7], dtype));
    bench.kernels.affine(a, 0.5, b, -2, both!);
    bench.kernels.affine(a, -3, undefined, 0, one!, 0.25);
    bench.kernels.clamp(a, -0.5, 0.75, limited!);
    bench.kernels.fill(filled!, 1.5);
    await bench.expectClose(both!, () => a.values.map((value, i) => 0.5 * value - 2 * b.values[i]!));
    await bench.expectClose(one!, () => a.values.map((value) => 0.25 - 3 * value));
    await bench.expectClose(limited!, () => a.values.map((value) => Math.min(0.75, Math.max(-0.5, value))));
    await bench.expectEqual(filled!, () => a.values.map(() => 1.5));
    const nothing = bench.blank([0, 3], dtype);
    bench.kernels.fill(nothing, 1);
    bench.kernels.affine(nothing, 1, undefined, 0, nothing);
  },
}));

const fillCase: Case = {
  name: "fill sets integers",
  async run(bench) {
    for (const dtype of ["i32", "u8"] as const) {
      const out = bench.blank([9], dtype);
      bench.kernels.fill(out, 7);
      await bench.expectEqual(out, () => new Float64Array(9).fill(7));
    }
  },
};

const floats: readonly DType[] = ["f32", "bf16", "f16", "f8e4m3", "f8e5m2", "f64"];

const castCases: Case[] = floats.flatMap((from) =>
  floats.map((to) => ({
    name: `cast ${from} → ${to} rounds to nearest even, as the host does`,
    async run(bench: Bench) {
      const listed = [0, -0, 1, -1.5, 1.00390625, 1.01171875, 448, 300.7, 6.1e-5, 1e-3, -0.1, 3.1];
      const x = bench.from(listed, [3, 4], from);
      const out = bench.blank([12], to);
      bench.kernels.cast(x, out);
      const host = bench.from(x.values, [12], to);
      await bench.expectEqual(out, () => host.values);
    },
  })),
);

const specialCastCase: Case = {
  name: "cast keeps infinities and NaN in bf16 and f16, and overflows to infinity",
  async run(bench) {
    const x = bench.from([Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN, 1e30, 70000], [5]);
    for (const [dtype, expected] of [
      ["bf16", [Infinity, -Infinity, NaN, 1.0027e30, 70144]],
      ["f16", [Infinity, -Infinity, NaN, Infinity, Infinity]],
    ] as const) {
      const out = bench.blank([5], dtype);
      bench.kernels.cast(x, out);
      const values = await bench.read(out);
      if (!bench.computes) continue;
      for (const [i, value] of expected.entries()) {
        if (Number.isFinite(value)) expect(Math.abs(values[i]! / value - 1)).toBeLessThan(1e-2);
        else expect(values[i]).toBe(value);
      }
    }
  },
};

const integerCastCase: Case = {
  name: "cast between integers and floats, towards zero",
  async run(bench) {
    const ids = bench.from([0, 1, -3, 40000], [4], "i32");
    const out = bench.blank([4]);
    bench.kernels.cast(ids, out);
    await bench.expectEqual(out, () => ids.values);
    const fractions = bench.from([1.9, -1.9, 0.4, 300], [4]);
    const whole = bench.blank([4], "i32");
    bench.kernels.cast(fractions, whole);
    await bench.expectEqual(whole, () => [1, -1, 0, 300]);
  },
};

export const elementwiseCases: readonly Case[] = [
  ...activationCases,
  extremeActivationCase,
  ...gateCases,
  ...sumRunsCases,
  ...ropeCases,
  ...binaryCases,
  inPlaceCase,
  ...affineCases,
  fillCase,
  ...castCases,
  specialCastCase,
  integerCastCase,
];
