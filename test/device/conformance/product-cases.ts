// Matrix products: every transpose, batch, dtype mix, epilogue, weight format and layout.
import { type BlockFormat, widenBlocks } from "../../../src/base/block-format.ts";
import { nvfp4Blocks, turnedNibbles } from "../../../src/base/comfy-blocks.ts";
import type { DType } from "../../../src/base/dtype.ts";
import { ggmlFormat } from "../../../src/base/ggml/types.ts";
import { elementCount } from "../../../src/base/shape.ts";
import type { Activation, Epilogue, LinearWeight, RowRuns } from "../../../src/device/kernels.ts";
import { type Bench, type Case, type Known, numericalGradient } from "./bench.ts";
import { type EpilogueValues, epilogue, matmul } from "./oracle.ts";

type Sizes = readonly [rows: number, inner: number, columns: number];

const sizes: readonly Sizes[] = [
  [1, 1, 1],
  [3, 5, 7],
  [16, 64, 32],
  [17, 33, 9],
  [2, 130, 1],
  [1, 70, 65],
  [0, 4, 3],
  [4, 0, 3],
  [2, 3, 0],
];

const mixes: readonly (readonly [DType, DType, DType])[] = [
  ["f32", "f32", "f32"],
  ["bf16", "bf16", "bf16"],
  ["bf16", "bf16", "f32"],
  ["f32", "bf16", "f32"],
  ["bf16", "f32", "bf16"],
  ["f32", "f32", "bf16"],
];

const matmulCases: Case[] = sizes.flatMap((size) =>
  [0, 1, 2, 3].flatMap((transposes) =>
    mixes
      .filter((_, i) => i === 0 || size[0] === 17 || transposes === 1)
      .map(([typeA, typeB, typeOut]) => {
        const [transposeA, transposeB] = [(transposes & 1) !== 0, (transposes & 2) !== 0];
        return {
          name: `matmul [${size}] ${transposeA ? "Aᵀ" : "A"}·${transposeB ? "Bᵀ" : "B"} ${typeA}·${typeB}→${typeOut}`,
          async run(bench: Bench) {
            const [rows, inner, columns] = size;
            const a = bench.random(transposeA ? [inner, rows] : [rows, inner], typeA);
            const b = bench.random(transposeB ? [columns, inner] : [inner, columns], typeB);
            const out = bench.blank([rows, columns], typeOut);
            bench.kernels.matmul(a, b, out, { transposeA, transposeB });
            const reference = () => matmul(a.values, b.values, [], size, transposeA, transposeB);
            await bench.expectClose(out, reference, [typeA, typeB]);
          },
        };
      }),
  ),
);

const batchedCases: Case[] = [[2], [2, 3], [1, 1], [0], [3, 0]].flatMap((lead) =>
  [0, 1, 2, 3].map((transposes) => ({
    name: `matmul batch [${lead}] transposes ${transposes}`,
    async run(bench: Bench) {
      const [rows, inner, columns] = [5, 7, 4] as const;
      const [transposeA, transposeB] = [(transposes & 1) !== 0, (transposes & 2) !== 0];
      const a = bench.random([...lead, ...(transposeA ? [inner, rows] : [rows, inner])]);
      const b = bench.random([...lead, ...(transposeB ? [columns, inner] : [inner, columns])]);
      const out = bench.blank([...lead, rows, columns]);
      bench.kernels.matmul(a, b, out, { transposeA, transposeB, scale: 0.5 });
      await bench.expectClose(out, () =>
        matmul(a.values, b.values, lead, [rows, inner, columns], transposeA, transposeB).map((value) => value / 2),
      );
    },
  })),
);

const activationKinds: readonly Activation[] = ["gelu-tanh", "silu", "quick-gelu", "gelu-erf"];

/** The parts of an epilogue that the bits of `choice` name, as operands and as values. */
function chooseEpilogue(bench: Bench, choice: number, rows: number, columns: number, out: Known) {
  const has = (bit: number) => (choice & (1 << bit)) !== 0;
  const options: Epilogue = {};
  const values: EpilogueValues = {};
  if (has(0)) options.scale = values.scale = -1.5;
  if (has(1)) {
    const bias = bench.random([columns], choice % 3 === 0 ? "bf16" : "f32");
    options.bias = bias;
    values.bias = bias.values;
  }
  if (has(2)) {
    options.accumulate = true;
    values.before = out.values;
  }
  if (has(3)) options.activation = values.activation = activationKinds[(choice >> 4) % 4]!;
  if (has(4)) {
    const split = Math.floor(rows / 3);
    const runs: RowRuns = [
      { start: 0, count: split, row: 2 },
      { start: split, count: rows - split - 1, row: 0 },
      { start: rows - 1, count: 1, row: 2 },
    ];
    const table = bench.random([3, columns]);
    options.gate = { table, runs };
    values.gate = { table: table.values, runs };
  }
  if (has(5)) {
    const residual = bench.random([rows, columns], "f32");
    options.residual = residual;
    values.residual = residual.values;
  }
  return { options, values };
}

const epilogueCases: Case[] = Array.from({ length: 64 }, (_, choice) => choice).flatMap((choice) =>
  (["f32", "bf16"] as const).map((dtype) => ({
    name: `linear epilogue ${choice.toString(2).padStart(6, "0")} ${dtype}`,
    async run(bench: Bench) {
      const [rows, inner, columns] = [9, 19, 21];
      const x = bench.random([rows, inner], dtype, 0.3);
      const plain = bench.random([columns, inner], dtype, 0.3);
      const out = bench.random([rows, columns], choice % 5 === 0 ? "f32" : dtype);
      const { options, values } = chooseEpilogue(bench, choice, rows, columns, out);
      bench.kernels.linear(x, { dtype, shape: [columns, inner], plain }, out, options);
      const reference = () =>
        epilogue(matmul(x.values, plain.values, [], [rows, inner, columns], false, true), columns, values);
      await bench.expectClose(out, reference, [dtype]);
    },
  })),
);

const matmulEpilogueCases: Case[] = [0b111111, 0b101010, 0b010100, 0b100100].map((choice) => ({
  name: `matmul epilogue ${choice.toString(2).padStart(6, "0")}, batched rows counted through`,
  async run(bench: Bench) {
    const [batch, rows, inner, columns] = [2, 3, 5, 7] as const;
    const a = bench.random([batch, rows, inner]);
    const b = bench.random([batch, inner, columns]);
    const out = bench.random([batch, rows, columns]);
    const { options, values } = chooseEpilogue(bench, choice, batch * rows, columns, out);
    bench.kernels.matmul(a, b, out, options);
    await bench.expectClose(out, () =>
      epilogue(matmul(a.values, b.values, [batch], [rows, inner, columns]), columns, values),
    );
  },
}));

/** The quantised value of each element: data·scale. */
function scaled(data: Pick<Known, "shape" | "values">, scale: Known | undefined): Float64Array {
  if (!scale) return data.values;
  const span = elementCount(data.shape) / elementCount(scale.shape);
  return data.values.map((value, i) => value * scale.values[Math.floor(i / span)]!);
}

const granularities = {
  none: undefined,
  tensor: (_n: number, _k: number) => [1],
  channel: (n: number, _k: number) => [n, 1],
  block: (n: number, k: number) => [n, k / 16, 1],
} as const;

const weightCases: Case[] = (["f32", "bf16", "f16", "f8e4m3", "f8e5m2", "i8"] as const).flatMap((weightType) =>
  (Object.keys(granularities) as (keyof typeof granularities)[])
    .filter((granularity) => granularity === "none" || !["f32", "bf16", "f16"].includes(weightType))
    .flatMap((granularity) =>
      (["f32", "bf16"] as const).map((dtype) => ({
        name: `linear and its gradient, ${weightType} weight, ${granularity} scale, ${dtype}`,
        async run(bench: Bench) {
          const [rows, inner, columns] = [6, 48, 11];
          const plain = bench.random([columns, inner], weightType, weightType === "i8" ? 90 : 1);
          const scale = granularities[granularity] && bench.random(granularities[granularity](columns, inner));
          const weight: LinearWeight = {
            dtype: weightType,
            shape: [columns, inner],
            plain,
            ...(scale ? { scale } : {}),
          };
          // Devices may hold a dequantised block in the dtype of the product.
          const involved: DType[] = [dtype];
          const x = bench.random([2, 3, inner], dtype);
          const out = bench.blank([2, 3, columns], dtype);
          bench.kernels.linear(x, weight, out);
          await bench.expectClose(
            out,
            () => matmul(x.values, scaled(plain, scale), [], [rows, inner, columns], false, true),
            involved,
          );
          const dy = bench.random([2, 3, columns], dtype);
          const dx = bench.random([2, 3, inner], dtype);
          for (const accumulate of [false, true]) {
            const before = accumulate ? await bench.read(dx) : new Float64Array(rows * inner);
            bench.kernels.linearBackwardData(dy, weight, dx, { accumulate });
            const reference = () =>
              matmul(dy.values, scaled(plain, scale), [], [rows, columns, inner]).map((value, i) => value + before[i]!);
            await bench.expectClose(dx, reference, involved);
          }
        },
      })),
    ),
);

/** Random codes; what stands for a scale in a block is set to a small number. */
function drawBlocks(
  bench: Bench,
  { bytes }: BlockFormat,
  [rows, blocks]: readonly [rows: number, blocksOfARow: number],
  scales: readonly (readonly number[])[],
): Known {
  const drawn = bench.random([rows * blocks * bytes], "u8", 255).values.map((value) => ((value % 256) + 256) % 256);
  for (let at = 0; at < drawn.length; at += bytes) for (const [place, byte] of scales) drawn[at + place!] = byte!;
  return bench.from(drawn, [rows, blocks * bytes], "u8");
}

/** 1/16 as float16, and as f8e4m3. */
const [half, eighth] = [0x2c, 0x18];
const blockKinds: readonly (readonly [BlockFormat, scales: readonly (readonly number[])[], perRow: boolean])[] = [
  [
    ggmlFormat("Q8_0")!,
    [
      [0, 0],
      [1, half],
    ],
    false,
  ],
  [
    ggmlFormat("Q5_1")!,
    [
      [0, 0],
      [1, half],
      [2, 0],
      [3, half],
    ],
    true,
  ],
  [
    ggmlFormat("Q4_K")!,
    [
      [0, 0],
      [1, half],
      [2, 0],
      [3, half],
    ],
    false,
  ],
  [nvfp4Blocks, [[0, eighth]], false],
  [turnedNibbles(64), [], true],
];

const blockCases: Case[] = blockKinds.flatMap(([blocks, places, perRow]) =>
  (["f32", "bf16"] as const).map((dtype) => ({
    name: `linear and its gradient, weight in blocks of ${blocks.name}, ${dtype}`,
    async run(bench: Bench) {
      // Such a device is given wide weights.
      if (!bench.device.takesBlocks) return;
      const [rows, inner, columns] = [6, 512, 11];
      const plain = drawBlocks(bench, blocks, [columns, inner / blocks.elements], places);
      const scale = perRow ? bench.random([columns, 1]) : undefined;
      const wide = new Float32Array(columns * inner);
      widenBlocks(blocks, Uint8Array.from(plain.values), wide);
      const values = scaled({ shape: [columns, inner], values: Float64Array.from(wide) }, scale);
      const weight: LinearWeight = { dtype: "u8", shape: [columns, inner], plain, blocks, scale };
      const widened = bench.blank([columns, inner], dtype);
      bench.kernels.dequantize(plain, scale, widened, blocks);
      await bench.expectClose(widened, () => values);
      const x = bench.random([rows, inner], dtype);
      const out = bench.blank([rows, columns], dtype);
      bench.kernels.linear(x, weight, out);
      await bench.expectClose(out, () => matmul(x.values, values, [], [rows, inner, columns], false, true), [dtype]);
      const dy = bench.random([rows, columns], dtype);
      const dx = bench.blank([rows, inner], dtype);
      bench.kernels.linearBackwardData(dy, weight, dx);
      await bench.expectClose(dx, () => matmul(dy.values, values, [], [rows, columns, inner]), [dtype]);
    },
  })),
);

const packedCases: Case[] = (["f32", "bf16"] as const).flatMap((dtype) =>
  (
    [
      [5, 48, 64],
      [1, 33, 17],
      [70, 128, 96],
    ] as const
  ).map(([rows, inner, columns]) => ({
    name: `packed weight [${columns}, ${inner}] ${dtype} gives the plain one's products and itself back`,
    async run(bench: Bench) {
      const plain = bench.random([columns, inner], dtype);
      const packed = bench.kernels.packWeight(plain, rows);
      if (packed === undefined) return;
      const weight: LinearWeight = { dtype, shape: [columns, inner], packed };
      const x = bench.random([rows, inner], dtype);
      const out = bench.blank([rows, columns], dtype);
      bench.kernels.linear(x, weight, out);
      await bench.expectClose(out, () => matmul(x.values, plain.values, [], [rows, inner, columns], false, true));
      const dy = bench.random([rows, columns], dtype);
      const dx = bench.blank([rows, inner], dtype);
      bench.kernels.linearBackwardData(dy, weight, dx);
      await bench.expectClose(dx, () => matmul(dy.values, plain.values, [], [rows, columns, inner]));
      const unpacked = bench.blank([columns, inner], dtype);
      bench.kernels.unpackWeight(packed, unpacked);
      await bench.expectEqual(unpacked, () => plain.values);
      bench.free(packed.block);
    },
  })),
);

const sameResidualCase: Case = {
  name: "linear may write over its residual",
  async run(bench) {
    const [rows, inner, columns] = [7, 12, 10];
    const x = bench.random([rows, inner]);
    const plain = bench.random([columns, inner]);
    const stream = bench.random([rows, columns]);
    bench.kernels.linear(x, { dtype: "f32", shape: [columns, inner], plain }, stream, { residual: stream });
    await bench.expectClose(stream, () =>
      epilogue(matmul(x.values, plain.values, [], [rows, inner, columns], false, true), columns, {
        residual: stream.values,
      }),
    );
  },
};

/** dA = dC·Bᵀ and dB = Aᵀ·dC are products themselves: what training asks of matmul. */
const gradientShapeCase: Case = {
  name: "a product's gradients through matmul agree with the derivative of Σ dy·(A·B)",
  async run(bench) {
    const [rows, inner, columns] = [4, 6, 5];
    const a = bench.random([rows, inner]);
    const b = bench.random([inner, columns]);
    const dy = bench.random([rows, columns]);
    const [da, db] = [bench.blank([rows, inner]), bench.blank([inner, columns])];
    bench.kernels.matmul(dy, b, da, { transposeB: true });
    bench.kernels.matmul(a, dy, db, { transposeA: true });
    const f = ([x, y]: Float64Array[]) => matmul(x!, y!, [], [rows, inner, columns]);
    await bench.expectClose(da, () => numericalGradient(f, [a.values, b.values], 0, dy.values));
    await bench.expectClose(db, () => numericalGradient(f, [a.values, b.values], 1, dy.values));
  },
};

export const productCases: readonly Case[] = [
  ...matmulCases,
  ...batchedCases,
  ...epilogueCases,
  ...matmulEpilogueCases,
  ...weightCases,
  ...blockCases,
  ...packedCases,
  sameResidualCase,
  gradientShapeCase,
];
