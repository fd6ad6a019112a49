// Adapters on a model's Linear layers: loaded ones at a strength, fresh ones to train. Not files: see key-formats.ts.
import { KinoraError } from "../base/errors.ts";
import type { Adapter, Linear } from "../nn/linear.ts";
import { ownedEmpty, type Tensor } from "../tensor/tensor.ts";
import { checkFit } from "./fit.ts";

/** One adapter as values: y += strength·(alpha/rank)·up(down(x)). */
export interface AdapterValues {
  /** The Linear's official name, e.g. `blocks.0.self_attn.q`. */
  module: string;
  rank: number;
  inputs: number;
  outputs: number;
  alpha: number;
  /** [rank, inputs] */
  down: Float32Array;
  /** [outputs, rank] */
  up: Float32Array;
}

/** Adapters standing on a model; disposing takes them off and frees them. */
export class AttachedLora implements Disposable {
  readonly modules = new Map<string, { linear: Linear; adapter: Adapter; alpha: number }>();

  set(linear: Linear, adapter: Adapter, alpha: number): void {
    linear.adapters.push(adapter);
    this.modules.set(linear.name, { linear, adapter, alpha });
  }

  /** The trained tensors by name: `<module>.down`, `<module>.up`. */
  parameters(): Map<string, Tensor> {
    const entries = [...this.modules].flatMap(
      ([name, { adapter }]) =>
        [
          [`${name}.down`, adapter.down],
          [`${name}.up`, adapter.up],
        ] as const,
    );
    return new Map(entries);
  }

  [Symbol.dispose](): void {
    for (const { linear, adapter } of this.modules.values()) {
      const index = linear.adapters.indexOf(adapter);
      if (index >= 0) linear.adapters.splice(index, 1);
      for (const tensor of [adapter.down, adapter.up]) {
        tensor.clearGradient();
        tensor[Symbol.dispose]();
      }
    }
    this.modules.clear();
  }
}

/** Puts adapters on `linears` at a strength. Throws `lora.unmatched` with the names where some do not fit. */
export function attachLora(
  linears: ReadonlyMap<string, Linear>,
  values: readonly AdapterValues[],
  strength = 1,
): AttachedLora {
  checkFit(linears, values, {
    message: "the LoRA does not fit this model",
    hint: "is it a LoRA for another Wan model? kinora models inspect FILE tells",
  });
  const attached = new AttachedLora();
  for (const { module, rank, alpha, down, up } of values) {
    const linear = linears.get(module)!;
    const adapter = { ...adapterTensors(linear, rank), scale: (strength * alpha) / rank };
    adapter.down.write(down);
    adapter.up.write(up);
    attached.set(linear, adapter, alpha);
  }
  return attached;
}

export interface FreshLora {
  rank: number;
  /** Default: the rank, so that the scale is 1. */
  alpha?: number;
  /** Which Linears, by official name. */
  select: (name: string) => boolean;
  seed: bigint;
  /** The dropout of the n-th adapter; see Adapter. */
  dropout?: (module: number) => NonNullable<Adapter["dropout"]>;
}

/** The blocks' attention and feed-forward: 10 Linears a block (12 with a CLIP branch). */
export const defaultTargets = /^blocks\.\d+\.(self_attn|cross_attn)\.(q|k|v|o|k_img|v_img)$|^blocks\.\d+\.ffn\.[02]$/;

/**
 * New adapters to train: down Kaiming-uniform with a = √5, that is U(−1/√inputs, 1/√inputs); up zero, so that training
 * starts from the base model (Hu et al., arXiv 2106.09685; kohya's initialisation). Throws
 * `lora.no-target` where nothing is selected; patterns are told one by one in targets.ts.
 */
export function freshLora(
  linears: ReadonlyMap<string, Linear>,
  options: FreshLora,
  uniform: (count: number, module: number) => Float32Array,
): AttachedLora {
  const { rank, alpha = rank, select, dropout } = options;
  const chosen = [...linears].filter(([name]) => select(name));
  if (chosen.length === 0) {
    const [example] = linears.keys();
    throw new KinoraError("lora.no-target", "the pattern selects no Linear layer of this model", {
      hint: `names look like ${example}`,
    });
  }
  const attached = new AttachedLora();
  for (const [index, [, linear]] of chosen.entries()) {
    const tensors = adapterTensors(linear, rank);
    const bound = 1 / Math.sqrt(linear.inputs);
    // A device that only counts keeps no values, and a plan of a large model would spend its time drawing them.
    if (linear.device.computes)
      tensors.down.write(uniform(rank * linear.inputs, index).map((value) => (2 * value - 1) * bound));
    linear.device.kernels.fill(tensors.up, 0);
    tensors.down.requireGradient();
    tensors.up.requireGradient();
    attached.set(linear, { ...tensors, scale: alpha / rank, ...(dropout ? { dropout: dropout(index) } : {}) }, alpha);
  }
  return attached;
}

function adapterTensors(linear: Linear, rank: number): { down: Tensor; up: Tensor } {
  const { device } = linear;
  return {
    down: ownedEmpty(device, [rank, linear.inputs], "f32", "weights"),
    up: ownedEmpty(device, [linear.outputs, rank], "f32", "weights"),
  };
}
