// Products of the cpu device against the reference at random shapes: epilogues, batches, packed and quantised weights.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { DType } from "../../../src/base/dtype.ts";
import { elementCount } from "../../../src/base/shape.ts";
import type { Activation, Epilogue, LinearWeight, Operand } from "../../../src/device/kernels.ts";
import { openCpu, Pair } from "./pair.ts";

const { device, reason } = await openCpu();

const extent = fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constantFrom(31, 32, 33, 64, 65, 100, 130));
const fast = fc.constantFrom<"f32" | "bf16">("f32", "bf16");
const seeds = fc.integer({ min: 0, max: 2 ** 31 });

const epilogues = fc.record({
  bias: fc.option(fast, { nil: undefined }),
  residual: fc.constantFrom("none", "f32", "bf16", "in place"),
  accumulate: fc.boolean(),
  scale: fc.constantFrom(1, 0.5),
  activation: fc.option(fc.constantFrom<Activation>("gelu-tanh", "silu", "quick-gelu", "gelu-erf"), { nil: undefined }),
  gateRows: fc.constantFrom(0, 1, 2),
});
type EpilogueSpec = typeof epilogues extends fc.Arbitrary<infer T> ? T : never;

/** The epilogue as both devices get it: in place means each device's own result. */
function epilogue(pair: Pair, spec: EpilogueSpec, lead: readonly number[], rows: number, columns: number) {
  const bias = spec.bias && pair.random(spec.bias, [columns]);
  const residual =
    spec.residual === "f32" || spec.residual === "bf16"
      ? pair.random(spec.residual, [...lead, rows, columns])
      : undefined;
  const total = rows * elementCount(lead);
  const cut = Math.floor(total / 3);
  const runs =
    spec.gateRows === 2
      ? [
          { start: 0, count: cut, row: 1 },
          { start: cut, count: total - cut, row: 0 },
        ]
      : [{ start: 0, count: total, row: 0 }];
  const gate = spec.gateRows > 0 ? { table: pair.random("f32", [2, columns]), runs } : undefined;
  return (out: Operand): Epilogue => ({
    scale: spec.scale,
    accumulate: spec.accumulate,
    ...(bias ? { bias } : {}),
    ...(spec.activation ? { activation: spec.activation } : {}),
    ...(gate ? { gate } : {}),
    ...(residual ? { residual } : spec.residual === "in place" ? { residual: out } : {}),
  });
}

const tolerance = (...dtypes: DType[]): number => (dtypes.includes("bf16") ? 1.5e-2 : 5e-6);

describe.skipIf(!device)(`products of the cpu device ${reason}`, () => {
  test("matmul with any epilogue, turned either way, batched or not", () => {
    const shapes = fc.record({
      lead: fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 2 }),
      m: extent,
      k: extent,
      n: extent,
    });
    fc.assert(
      fc.property(
        shapes,
        fast,
        fast,
        fast,
        fc.boolean(),
        fc.boolean(),
        epilogues,
        seeds,
        (shape, aType, bType, outType, transposeA, transposeB, spec, seed) => {
          using pair = new Pair(device!, seed);
          const { lead, m, k, n } = shape;
          const a = pair.random(aType, [...lead, ...(transposeA ? [k, m] : [m, k])]);
          const b = pair.random(bType, [...lead, ...(transposeB ? [n, k] : [k, n])]);
          const out = pair.random(outType, [...lead, m, n]);
          const expected = pair.copy(out);
          const options = epilogue(pair, spec, lead, m, n);
          pair.cpu.matmul(a, b, out, { ...options(out), transposeA, transposeB });
          pair.reference.matmul(a, b, expected, { ...options(expected), transposeA, transposeB });
          expect(pair.distance(out, expected, 0.5)).toBeLessThan(tolerance(aType, bType, outType));
        },
      ),
      { numRuns: 150 },
    );
  });

  test("linear and its gradient with plain, packed and quantised weights", () => {
    const forms = fc.constantFrom("f32", "bf16", "packed f32", "packed bf16", "f16", "f8e4m3", "f8e5m2", "i8");
    const scales = fc.constantFrom("none", "tensor", "channel", "block");
    fc.assert(
      fc.property(
        extent,
        extent,
        extent,
        forms,
        scales,
        fast,
        fast,
        epilogues,
        seeds,
        (m, half, n, form, granularity, xType, outType, spec, seed) => {
          using pair = new Pair(device!, seed);
          const k = 2 * half;
          const [dtype, packs] = form.startsWith("packed ") ? [form.slice(7) as DType, true] : [form as DType, false];
          const quantised = dtype === "i8" || dtype.startsWith("f8");
          const plain = pair.random(dtype, [n, k], dtype === "i8" ? 127 : 1);
          const scaleShape = { none: [], tensor: [1], channel: [n, 1], block: [n, 2, 1] }[granularity];
          const scale = quantised && granularity !== "none" ? pair.random("f32", scaleShape) : undefined;
          const reference: LinearWeight = { dtype, shape: [n, k], plain, ...(scale ? { scale } : {}) };
          const packed = packs ? pair.cpu.packWeight(plain, m) : undefined;
          const weight: LinearWeight = packed ? { dtype, shape: [n, k], packed } : reference;
          if (packed) {
            const unpacked = pair.blank(dtype, [n, k]);
            pair.cpu.unpackWeight(packed, unpacked);
            expect(pair.distance(unpacked, plain)).toBe(0);
          }
          const x = pair.random(xType, [m, k]);
          const out = pair.random(outType, [m, n]);
          const expected = pair.copy(out);
          const options = epilogue(pair, spec, [], m, n);
          pair.cpu.linear(x, weight, out, options(out));
          pair.reference.linear(x, reference, expected, options(expected));
          const allowed = tolerance(xType, outType, dtype);
          expect(pair.distance(out, expected, 0.5)).toBeLessThan(allowed);
          const dy = pair.random(xType, [m, n]);
          const dx = pair.random(outType, [m, k]);
          const expectedDx = pair.copy(dx);
          pair.cpu.linearBackwardData(dy, weight, dx, { accumulate: spec.accumulate });
          pair.reference.linearBackwardData(dy, reference, expectedDx, { accumulate: spec.accumulate });
          expect(pair.distance(dx, expectedDx, 0.5)).toBeLessThan(allowed);
          if (packed) device!.free(packed.block);
        },
      ),
      { numRuns: 150 },
    );
  });

  test("a packed weight large enough to be packed serves other numbers of rows than it was packed for", () => {
    using pair = new Pair(device!, 1);
    for (const dtype of ["f32", "bf16"] as const) {
      const plain = pair.random(dtype, [200, 130]);
      const packed = pair.cpu.packWeight(plain, 512)!;
      expect(packed).toBeDefined();
      for (const rows of [1, 5, 64, 700]) {
        const x = pair.random(dtype, [rows, 130]);
        const [out, expected] = [pair.blank("f32", [rows, 200]), pair.blank("f32", [rows, 200])];
        pair.cpu.linear(x, { dtype, shape: [200, 130], packed }, out);
        pair.reference.linear(x, { dtype, shape: [200, 130], plain }, expected);
        expect(pair.distance(out, expected)).toBeLessThan(5e-6);
      }
      device!.free(packed.block);
    }
  });

  test("many rows: the right factor is packed for the product, also where a gate cuts the rows", () => {
    using pair = new Pair(device!, 2);
    const [rows, inputs, outputs] = [1100, 24, 70];
    for (const dtype of ["f32", "bf16"] as const) {
      const x = pair.random(dtype, [rows, inputs]);
      const plain = pair.random(dtype, [outputs, inputs]);
      const weight = { dtype, shape: [outputs, inputs] as const, plain };
      const runs = [
        { start: 0, count: 300, row: 1 },
        { start: 300, count: 800, row: 0 },
      ];
      const options = { bias: pair.random("f32", [outputs]), gate: { table: pair.random("f32", [2, outputs]), runs } };
      const [out, expected] = [pair.blank("f32", [rows, outputs]), pair.blank("f32", [rows, outputs])];
      pair.cpu.linear(x, weight, out, options);
      pair.reference.linear(x, weight, expected, options);
      expect(pair.distance(out, expected)).toBeLessThan(5e-6);
      const packed = pair.cpu.packWeight(pair.random(dtype, [200, 100]), rows)!;
      const dy = pair.random(dtype, [rows, 200]);
      const unpacked = pair.blank(dtype, [200, 100]);
      pair.cpu.unpackWeight(packed, unpacked);
      const [dx, expectedDx] = [pair.blank("f32", [rows, 100]), pair.blank("f32", [rows, 100])];
      pair.cpu.linearBackwardData(dy, { dtype, shape: [200, 100], packed }, dx);
      pair.reference.linearBackwardData(dy, { dtype, shape: [200, 100], plain: unpacked }, expectedDx);
      expect(pair.distance(dx, expectedDx)).toBeLessThan(5e-6);
      device!.free(packed.block);
    }
  });

  test("a quantised weight larger than a block is widened in several, forward and back", () => {
    using pair = new Pair(device!, 3);
    const [outputs, inputs] = [9000, 1000];
    const plain = pair.random("f8e4m3", [outputs, inputs]);
    const scale = pair.random("f32", [outputs, 1]);
    const weight = { dtype: "f8e4m3", shape: [outputs, inputs] as const, plain, scale } as const;
    const x = pair.random("f32", [2, inputs]);
    const residual = pair.random("f32", [2, outputs]);
    const [out, expected] = [pair.blank("f32", [2, outputs]), pair.blank("f32", [2, outputs])];
    pair.cpu.linear(x, weight, out, { residual });
    pair.reference.linear(x, weight, expected, { residual });
    expect(pair.distance(out, expected)).toBeLessThan(5e-6);
    const [dx, expectedDx] = [pair.blank("bf16", [2, inputs]), pair.blank("bf16", [2, inputs])];
    pair.cpu.linearBackwardData(out, weight, dx);
    pair.reference.linearBackwardData(out, weight, expectedDx);
    expect(pair.distance(dx, expectedDx)).toBeLessThan(1e-2);
  });
});
