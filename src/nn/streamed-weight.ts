// A frozen Linear weight that comes and goes: its values lie in a file, and on the device only while they are needed.
// When it comes is not decided here: residency.ts.
import type { BlockFormat } from "../base/block-format.ts";
import type { DType } from "../base/dtype.ts";
import { KinoraError } from "../base/errors.ts";
import type { Device } from "../device/device.ts";
import type { LinearWeight, PackedWeight } from "../device/kernels.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { FrozenWeight } from "./frozen-weight.ts";

/** A Linear's frozen weight, there for good or not. */
export type LayerWeight = FrozenWeight | StreamedWeight;

/** A device, or a stream of it. */
export type Uploader = Pick<Device, "upload">;

/** Where a weight is brought from, and what it becomes. */
export interface WeightSource {
  readonly dtype: DType;
  readonly blocks?: BlockFormat | undefined;
  /** Bytes of memory while it is there, the file's own pages among them. */
  readonly bytes: number;
  /** Bytes of what `fetch` gives: none where it is mapped, since no page of it was read. */
  readonly fetchedBytes: number;
  /** Most bytes while the form is made of that. */
  readonly mostBytes: number;
  /** Has the file's pages read from the disk. */
  readAhead(): void;
  /** The stored values: mapped, or in memory that `by`, the device or a stream of it, fills. */
  fetch(by: Uploader): Tensor;
  /** The form that products take; `values` are its own from now on. */
  make(values: Tensor): FrozenWeight;
  /** The file's pages need not stay in memory. */
  left(): void;
}

export class StreamedWeight implements LinearWeight, Disposable {
  readonly name: string;
  readonly shape: readonly [outputs: number, inputs: number];
  readonly #device: Device;
  readonly #source: WeightSource;
  #coming: Tensor | undefined;
  #here: FrozenWeight | undefined;

  constructor(device: Device, name: string, shape: readonly [number, number], source: WeightSource) {
    this.#device = device;
    this.name = name;
    this.shape = shape;
    this.#source = source;
  }

  get dtype(): DType {
    return this.#source.dtype;
  }

  get blocks(): BlockFormat | undefined {
    return this.#source.blocks;
  }

  get plain(): Tensor | undefined {
    return this.#present().plain;
  }

  get scale(): Tensor | undefined {
    return this.#present().scale;
  }

  get packed(): PackedWeight | undefined {
    return this.#present().packed;
  }

  get state(): "away" | "coming" | "here" {
    return this.#here ? "here" : this.#coming ? "coming" : "away";
  }

  /** Bytes of memory it takes now. */
  get held(): number {
    return this.#here ? this.bytes : this.#coming ? this.fetchedBytes : 0;
  }

  /** Bytes of memory it takes while it is here, when it was fetched, and at most on the way. */
  get bytes(): number {
    const packed = this.#here?.packed?.block.size ?? 0;
    return Math.max(packed, this.#source.bytes);
  }

  get fetchedBytes(): number {
    return this.#source.fetchedBytes;
  }

  get mostBytes(): number {
    return this.#source.mostBytes;
  }

  /** Has the file's pages on their way from the disk; takes no memory on the device. */
  readAhead(): void {
    if (this.state === "away") this.#source.readAhead();
  }

  /** Begins to bring the values. Where `by` is a stream, the device waits for an event of it before `land`. */
  fetch(by: Uploader): void {
    if (this.state === "away") this.#coming = this.#source.fetch(by);
  }

  /** Makes the form that products take of what came. */
  land(): void {
    if (!this.#coming) return;
    const values = this.#coming;
    this.#coming = undefined;
    this.#here = this.#source.make(values);
  }

  /** Frees its memory; it can come again. */
  evict(): void {
    if (this.state === "away") return;
    this.#coming?.[Symbol.dispose]();
    this.#here?.[Symbol.dispose]();
    this.#coming = undefined;
    this.#here = undefined;
    this.#source.left();
  }

  /** The values in `dtype` [N, K], in the current scope; a weight that is away comes for this alone. */
  values(dtype: DType): Tensor {
    if (this.#here) return this.#here.values(dtype);
    using weight = this.#source.make(this.#source.fetch(this.#device));
    return weight.values(dtype);
  }

  #present(): FrozenWeight {
    if (this.#here) return this.#here;
    throw new KinoraError("weights.away", `${this.name} was used while it is not in memory`, {
      hint: "its block is acquired first, and for a gradient the block is computed again (recompute)",
    });
  }

  [Symbol.dispose](): void {
    this.evict();
  }
}
