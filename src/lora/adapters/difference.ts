// Whole differences and replacements of one parameter, weight, bias, norm or modulation: lightx2v's `.diff`, `.diff_b`,
// `.diff_m`, LyCORIS' `.w_norm`, `.b_norm`, ComfyUI's `.set_weight`, and what PEFT saves whole (modules_to_save, biases).
// https://github.com/Comfy-Org/ComfyUI/blob/a125cd8/comfy/lora.py
import { KinoraError } from "../../base/errors.ts";
import { elementCount } from "../../base/shape.ts";
import type { Adapter } from "../../nn/adapter.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { fileTensor } from "../file-tensor.ts";
import { stemOf } from "../key-formats.ts";
import type { ModuleTensors } from "../module-tensors.ts";
import { parameterOf } from "../names.ts";
import type { AdapterKind, Found } from "./kind.ts";
import { norm, ownedFrom } from "./values.ts";

/** W + strength·scale·values; where it replaces, the values whatever the strength. */
export interface DifferenceValues {
  readonly kind: "difference";
  /** Official, e.g. `blocks.0.norm3.bias`. */
  readonly parameter: string;
  /** As in the file. */
  readonly shape: readonly number[];
  readonly values: Float32Array;
  readonly scale: number;
  readonly replaces: boolean;
}

export class DifferenceAdapter implements Adapter {
  readonly #values: Tensor;
  readonly #scale: number;
  readonly #replaces: boolean;

  constructor(values: Tensor, scale: number, replaces: boolean) {
    this.#values = values;
    this.#scale = scale;
    this.#replaces = replaces;
  }

  delta(total: Tensor): void {
    const { kernels } = total.device;
    const own = { ...operandOf(this.#values), shape: total.shape };
    if (this.#replaces) kernels.cast(own, total);
    else kernels.affine(total, 1, own, this.#scale, total);
  }

  parameters(): Map<string, Tensor> {
    return new Map([["values", this.#values]]);
  }

  [Symbol.dispose](): void {
    this.#values[Symbol.dispose]();
  }
}

const operandOf = ({ block, offset, dtype }: Tensor) => ({ block, offset, dtype });

/** Each part and what it changes. */
const changes: Readonly<Record<string, { of: "weight" | "bias"; replaces?: true }>> = {
  diff: { of: "weight" },
  diff_b: { of: "bias" },
  set: { of: "weight", replaces: true },
  whole_weight: { of: "weight", replaces: true },
  whole_bias: { of: "bias", replaces: true },
};

/** Takes `part` as a difference of the module's weight or bias; undefined where it has no such parameter. */
export function foundDifference(
  module: ModuleTensors,
  part: string,
  of: "weight" | "bias",
  { scale = 1, replaces = false }: { scale?: number; replaces?: boolean } = {},
): Found<DifferenceValues> | undefined {
  const parameter = parameterOf(module.module, of);
  if (parameter === undefined) return undefined;
  const tensor = module.take(part);
  const { shape } = tensor;
  return {
    kind: "difference",
    place: { parameter, shape },
    tensors: [tensor.name],
    load: () => ({ kind: "difference", parameter, shape, values: tensor.values(), scale, replaces }),
  };
}

export const difference = {
  label: "whole differences",
  parts: [
    [/\.(?:diff|diff_m|w_norm)$/, "diff"],
    [/\.(?:diff_b|b_norm)$/, "diff_b"],
    [/\.set_weight$/, "set"],
  ],
  find(module): Found<DifferenceValues>[] {
    return Object.entries(changes).flatMap(([part, { of, replaces }]) =>
      module.has(part) ? (foundDifference(module, part, of, { replaces: replaces ?? false }) ?? []) : [],
    );
  },
  place: ({ parameter, shape }) => ({ parameter, shape }),
  attach({ device }, { parameter, shape, values, scale, replaces }, strength) {
    return new DifferenceAdapter(ownedFrom(device, parameter, values, shape), strength * scale, replaces);
  },
  tensors({ parameter, shape, scale, replaces, ...tensor }, format, options) {
    const bias = parameter.endsWith(".bias");
    const bare = parameter.replace(/\.(?:weight|bias)$/, "");
    // ComfyUI reads these endings under its own names, and of modules with a weight under kohya's; others have no form.
    const named = format === "peft" || (format === "kohya" && bare !== parameter);
    if (!named || (bias && replaces)) {
      throw new KinoraError("lora.no-form", `the ${format} format has no key for a change of ${parameter}`, {
        hint: replaces
          ? "leave it out with `exclude`, or merge the LoRA into the model"
          : "write it as comfy, or leave it out with `exclude`",
      });
    }
    const stem = stemOf(format, bare);
    const ending = replaces ? ".set_weight" : bias ? ".diff_b" : ".diff";
    return [fileTensor(stem + ending, shape, () => tensor.values, options, scale)];
  },
  // A replacement changes the parameter even where it is all zeros.
  strength: ({ scale, values, shape, replaces }) =>
    (Math.abs(scale) * norm(values)) / Math.sqrt(Math.max(1, elementCount(shape))) || (replaces ? Number.EPSILON : 0),
} satisfies AdapterKind<DifferenceValues>;
