// What the cpu device does in loops and reorders of its own: copies between windows, conversions, quantisation, optimizers.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { DType } from "../../../src/base/dtype.ts";
import { elementCount, rowMajorStrides } from "../../../src/base/shape.ts";
import { copyAxes } from "../../../src/device/cpu/strided-copy.ts";
import { f32View } from "../../../src/device/host/host-views.ts";
import { bytesIn, openCpu, Pair } from "./pair.ts";

const { device, reason } = await openCpu();

/** Row-major strides of a shape, its axes then taken in another order. */
function permutedStrides(shape: readonly number[], order: readonly number[]): number[] {
  const strides = rowMajorStrides(shape);
  return order.map((axis) => strides[axis]!);
}

describe.skipIf(!device)(`loops of the cpu device ${reason}`, () => {
  test("copies of permuted, sliced and repeated windows are exact, small and large", () => {
    const extents = fc.array(fc.constantFrom<number>(1, 2, 3, 5, 16, 33), { minLength: 1, maxLength: 5 });
    const dtypes = fc.constantFrom<DType>("f32", "bf16", "i32", "u8", "i64");
    fc.assert(
      fc.property(extents, dtypes, fc.nat(), fc.boolean(), fc.nat(), (shape, dtype, shuffle, repeats, seed) => {
        fc.pre(elementCount(shape) <= 60_000);
        using pair = new Pair(device!, seed);
        // The source is larger than the window by one on each axis, and its axes lie in another order.
        const order = shape.map((_, axis) => axis).sort((a, b) => ((a * 7 + shuffle) % 11) - ((b * 7 + shuffle) % 11));
        const stored: number[] = [];
        order.forEach((axis, place) => {
          stored[place] = shape[axis]! + 1;
        });
        const positions = shape.map((_, axis) => order.indexOf(axis));
        const strides = permutedStrides(stored, positions);
        if (repeats) strides[shuffle % shape.length] = 0;
        const source = pair.random(dtype, stored, 100);
        const targets = [pair.blank(dtype, shape), pair.blank(dtype, shape)] as const;
        const window = (operand: typeof source) => ({
          operand,
          offset: 0,
          strides: permutedStrides(
            shape,
            shape.map((_, axis) => axis),
          ),
        });
        pair.cpu.stridedCopy({ operand: source, offset: 0, strides }, window(targets[0]), shape);
        pair.reference.stridedCopy({ operand: source, offset: 0, strides }, window(targets[1]), shape);
        expect(Buffer.compare(bytesIn(targets[0]), bytesIn(targets[1]))).toBe(0);
      }),
      { numRuns: 200 },
    );
  });

  test("a copy that adds", () => {
    for (const dtype of ["f32", "bf16"] as const) {
      using pair = new Pair(device!, 7);
      const source = pair.random(dtype, [40, 30, 20]);
      const target = pair.random(dtype, [30, 40, 21]);
      const expected = pair.copy(target);
      const from = { operand: source, offset: 0, strides: [20, 600, 1] };
      const window = (operand: typeof target) => ({ operand, offset: 1, strides: [840, 21, 1] });
      pair.cpu.stridedCopy(from, window(target), [30, 40, 20], { accumulate: true });
      pair.reference.stridedCopy(from, window(expected), [30, 40, 20], { accumulate: true });
      expect(pair.distance(target, expected)).toBeLessThan(dtype === "bf16" ? 4e-3 : 1e-7);
    }
  });

  test("copied axes join where both windows run on", () => {
    expect(copyAxes([2, 3, 4], [12, 4, 1], [12, 4, 1])).toEqual([{ extent: 24, from: 1, to: 1 }]);
    expect(copyAxes([2, 3, 4], [12, 4, 1], [4, 8, 1])).toEqual([
      { extent: 3, from: 4, to: 8 },
      { extent: 2, from: 12, to: 4 },
      { extent: 4, from: 1, to: 1 },
    ]);
    expect(copyAxes([1, 1], [5, 1], [9, 1])).toEqual([]);
  });

  test("conversions between all float formats are the reference's, value by value", () => {
    const floats = ["f32", "bf16", "f16", "f8e4m3", "f8e5m2"] as const;
    for (const [index, from] of floats.entries()) {
      for (const to of floats) {
        using pair = new Pair(device!, index);
        const wide = pair.random("f32", [70_000], 3);
        const values = f32View(wide);
        // All magnitudes, subnormals of every format among them, ties, infinities.
        for (let i = 0; i < values.length; i++) values[i] = values[i]! * 2 ** ((i % 60) - 40);
        values.set([0, -0, 448, 464, 480, -57344, 61440, 65504, 65519, 65520, 1e30, Number.POSITIVE_INFINITY]);
        values.set([2 ** -9, 2 ** -10, 3 * 2 ** -11, 2 ** -16, 2 ** -17, 2 ** -24, 2 ** -25, 1.0625, 1.1875], 12);
        const source = pair.blank(from, [70_000]);
        pair.reference.cast(wide, source);
        const [ours, theirs] = [pair.blank(to, [70_000]), pair.blank(to, [70_000])];
        pair.cpu.cast(source, ours);
        pair.reference.cast(source, theirs);
        const expected = pair.values(theirs);
        const wrong = pair.values(ours).findIndex((value, i) => !Object.is(value, expected[i]));
        expect([from, to, wrong]).toEqual([from, to, -1]);
      }
    }
  });

  test("quantisation gives the reference's codes and scales, over more elements than a chunk", () => {
    for (const dtype of ["f8e4m3", "f8e5m2", "i8"] as const) {
      for (const scaleShape of [[1], [300, 1], [300, 10, 1]]) {
        using pair = new Pair(device!, 9);
        const x = pair.random("bf16", [300, 1000]);
        const [data, expected] = [pair.blank(dtype, x.shape), pair.blank(dtype, x.shape)];
        const [scale, expectedScale] = [pair.blank("f32", scaleShape), pair.blank("f32", scaleShape)];
        pair.cpu.quantize(x, data, scale);
        pair.reference.quantize(x, expected, expectedScale);
        expect(Buffer.compare(bytesIn(data), bytesIn(expected))).toBe(0);
        expect(pair.distance(scale, expectedScale)).toBe(0);
        const [back, expectedBack] = [pair.blank("f32", x.shape), pair.blank("f32", x.shape)];
        pair.cpu.dequantize(data, scale, back);
        pair.reference.dequantize(data, scale, expectedBack);
        expect(pair.distance(back, expectedBack)).toBeLessThan(1e-7);
      }
    }
  });

  test("both optimizers walk the reference's path", () => {
    using pair = new Pair(device!, 11);
    const count = 5000;
    const parameter = pair.random("f32", [count]);
    const other = pair.copy(parameter);
    const [p8, other8] = [pair.copy(parameter), pair.copy(parameter)];
    const zeros = (dtype: DType, size = count) => {
      const operand = pair.blank(dtype, [size]);
      bytesIn(operand).fill(0);
      return operand;
    };
    const moments = [zeros("f32"), zeros("f32"), zeros("f32"), zeros("f32")] as const;
    const codes = () => ({ m: zeros("u8"), mScale: zeros("f32", 20), v: zeros("u8"), vScale: zeros("f32", 20) });
    const [ours, theirs] = [codes(), codes()];
    for (let step = 1; step <= 6; step++) {
      const options = {
        learningRate: 1e-2,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weightDecay: 0.1,
        step,
        gradientScale: 0.5,
      };
      const gradient = pair.random("bf16", [count], 2);
      pair.cpu.adamw(parameter, gradient, moments[0], moments[1], options);
      pair.reference.adamw(other, gradient, moments[2], moments[3], options);
      pair.cpu.adamw8bit(p8, gradient, ours, options);
      pair.reference.adamw8bit(other8, gradient, theirs, options);
    }
    expect(pair.distance(parameter, other)).toBeLessThan(1e-6);
    expect(pair.distance(moments[1], moments[3])).toBeLessThan(1e-6);
    expect(pair.distance(p8, other8)).toBeLessThan(1e-6);
    expect(Buffer.compare(bytesIn(ours.m), bytesIn(theirs.m))).toBe(0);
    expect(Buffer.compare(bytesIn(ours.v), bytesIn(theirs.v))).toBe(0);
  });
});
