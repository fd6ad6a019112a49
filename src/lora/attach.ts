// Adapters on a model: loaded ones at a strength, fresh ones to train. Not files: see read.ts; not kinds: see adapters/.
import { KinoraError } from "../base/errors.ts";
import type { Adapter } from "../nn/adapter.ts";
import type { Linear } from "../nn/linear.ts";
import type { Parameter } from "../nn/parameter.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Dropout } from "./adapters/kind.ts";
import {
  type AdapterValues,
  attachValues,
  placeOfValues,
  type TrainableKindName,
  trainableKinds,
} from "./adapters/table.ts";
import { checkFit } from "./fit.ts";

/** A model that adapters stand on. */
export interface AdapterHost {
  /** By official name, e.g. `blocks.0.self_attn.q`. */
  linears(): ReadonlyMap<string, Linear>;
  /** What is no Linear's weight, by official name, e.g. `blocks.0.norm3.weight`. */
  parameters(): ReadonlyMap<string, Parameter>;
}

/** Adapters standing on a model; disposing takes them off and frees them. */
export class AttachedLora implements Disposable {
  readonly adapters: { readonly seam: Linear | Parameter; readonly adapter: Adapter }[] = [];

  add(seam: Linear | Parameter, adapter: Adapter): void {
    seam.adapters.push(adapter);
    this.adapters.push({ seam, adapter });
  }

  /** The tensors by name: `<module>.down`, `<module>.up`. */
  parameters(): Map<string, Tensor> {
    return new Map(
      this.adapters.flatMap(({ seam, adapter }) =>
        [...adapter.parameters()].map(([part, tensor]) => [`${seam.name}.${part}`, tensor] as const),
      ),
    );
  }

  [Symbol.dispose](): void {
    for (const { seam, adapter } of this.adapters.splice(0)) {
      const index = seam.adapters.indexOf(adapter);
      if (index >= 0) seam.adapters.splice(index, 1);
      adapter[Symbol.dispose]();
    }
  }
}

/** Every parameter of the model that an adapter may change, by official name. */
function seamsOf(host: AdapterHost): Map<string, Linear | Parameter> {
  const seams = new Map<string, Linear | Parameter>(host.parameters());
  for (const [name, linear] of host.linears()) seams.set(`${name}.weight`, linear);
  return seams;
}

const shapeOf = (seam: Linear | Parameter): readonly number[] =>
  "shape" in seam ? seam.shape : [seam.outputs, seam.inputs];

/**
 * Puts adapters on a model at a strength, in their order and after those that are there. Throws `lora.unmatched` with the
 * names where some do not fit.
 */
export function attachLora(host: AdapterHost, values: readonly AdapterValues[], strength = 1): AttachedLora {
  const seams = seamsOf(host);
  checkFit(new Map([...seams].map(([name, seam]) => [name, shapeOf(seam)])), values.map(placeOfValues), {
    message: "the LoRA does not fit this model",
    hint: "it may be for another Wan model: kinora models inspect FILE shows",
  });
  const attached = new AttachedLora();
  try {
    for (const each of values) {
      const seam = seams.get(placeOfValues(each).parameter)!;
      attached.add(seam, attachValues(seam, each, strength));
    }
  } catch (error) {
    attached[Symbol.dispose]();
    throw error;
  }
  return attached;
}

/** A LoRA to begin training with. */
export interface FreshLora {
  /** Default: `lora`. */
  kind?: TrainableKindName;
  rank: number;
  /** Default: the rank, so that the scale is 1. */
  alpha?: number;
  /** Which Linears, by official name. */
  select: (name: string) => boolean;
  /** The dropout of the n-th adapter. */
  dropout?: (module: number) => Dropout;
}

/** The blocks' attention and feed-forward: 10 Linears a block (12 with a CLIP branch). */
export const defaultTargets = /^blocks\.\d+\.(self_attn|cross_attn)\.(q|k|v|o|k_img|v_img)$|^blocks\.\d+\.ffn\.[02]$/;

/**
 * New adapters to train; training starts from the base model. `uniform` draws the numbers of the n-th adapter in 0…1.
 * Throws `lora.no-target` where nothing is selected; patterns are told one by one in targets.ts.
 */
export function freshLora(
  linears: ReadonlyMap<string, Linear>,
  { kind = "lora", rank, alpha = rank, select, dropout }: FreshLora,
  uniform: (count: number, module: number) => Float32Array,
): AttachedLora {
  const chosen = [...linears].filter(([name]) => select(name));
  if (chosen.length === 0) {
    const [example] = linears.keys();
    throw new KinoraError("lora.no-target", "the pattern matches no linear layer of this model", {
      hint: `names look like ${example}`,
    });
  }
  const attached = new AttachedLora();
  for (const [index, [, linear]] of chosen.entries()) {
    const settings = { rank, alpha, dropout: dropout?.(index) };
    attached.add(
      linear,
      trainableKinds[kind].fresh(linear, settings, (count) => uniform(count, index)),
    );
  }
  return attached;
}
