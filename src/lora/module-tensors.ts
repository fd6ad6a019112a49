// The tensors of one module in a LoRA file, by part, until the adapter kinds have taken what is theirs.
import { elementCount } from "../base/shape.ts";
import type { Expert } from "../models/wan/recognize.ts";
import type { Place } from "./names.ts";

/** Named tensors, from a file or from memory. */
export interface AdapterTensors {
  shape(name: string): readonly number[];
  /** As float32. */
  values(name: string): Float32Array;
}

/** Tensors that were understood and do not go together. */
export interface Refused {
  names: readonly string[];
  module: string;
  why: string;
  expected?: string;
  actual?: string;
}

export class ModuleTensors {
  /** The official name. */
  readonly module: string;
  readonly place: Place;
  readonly expert: Expert | undefined;
  /** What no kind has taken, by part: the tensor's name. */
  readonly parts = new Map<string, string>();
  readonly refused: Refused[] = [];
  readonly #source: AdapterTensors;
  readonly #alphaElsewhere: (rank: number) => number | undefined;

  constructor(
    place: Place,
    expert: Expert | undefined,
    source: AdapterTensors,
    alphaElsewhere: (rank: number) => number | undefined,
  ) {
    this.module = place.module;
    this.place = place;
    this.expert = expert;
    this.#source = source;
    this.#alphaElsewhere = alphaElsewhere;
  }

  has(...parts: string[]): boolean {
    return parts.every((part) => this.parts.has(part));
  }

  /** Removes a part and gives its tensor. It must be there. */
  take(part: string): TakenTensor {
    const name = this.parts.get(part)!;
    this.parts.delete(part);
    return new TakenTensor(name, this.#source);
  }

  /** The module's own α; what its metadata or configuration says; the rank, so that the scale is 1. Takes the tensor. */
  alpha(rank: number): { alpha: number; tensors: string[] } {
    const stored = this.storedAlpha();
    return { alpha: stored.alpha ?? this.#alphaElsewhere(rank) ?? rank, tensors: stored.tensors };
  }

  /** The α tensor's value alone. Takes it. */
  storedAlpha(): { alpha: number | undefined; tensors: string[] } {
    if (!this.parts.has("alpha")) return { alpha: undefined, tensors: [] };
    const tensor = this.take("alpha");
    const alpha = elementCount(tensor.shape) === 1 ? tensor.values()[0]! : Number.NaN;
    if (!Number.isFinite(alpha)) {
      const why = `the alpha of ${this.module} is not a number`;
      this.refused.push({ names: [tensor.name], module: this.module, why, expected: "one finite number" });
    }
    return { alpha, tensors: [tensor.name] };
  }

  refuse(tensors: readonly TakenTensor[], expected: string): void {
    const actual = tensors.map(({ shape }) => `[${shape}]`).join(" and ");
    const names = tensors.map(({ name }) => name);
    this.refused.push({
      names,
      module: this.module,
      why: `the matrices of ${this.module} do not fit together`,
      expected,
      actual,
    });
  }
}

export class TakenTensor {
  readonly name: string;
  readonly #source: AdapterTensors;

  constructor(name: string, source: AdapterTensors) {
    this.name = name;
    this.#source = source;
  }

  get shape(): readonly number[] {
    return this.#source.shape(this.name);
  }

  values(): Float32Array {
    return this.#source.values(this.name);
  }

  /** As a matrix: a convolution's kernel counts to its inputs. Undefined for a scalar, a vector or no elements. */
  get matrix(): readonly [rows: number, columns: number] | undefined {
    const [rows, ...rest] = this.shape;
    const columns = elementCount(rest);
    return rows && rest.length > 0 && columns > 0 ? [rows, columns] : undefined;
  }
}
