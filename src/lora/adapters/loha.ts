// LoHa: W + α/rank · (w1a·w1b)∘(w2a·w2b), a Hadamard product of two low ranks (FedPara, arXiv 2108.06098; LyCORIS).
// https://github.com/Comfy-Org/ComfyUI/blob/a125cd8/comfy/weight_adapter/loha.py
import type { Adapter } from "../../nn/adapter.ts";
import { matmul, multiply } from "../../tensor/ops/index.ts";
import { openScope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { fileTensor, scalarTensor } from "../file-tensor.ts";
import { lycorisStem } from "../key-formats.ts";
import type { AdapterKind, Found } from "./kind.ts";
import { norm, ownedFrom, TensorAdapter } from "./values.ts";

export interface LohaValues {
  readonly kind: "loha";
  readonly module: string;
  readonly rank: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly alpha: number;
  /** w1a and w2a [outputs, rank], w1b and w2b [rank, inputs] */
  readonly factors: Readonly<Record<LohaFactor, Float32Array>>;
}

const factors = ["w1_a", "w1_b", "w2_a", "w2_b"] as const;
type LohaFactor = (typeof factors)[number];

export class LohaAdapter extends TensorAdapter<LohaFactor> implements Adapter {
  delta(total: Tensor): void {
    using _scope = openScope(total.device);
    const { w1_a, w1_b, w2_a, w2_b } = this.tensors;
    const product = multiply(matmul(w1_a, w1_b), matmul(w2_a, w2_b));
    total.device.kernels.affine(total, 1, product, this.scale, total);
  }
}

export const loha = {
  label: "LoHa",
  parts: factors.map(
    (factor) => [new RegExp(`\\.hada_${factor}(?:\\.\\w+)??(?:\\.weight)?$`), `hada_${factor}`] as const,
  ),
  find(module): Found<LohaValues>[] {
    if (!module.has(...factors.map((factor) => `hada_${factor}`))) return [];
    const tensors = factors.map((factor) => module.take(`hada_${factor}`));
    const [w1a, w1b, w2a, w2b] = tensors.map(({ matrix }) => matrix);
    // Upstream takes the rank of the first pair; the second may have its own.
    if (
      !w1a ||
      !w1b ||
      !w2a ||
      !w2b ||
      w1a[1] !== w1b[0] ||
      w2a[1] !== w2b[0] ||
      w1a[0] !== w2a[0] ||
      w1b[1] !== w2b[1]
    ) {
      module.refuse(tensors, "[outputs, rank] and [rank, inputs], twice");
      return [];
    }
    const [rank, inputs] = w1b;
    const [outputs] = w1a;
    const { alpha, tensors: alphas } = module.alpha(rank);
    return [
      {
        kind: "loha",
        place: { parameter: `${module.module}.weight`, shape: [outputs, inputs] },
        rank,
        alpha,
        tensors: [...tensors.map(({ name }) => name), ...alphas],
        load: () => ({
          kind: "loha",
          module: module.module,
          rank,
          inputs,
          outputs,
          alpha,
          factors: Object.fromEntries(
            factors.map((factor, i) => [factor, tensors[i]!.values()]),
          ) as LohaValues["factors"],
        }),
      },
    ];
  },
  place: ({ module, inputs, outputs }) => ({ parameter: `${module}.weight`, shape: [outputs, inputs] }),
  attach({ device }, values, strength) {
    const { module, rank, alpha } = values;
    const shapes = shapesOf(values);
    const tensors = factors.map((factor) => [
      factor,
      ownedFrom(device, `${module}.hada_${factor}`, values.factors[factor], shapes[factor]),
    ]);
    return new LohaAdapter(Object.fromEntries(tensors), (strength * alpha) / rank);
  },
  tensors(values, format, options) {
    const stem = lycorisStem(format, values.module, "LoHa");
    const shapes = shapesOf(values);
    return [
      ...factors.map((factor) =>
        fileTensor(`${stem}.hada_${factor}`, shapes[factor], () => values.factors[factor], options),
      ),
      scalarTensor(`${stem}.alpha`, values.alpha),
    ];
  },
  strength: ({ rank, alpha, factors: f, inputs, outputs }) =>
    ((alpha / rank) * norm(f.w1_a) * norm(f.w1_b) * norm(f.w2_a) * norm(f.w2_b)) / Math.sqrt(inputs * outputs),
} satisfies AdapterKind<LohaValues>;

function shapesOf({ inputs, outputs, factors: { w1_a, w2_a } }: LohaValues): Record<LohaFactor, [number, number]> {
  const [first, second] = [w1_a.length / outputs, w2_a.length / outputs];
  return { w1_a: [outputs, first], w1_b: [first, inputs], w2_a: [outputs, second], w2_b: [second, inputs] };
}
