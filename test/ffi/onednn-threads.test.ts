// Which primitives are shared among threads: by their arithmetic or by their elements, whatever their kind.
import { describe, expect, test } from "vitest";
import { rowMajorStrides } from "../../src/base/shape.ts";
import { isWorthSharing } from "../../src/ffi/onednn-threads.ts";

const tensor = (...dims: number[]) => ({
  dtype: "bf16" as const,
  dims,
  strides: rowMajorStrides(dims),
});

const product = (rows: number, inner: number, columns: number, ...batch: number[]) =>
  isWorthSharing({
    kind: "matmul",
    tensors: {
      source: tensor(...batch, rows, inner),
      weights: tensor(...batch, inner, columns),
      target: tensor(...batch, rows, columns),
    },
  });

describe("isWorthSharing", () => {
  test("a product by its arithmetic, batches counted", () => {
    expect(product(48, 256, 256)).toBe(false);
    expect(product(192, 256, 256)).toBe(true);
    expect(product(48, 256, 256, 4)).toBe(true);
  });

  test("a product of one row by its weights, which are all read", () => {
    expect(product(1, 256, 256)).toBe(false);
    expect(product(1, 1024, 1024)).toBe(true);
  });

  test("a convolution by its arithmetic", () => {
    const window = { strides: [1, 1, 1], paddingBefore: [1, 1, 1], paddingAfter: [1, 1, 1] };
    const convolution = (channels: number, size: number) => {
      const [x, weights] = [tensor(1, channels, 1, size, size), tensor(channels, channels, 3, 3, 3)];
      return [
        isWorthSharing({ kind: "convolution", tensors: { source: x, weights, target: x }, window }),
        isWorthSharing({ kind: "convolution-data", tensors: { diffSource: x, weights, diffTarget: x }, window }),
        isWorthSharing({
          kind: "convolution-weights",
          tensors: { source: x, diffWeights: weights, diffTarget: x },
          window,
        }),
      ];
    };
    expect(convolution(16, 8)).toEqual([false, false, false]);
    expect(convolution(16, 64)).toEqual([true, true, true]);
  });

  test("the rest by its elements", () => {
    const copy = (size: number) =>
      isWorthSharing({ kind: "reorder", tensors: { source: tensor(size), target: tensor(size) } });
    expect(copy(12_288)).toBe(false);
    expect(copy(1 << 20)).toBe(true);
  });
});
