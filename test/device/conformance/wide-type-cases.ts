// Float dtypes beside float32 and bf16 as operands of the common kernels.
import type { DType } from "../../../src/base/dtype.ts";
import type { Bench, Case } from "./bench.ts";
import { activate, matmul, normalized, rmsNorm, softmax } from "./oracle.ts";

export const wideTypeCases: readonly Case[] = (["f16", "f64"] as const satisfies DType[]).map((dtype) => ({
  name: `${dtype} operands of products, norms, activations, arithmetic and sums`,
  async run(bench: Bench) {
    const [a, b] = [bench.random([5, 8], dtype), bench.random([8, 6], dtype)];
    const weight = bench.random([8], dtype);
    const product = bench.blank([5, 6], dtype);
    bench.kernels.matmul(a, b, product);
    await bench.expectClose(product, () => matmul(a.values, b.values, [], [5, 8, 6]));
    const [normed, scaled, activated, doubled, weighted] = [0, 1, 2, 3, 4].map(() => bench.blank([5, 8], dtype));
    bench.kernels.layerNorm(a, normed!, { eps: 1e-6 });
    bench.kernels.rmsNorm(a, weight, scaled!, { kind: "mean", eps: 1e-6 });
    bench.kernels.activation("silu", a, activated!);
    bench.kernels.affine(a, 2, undefined, 0, doubled!);
    bench.kernels.softmax(a, weighted!);
    await bench.expectClose(normed!, () => normalized(a.values, 8, 1e-6));
    await bench.expectClose(scaled!, () => rmsNorm(a.values, weight.values, { kind: "mean", eps: 1e-6 }));
    await bench.expectClose(activated!, () => a.values.map(activate.silu));
    await bench.expectClose(doubled!, () => a.values.map((value) => 2 * value));
    await bench.expectClose(weighted!, () => softmax(a.values, 8));
    const total = bench.blank([1, 8]);
    bench.kernels.sum(a, [0], total);
    await bench.expectClose(
      total,
      () => weight.values.map((_, c) => [0, 1, 2, 3, 4].reduce((sum, row) => sum + a.values[row * 8 + c]!, 0)),
      [dtype],
    );
  },
}));
