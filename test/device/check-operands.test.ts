import { afterAll, describe, expect, test } from "vitest";
import { bytesOf, type DType } from "../../src/base/dtype.ts";
import { broadcastShape, elementCount } from "../../src/base/shape.ts";
import type { ConvolutionOptions, Operand, RowRuns } from "../../src/device/kernels.ts";
import { createNullDevice } from "../../src/device/null/null-device.ts";
import { createReferenceDevice } from "../../src/device/reference/reference-device.ts";
import { codeOf } from "./support.ts";

describe.each([createReferenceDevice(), createNullDevice()])("operand checks on the $name device", (device) => {
  afterAll(() => device[Symbol.dispose]());

  const t = (shape: readonly number[], dtype: DType = "f32"): Operand => ({
    block: device.alloc(elementCount(shape) * bytesOf(dtype), "activations"),
    offset: 0,
    dtype,
    shape,
  });
  const k = device.kernels;
  const runs: RowRuns = [{ start: 0, count: 4, row: 0 }];
  const convolution: ConvolutionOptions = {
    stride: [1, 1, 1],
    padding: [
      [0, 0],
      [0, 0],
      [0, 0],
    ],
  };

  const wrong: readonly (readonly [string, string, () => unknown])[] = [
    ["matmul: inner sizes differ", "kernel.shape", () => k.matmul(t([4, 5]), t([6, 3]), t([4, 3]))],
    ["matmul: batches differ", "kernel.shape", () => k.matmul(t([2, 4, 5]), t([3, 5, 3]), t([2, 4, 3]))],
    ["matmul: integers", "kernel.dtype", () => k.matmul(t([4, 5], "i32"), t([5, 3]), t([4, 3]))],
    ["matmul: bias of another size", "kernel.shape", () => k.matmul(t([4, 5]), t([5, 3]), t([4, 3]), { bias: t([4]) })],
    [
      "matmul: gate runs do not cover the rows",
      "kernel.runs",
      () => k.matmul(t([5, 5]), t([5, 3]), t([5, 3]), { gate: { table: t([1, 3]), runs } }),
    ],
    [
      "linear: a weight in no form",
      "kernel.option",
      () => k.linear(t([4, 5]), { dtype: "f32", shape: [3, 5] }, t([4, 3])),
    ],
    [
      "linear: scale of no granularity",
      "kernel.shape",
      () => k.linear(t([4, 6]), { dtype: "i8", shape: [3, 6], plain: t([3, 6], "i8"), scale: t([3, 4, 1]) }, t([4, 3])),
    ],
    [
      "linear: rows differ",
      "kernel.shape",
      () => k.linear(t([4, 5]), { dtype: "f32", shape: [3, 5], plain: t([3, 5]) }, t([5, 3])),
    ],
    [
      "attention: key length beyond the keys",
      "kernel.option",
      () =>
        k.attention(t([1, 2, 1, 4]), t([1, 3, 1, 4]), t([1, 3, 1, 4]), t([1, 2, 1, 4]), { scale: 1, keyLengths: [4] }),
    ],
    [
      "attention: head sizes differ",
      "kernel.shape",
      () => k.attention(t([1, 2, 1, 4]), t([1, 3, 1, 5]), t([1, 3, 1, 5]), t([1, 2, 1, 4]), { scale: 1 }),
    ],
    [
      "attention: bias in bf16",
      "kernel.dtype",
      () =>
        k.attention(t([1, 2, 1, 4]), t([1, 3, 1, 4]), t([1, 3, 1, 4]), t([1, 2, 1, 4]), {
          scale: 1,
          bias: t([1, 2, 3], "bf16"),
        }),
    ],
    [
      "layerNorm: affine and modulation at once",
      "kernel.option",
      () =>
        k.layerNorm(t([4, 5]), t([4, 5]), {
          eps: 1,
          weight: t([5]),
          modulation: { scale: t([1, 5]), shift: t([1, 5]), runs },
        }),
    ],
    [
      "layerNormBackward: dscale without modulation",
      "kernel.option",
      () => k.layerNormBackward(t([4, 5]), t([4, 5]), { eps: 1 }, { dscale: t([1, 5]) }),
    ],
    [
      "rope: odd head size",
      "kernel.shape",
      () => k.rope(t([1, 2, 1, 3]), { cos: t([2, 1]), sin: t([2, 1]) }, t([1, 2, 1, 3])),
    ],
    [
      "gatedAdd: run names a row that does not exist",
      "kernel.runs",
      () => k.gatedAdd(undefined, t([4, 5]), t([1, 5]), [{ start: 0, count: 4, row: 1 }], t([4, 5])),
    ],
    [
      "gatedAdd: runs leave a gap",
      "kernel.runs",
      () =>
        k.gatedAdd(
          undefined,
          t([4, 5]),
          t([1, 5]),
          [
            { start: 0, count: 1, row: 0 },
            { start: 2, count: 2, row: 0 },
          ],
          t([4, 5]),
        ),
    ],
    [
      "conv3d: output of another size",
      "kernel.shape",
      () => k.conv3d(t([1, 3, 3, 3, 2]), t([4, 2, 1, 1, 1]), undefined, t([1, 3, 3, 2, 4]), convolution),
    ],
    [
      "conv3d: stride 0",
      "kernel.option",
      () =>
        k.conv3d(t([1, 3, 3, 3, 2]), t([4, 2, 1, 1, 1]), undefined, t([1, 3, 3, 3, 4]), {
          ...convolution,
          stride: [1, 0, 1],
        }),
    ],
    ["binary: shapes do not broadcast", "shape.broadcast", () => k.binary("add", t([2, 3]), t([2]), t([2, 3]))],
    ["cast: counts differ", "kernel.shape", () => k.cast(t([4]), t([5]))],
    [
      "stridedCopy: window beyond its operand",
      "kernel.out-of-block",
      () =>
        k.stridedCopy({ operand: t([4]), offset: 1, strides: [1] }, { operand: t([4]), offset: 0, strides: [1] }, [4]),
    ],
    [
      "stridedCopy: dtypes differ",
      "kernel.dtype",
      () =>
        k.stridedCopy(
          { operand: t([4]), offset: 0, strides: [1] },
          { operand: t([4], "i32"), offset: 0, strides: [1] },
          [4],
        ),
    ],
    [
      "stridedCopy: many elements onto one",
      "kernel.option",
      () =>
        k.stridedCopy({ operand: t([4]), offset: 0, strides: [1] }, { operand: t([4]), offset: 0, strides: [0] }, [4]),
    ],
    ["sum: axis that does not exist", "kernel.option", () => k.sum(t([2, 3]), [2], t([2, 3]))],
    ["embedding: ids in float", "kernel.dtype", () => k.embedding(t([4, 5]), t([2]), t([2, 5]))],
    [
      "adamw: step 0",
      "kernel.option",
      () =>
        k.adamw(t([4]), t([4]), t([4]), t([4]), {
          learningRate: 1,
          beta1: 0,
          beta2: 0,
          eps: 1,
          weightDecay: 0,
          step: 0,
          gradientScale: 1,
        }),
    ],
    ["quantize: to a float", "kernel.dtype", () => k.quantize(t([4, 4]), t([4, 4], "bf16"), t([1]))],
    ["normal: bf16", "kernel.dtype", () => k.normal(t([4], "bf16"), { seed: 1n, stream: 0, offset: 0 })],
    ["an operand beyond its block", "kernel.out-of-block", () => k.fill({ ...t([4]), shape: [5] }, 0)],
    ["an operand inside an element", "kernel.out-of-block", () => k.fill({ ...t([4]), shape: [1], offset: 2 }, 0)],
    ["a fractional shape", "kernel.shape", () => k.fill({ ...t([4]), shape: [1.5] }, 0)],
  ];

  test.each(wrong)("%s: %s", (_name, code, action) => {
    expect(codeOf(action)).toBe(code);
  });
});

test("what is wrong is told by kernel, operand and sizes", () => {
  using device = createReferenceDevice();
  const k = device.kernels;
  const t = (shape: readonly number[], dtype: DType = "f32"): Operand => ({
    block: device.alloc(elementCount(shape) * bytesOf(dtype), "activations"),
    offset: 0,
    dtype,
    shape,
  });
  const [q, out, scale] = [t([1, 2, 1, 4]), t([1, 2, 1, 4]), t([3, 4, 1])];
  const weight = { dtype: "f32", shape: [3, 6], plain: t([3, 6]) } as const;
  const told: readonly (readonly [() => unknown, string])[] = [
    [
      () => k.attention(q, t([1, 3, 1, 4]), t([1, 3, 1, 5]), out, { scale: 1 }),
      "attention v has the wrong shape; expected [1, 3, 1, 4]; got [1, 3, 1, 5]",
    ],
    [
      () => k.attention(q, t([3, 1, 4]), q, out, { scale: 1 }),
      "attention k has the wrong shape; expected [1, K, 1, 4]; got [3, 1, 4]",
    ],
    [() => k.linear(t([4, 5]), weight, t([4, 3])), "linear x has the wrong shape; expected 4 rows of 6; got [4, 5]"],
    [() => k.linear(t([4, 6]), weight, t([2, 3])), "linear out has the wrong shape; expected 4 rows of 3; got [2, 3]"],
    [
      () => k.linear(t([4, 6]), { ...weight, scale }, t([4, 3])),
      "linear weight scale fits no granularity; expected [1], [3, 1] or [3, 6/b, 1]; got [3, 4, 1]",
    ],
    [
      () => k.gatedAdd(undefined, t([4, 5]), t([1, 5]), [{ start: 0, count: 4, row: 1 }], t([4, 5])),
      "gatedAdd table: runs must be consecutive and refer to rows of the table; expected a run from 0, row < 1; got 0, row 1",
    ],
    [() => k.cast(t([4]), t([5])), "cast out has the wrong shape; expected 4 elements; got [5]"],
    [
      () => k.quantize(t([4]), t([4], "bf16"), t([1])),
      "quantize data has the wrong dtype; expected f8e4m3 or f8e5m2 or i8; got bf16",
    ],
    [() => k.fill({ ...t([4]), shape: [5] }, 0), "fill out reaches beyond its block; expected ≤ 16 bytes; got 20"],
  ];
  for (const [action, message] of told) expect(action).toThrowError(message);
});

test("an id outside its table is a coded error where values are read", () => {
  using device = createReferenceDevice();
  const alloc = (bytes: number) => device.alloc(bytes, "activations");
  const table: Operand = { block: alloc(40), offset: 0, dtype: "f32", shape: [2, 5] };
  const ids: Operand = { block: alloc(4), offset: 0, dtype: "i32", shape: [1] };
  const out: Operand = { block: alloc(20), offset: 0, dtype: "f32", shape: [1, 5] };
  for (const id of [2, -1]) {
    device.upload(ids.block, 0, new Uint8Array(Int32Array.of(id).buffer));
    expect(codeOf(() => device.kernels.embedding(table, ids, out))).toBe("kernel.bad-id");
  }
});

test("broadcast shapes follow NumPy", () => {
  expect(broadcastShape([2, 1, 4], [3, 1])).toEqual([2, 3, 4]);
  expect(broadcastShape([], [5])).toEqual([5]);
  expect(broadcastShape([0, 3], [1])).toEqual([0, 3]);
  expect(codeOf(() => broadcastShape([2], [0]))).toBe("shape.broadcast");
});
