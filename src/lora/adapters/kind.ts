// What an adapter kind is: one file that knows its tensors, its mathematics and its form in files, and a row in table.ts.
import type { z } from "zod";
import type { DType } from "../../base/dtype.ts";
import type { Shape } from "../../base/shape.ts";
import type { Adapter } from "../../nn/adapter.ts";
import type { Linear } from "../../nn/linear.ts";
import type { Parameter } from "../../nn/parameter.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { FileTensor, FileTensorOptions } from "../file-tensor.ts";
import type { LoraFormat } from "../key-formats.ts";
import type { ModuleTensors } from "../module-tensors.ts";

/** What an adapter changes: an official parameter, and the shape it was made for (a convolution's may be flattened). */
export interface AdapterPlace {
  readonly parameter: string;
  readonly shape: readonly number[];
}

/** An adapter found in a file: known from names, shapes and scalars, its values read when they are asked for. */
export interface Found<V> {
  /** The row of the table that its values belong to. */
  readonly kind: string;
  readonly place: AdapterPlace;
  readonly rank?: number;
  /** What divides by the rank; the rank itself where nothing says otherwise, so that the scale is 1. */
  readonly alpha?: number;
  /** Names of its tensors in the file. */
  readonly tensors: readonly string[];
  /** While the file is open. */
  load(): V;
}

/** A kind of adapter as a row of the table: how it is recognised, read, applied and written. */
export interface AdapterKind<V> {
  /** As people call it. */
  readonly label: string;
  /** Endings of its tensors' names in every tool's form, each with the part it is. Parts are the same word in all kinds. */
  readonly parts: readonly (readonly [ending: RegExp, part: string])[];
  /** Takes what is its own among a module's tensors; tensors that do not go together are told to `module.refuse`. */
  find(module: ModuleTensors): Found<unknown>[];
  place(values: V): AdapterPlace;
  /** Stands values on a parameter, not yet in its list. The tensors are float32 and the adapter's own. */
  attach(seam: Linear | Parameter, values: V, strength: number): Adapter;
  /** As a file holds them under a tool's names. Throws `lora.no-form` where that tool has no form for it. */
  tensors(values: V, format: LoraFormat, options: FileTensorOptions): FileTensor[];
  /** ‖change‖ per element of its matrices, an upper bound: enough to compare files and groups. */
  strength(values: V): number;
}

/** A kind that trains: fresh adapters from settings, and values from the parameters that a run saved. */
export interface TrainableKind<V, S extends z.ZodObject> extends AdapterKind<V> {
  /** In a line. */
  readonly help: string;
  /** What a training configuration says of it; `alpha` defaults to the rank. */
  readonly settings: S;
  /** In words, defaults that the shape does not have. */
  readonly presets: Readonly<Record<string, string>>;
  /** As training starts: it changes nothing yet. `uniform` draws the module's numbers in 0…1. */
  fresh(linear: Linear, settings: FreshAdapter, uniform: (count: number) => Float32Array): Adapter;
  /** Names of the trained parts; `<module>.<part>` in a run's state. */
  readonly trained: readonly string[];
  /** Those of them that LoRA+ gives a higher learning rate. */
  readonly faster?: readonly string[];
  fromTrained(module: string, alpha: number, part: (name: string) => TrainedPart): V;
}

/** What a fresh adapter is made from, besides its layer. */
export interface FreshAdapter {
  rank: number;
  alpha: number;
  /** While training: what the hidden values are multiplied with; see step/dropout. */
  dropout?: Dropout | undefined;
}

/** A mask of this shape and dtype for the hidden values, or undefined to leave them. */
export type Dropout = (shape: Shape, dtype: DType) => Tensor | undefined;

export interface TrainedPart {
  readonly shape: readonly number[];
  /** Read anew at each call. */
  values(): Float32Array;
}
