// LoKr: W + scale · kron(w1, w2), where either factor may itself be a low-rank product (KronA, arXiv 2212.10650; LyCORIS).
// https://github.com/Comfy-Org/ComfyUI/blob/a125cd8/comfy/weight_adapter/lokr.py
import type { Adapter } from "../../nn/adapter.ts";
import { matmul, multiply, reshape } from "../../tensor/ops/index.ts";
import { openScope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { fileTensor, scalarTensor } from "../file-tensor.ts";
import { lycorisStem } from "../key-formats.ts";
import type { ModuleTensors, TakenTensor } from "../module-tensors.ts";
import type { AdapterKind, Found } from "./kind.ts";
import { norm, ownedFrom, TensorAdapter } from "./values.ts";

/** One side of the Kronecker product: a matrix, or two whose product it is. */
type Side = readonly [whole: MatrixValues] | readonly [a: MatrixValues, b: MatrixValues];

interface MatrixValues {
  readonly shape: readonly [rows: number, columns: number];
  readonly values: Float32Array;
}

export interface LokrValues {
  readonly kind: "lokr";
  readonly module: string;
  readonly inputs: number;
  readonly outputs: number;
  /** The rank by which α is divided; undefined where both sides are whole: the scale is 1 then, whatever α says. */
  readonly rank: number | undefined;
  readonly alpha: number;
  readonly w1: Side;
  readonly w2: Side;
}

const scaleOf = ({ rank, alpha }: LokrValues): number => (rank === undefined ? 1 : alpha / rank);

/** Parts are `w1` or `w1_a` and `w1_b`, and the same of w2. */
export class LokrAdapter extends TensorAdapter implements Adapter {
  delta(total: Tensor): void {
    using _scope = openScope(total.device);
    const [w1, w2] = [this.#side("w1"), this.#side("w2")];
    const [rows1, columns1] = w1.shape as [number, number];
    const [rows2, columns2] = w2.shape as [number, number];
    const product = multiply(reshape(w1, [rows1, 1, columns1, 1]), reshape(w2, [1, rows2, 1, columns2]));
    total.device.kernels.affine(total, 1, reshape(product, total.shape), this.scale, total);
  }

  #side(name: string): Tensor {
    return this.tensors[name] ?? matmul(this.tensors[`${name}_a`]!, this.tensors[`${name}_b`]!);
  }
}

const parts = ["w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b"].map(
  (part) => [new RegExp(`\\.lokr_${part}(?:\\.\\w+)??(?:\\.weight)?$`), `lokr_${part}`] as const,
);

interface FoundSide {
  shape: [rows: number, columns: number];
  /** Of the product, where it is one. */
  rank?: number;
  tensors: TakenTensor[];
}

/** Undefined where the side is missing; `misshapen` where its matrices do not go together. */
function takeSide(module: ModuleTensors, side: "w1" | "w2"): FoundSide | undefined {
  if (module.has(`lokr_${side}`)) {
    const whole = module.take(`lokr_${side}`);
    return whole.matrix && { shape: [...whole.matrix], tensors: [whole] };
  }
  const [a, b] = [module.take(`lokr_${side}_a`), module.take(`lokr_${side}_b`)];
  if (!a.matrix || !b.matrix || a.matrix[1] !== b.matrix[0]) return undefined;
  return { shape: [a.matrix[0], b.matrix[1]], rank: b.matrix[0], tensors: [a, b] };
}

const hasSide = (module: ModuleTensors, side: string): boolean =>
  module.has(`lokr_${side}`) || module.has(`lokr_${side}_a`, `lokr_${side}_b`);

const load = ({ tensors }: FoundSide): Side =>
  tensors.map((tensor) => ({ shape: tensor.matrix!, values: tensor.values() })) as unknown as Side;

const named = (name: string, side: Side): (readonly [string, MatrixValues])[] =>
  side.length === 1
    ? [[name, side[0]]]
    : [
        [`${name}_a`, side[0]],
        [`${name}_b`, side[1]],
      ];

export const lokr = {
  label: "LoKr",
  parts,
  find(module): Found<LokrValues>[] {
    if (!hasSide(module, "w1") || !hasSide(module, "w2")) return [];
    const all = parts.flatMap(([, part]) => module.parts.get(part) ?? []);
    const [w1, w2] = [takeSide(module, "w1"), takeSide(module, "w2")];
    if (!w1 || !w2) {
      module.refused.push({
        names: all,
        module: module.module,
        why: `the factors of ${module.module} do not fit together`,
      });
      return [];
    }
    const [outputs, inputs] = [w1.shape[0] * w2.shape[0], w1.shape[1] * w2.shape[1]];
    // The rank is that of w2 where both are products, as upstream.
    const rank = w2.rank ?? w1.rank;
    const { alpha, tensors } = module.alpha(rank ?? 1);
    return [
      {
        kind: "lokr",
        place: { parameter: `${module.module}.weight`, shape: [outputs, inputs] },
        ...(rank === undefined ? {} : { rank, alpha }),
        tensors: [...[...w1.tensors, ...w2.tensors].map(({ name }) => name), ...tensors],
        load: () => ({
          kind: "lokr",
          module: module.module,
          inputs,
          outputs,
          rank,
          alpha,
          w1: load(w1),
          w2: load(w2),
        }),
      },
    ];
  },
  place: ({ module, inputs, outputs }) => ({ parameter: `${module}.weight`, shape: [outputs, inputs] }),
  attach({ device }, values, strength) {
    const { module, w1, w2 } = values;
    const tensors = [...named("w1", w1), ...named("w2", w2)].map(([name, matrix]) => [
      name,
      ownedFrom(device, `${module}.lokr_${name}`, matrix.values, matrix.shape),
    ]);
    return new LokrAdapter(Object.fromEntries(tensors), strength * scaleOf(values));
  },
  tensors(values, format, options) {
    const { module, rank, alpha, w1, w2 } = values;
    const stem = lycorisStem(format, module, "LoKr");
    return [
      ...[...named("w1", w1), ...named("w2", w2)].map(([name, matrix]) =>
        fileTensor(`${stem}.lokr_${name}`, matrix.shape, () => matrix.values, options),
      ),
      ...(rank === undefined ? [] : [scalarTensor(`${stem}.alpha`, alpha)]),
    ];
  },
  strength: (values) => {
    const sizes = [...values.w1, ...values.w2].map((matrix) => norm(matrix.values));
    return (scaleOf(values) * sizes.reduce((a, b) => a * b, 1)) / Math.sqrt(values.inputs * values.outputs);
  },
} satisfies AdapterKind<LokrValues>;
