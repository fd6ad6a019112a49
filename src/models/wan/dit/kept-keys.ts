// Keys and values that the blocks make of a text (and of a picture's CLIP features), kept from one pass of a film to the
// next: latents and timesteps do not change them. What is kept has the bits that would be computed again.
import type { Adapter } from "../../../nn/adapter.ts";
import { FrozenWeight } from "../../../nn/frozen-weight.ts";
import type { Linear } from "../../../nn/linear.ts";
import type { Parameter } from "../../../nn/parameter.ts";
import { Tensor } from "../../../tensor/tensor.ts";

/** [B, rows, heads, headDim] each. */
export interface Keys {
  readonly k: Tensor;
  readonly v: Tensor;
}

/** What a block attends to beside its own tokens. */
export interface ContextKeys {
  readonly text: Keys;
  readonly image?: Keys;
}

/** The parameters of a model, and the adapters on them. */
interface Parameters {
  linears(): ReadonlyMap<string, Linear>;
  parameters(): ReadonlyMap<string, Parameter>;
}

/**
 * Of one text and one picture. The transformer fills it in a pass and reads it in the next; with other weights or adapters it
 * begins anew, and while something trains it stays empty. Whoever writes into frozen weights in place calls `forget`, and so
 * does who needs it no longer.
 */
export class KeptKeys {
  readonly #blocks = new Map<object, ContextKeys>();
  #weights: readonly object[] = [];

  /** Of how many blocks. */
  get size(): number {
    return this.#blocks.size;
  }

  /** Whether keys can be kept for these weights; forgets what was made with others. */
  follow(model: Parameters): boolean {
    const weights = frozenWeights(model);
    if (weights?.length !== this.#weights.length || weights.some((weight, i) => weight !== this.#weights[i])) {
      this.forget();
    }
    this.#weights = weights ?? [];
    return weights !== undefined;
  }

  /** Those of a block, made by `compute` where they are not kept yet. They stay this object's. */
  of(block: object, compute: () => ContextKeys): ContextKeys {
    const known = this.#blocks.get(block);
    if (known) return known;
    const { text, image } = compute();
    const keys = { text: retained(text), ...(image ? { image: retained(image) } : {}) };
    this.#blocks.set(block, keys);
    return keys;
  }

  forget(): void {
    for (const keys of this.#blocks.values()) {
      for (const { k, v } of Object.values(keys) as Keys[]) {
        k[Symbol.dispose]();
        v[Symbol.dispose]();
      }
    }
    this.#blocks.clear();
  }
}

const retained = ({ k, v }: Keys): Keys => ({ k: k.retain(), v: v.retain() });

/** Everything that tells one state of a model's weights from another; undefined where some of it trains. */
function frozenWeights(model: Parameters): readonly object[] | undefined {
  const weights: object[] = [model];
  for (const { weight, adapters } of model.linears().values()) {
    if (trains(adapters) || (weight instanceof Tensor && weight.requiresGrad)) return undefined;
    // Merged adapters change a weight's values and so its form.
    weights.push(weight instanceof FrozenWeight ? (weight.plain ?? weight.packed!) : weight, ...adapters);
  }
  for (const parameter of model.parameters().values()) {
    const { adapters } = parameter;
    if (adapters.length === 0 ? parameter.value.requiresGrad : trains(adapters)) return undefined;
    weights.push(parameter, ...adapters);
  }
  return weights;
}

const trains = (adapters: readonly Adapter[]): boolean =>
  adapters.some((adapter) => [...adapter.parameters().values()].some(({ requiresGrad }) => requiresGrad));
