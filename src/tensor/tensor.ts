// A tensor: a shape and a dtype over a counted piece of device memory. Not arithmetic: that is ops/.
// Who frees it: the scope it was made in, unless it is kept (see scope.ts), saved by the tape, or a module's own.
import { bytesOf, type DType } from "../base/dtype.ts";
import { KinoraError } from "../base/errors.ts";
import { fromFloat32, toFloat32 } from "../base/float-formats.ts";
import { elementCount, type Shape } from "../base/shape.ts";
import type { Block, Device, MemoryCategory } from "../device/device.ts";
import type { Operand } from "../device/kernels.ts";
import type { Address } from "../ffi/host-memory.ts";
import { adopt } from "./scope.ts";

/** Counted device memory. The last handle to go frees it. */
class Storage {
  readonly device: Device;
  readonly block: Block;
  #handles = 1;

  constructor(device: Device, block: Block) {
    this.device = device;
    this.block = block;
  }

  get handles(): number {
    return this.#handles;
  }

  retain(): this {
    this.#handles++;
    return this;
  }

  release(): void {
    this.#handles--;
    if (this.#handles === 0) this.device.free(this.block);
  }
}

/** Where a gradient is gathered while a tape runs backward. Shared by all handles of one value. */
export interface GradientSlot {
  requiresGrad: boolean;
  /** A leaf's gradient stays until its owner takes or clears it; others live only during backward. */
  leaf: boolean;
  gradient?: Tensor | undefined;
}

/** A shape and a dtype over counted device memory. The scope it was made in frees it, unless it is kept there. */
export class Tensor implements Operand, Disposable {
  readonly offset: number;
  readonly dtype: DType;
  readonly shape: Shape;
  readonly #storage: Storage;
  #open = true;
  /** Set by the tape on outputs it tracks, and by `requireGradient` on leaves. */
  slot: GradientSlot | undefined;

  constructor(storage: Storage, offset: number, dtype: DType, shape: Shape) {
    this.#storage = storage;
    this.offset = offset;
    this.dtype = dtype;
    this.shape = shape;
  }

  get device(): Device {
    return this.#storage.device;
  }

  get block(): Block {
    if (!this.#open) {
      throw new KinoraError("tensor.disposed", `a tensor [${this.shape}] was used after it was freed`, {
        hint: "keep it in an outer scope: scope.keep(tensor)",
      });
    }
    return this.#storage.block;
  }

  /** Number of elements. */
  get size(): number {
    return elementCount(this.shape);
  }

  get byteLength(): number {
    return this.size * bytesOf(this.dtype);
  }

  get requiresGrad(): boolean {
    return this.slot?.requiresGrad ?? false;
  }

  /** True where no other handle shares the memory, so that it may be written in place. */
  get exclusive(): boolean {
    return this.#storage.handles === 1;
  }

  /** Another handle to the same memory, with the same gradient slot, owned by the caller. */
  retain(): Tensor {
    const handle = new Tensor(this.#live().retain(), this.offset, this.dtype, this.shape);
    handle.slot = this.slot;
    return handle;
  }

  /** The same elements under another shape and (byte) offset, in the current scope. Not recorded: see ops/reshape. */
  alias(shape: Shape, elementOffset = 0): Tensor {
    const handle = new Tensor(
      this.#live().retain(),
      this.offset + elementOffset * bytesOf(this.dtype),
      this.dtype,
      shape,
    );
    if (elementOffset < 0 || elementOffset + handle.size > this.size) {
      handle[Symbol.dispose]();
      throw new KinoraError("tensor.alias", "the view is outside its tensor", {
        expected: `at most ${this.size} elements`,
        actual: `[${shape}] at ${elementOffset}`,
      });
    }
    return adopt(this.device, handle);
  }

  /** Rows `start … start+count-1` of the first axis, without a copy. Not recorded: see ops/slice. */
  rows(start: number, count: number): Tensor {
    const rowSize = elementCount(this.shape.slice(1));
    return this.alias([count, ...this.shape.slice(1)], start * rowSize);
  }

  /** Marks a leaf (a parameter): backward gathers its gradient. */
  requireGradient(): this {
    this.slot = { requiresGrad: true, leaf: true };
    return this;
  }

  get gradient(): Tensor | undefined {
    return this.slot?.gradient;
  }

  clearGradient(): void {
    this.slot?.gradient?.[Symbol.dispose]();
    if (this.slot) this.slot.gradient = undefined;
  }

  /** The values as float32, once the work before is done. */
  async read(): Promise<Float32Array> {
    return toFloat32(await this.readBytes(), this.dtype);
  }

  async readBytes(): Promise<Uint8Array> {
    return this.device.download(this.block, this.offset, this.byteLength);
  }

  /** One number: the value of a tensor of one element. */
  async item(): Promise<number> {
    if (this.size !== 1) {
      throw new KinoraError("tensor.item", "item() reads one element", { actual: `[${this.shape}]` });
    }
    return (await this.read())[0]!;
  }

  /** Overwrites the values, rounded to this tensor's dtype. */
  write(values: Float32Array): void {
    if (values.length !== this.size) {
      throw new KinoraError("tensor.write", "wrong number of values", {
        expected: `${this.size} for [${this.shape}]`,
        actual: `${values.length}`,
      });
    }
    this.writeBytes(
      this.dtype === "f32"
        ? new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
        : fromFloat32(values, this.dtype),
    );
  }

  writeBytes(bytes: Uint8Array): void {
    this.device.upload(this.block, this.offset, bytes);
  }

  get disposed(): boolean {
    return !this.#open;
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    this.#storage.release();
  }

  #live(): Storage {
    void this.block;
    return this.#storage;
  }
}

/** Uninitialised, in the device's current scope (the caller's where none is open). */
export function empty(device: Device, shape: Shape, dtype: DType, category: MemoryCategory = "activations"): Tensor {
  return adopt(device, ownedEmpty(device, shape, dtype, category));
}

/** Uninitialised and the caller's to dispose: a module's weights, an optimizer's state. */
export function ownedEmpty(device: Device, shape: Shape, dtype: DType, category: MemoryCategory): Tensor {
  const block = device.alloc(elementCount(shape) * bytesOf(dtype), category);
  return new Tensor(new Storage(device, block), 0, dtype, shape);
}

/** Over host memory that outlives it (a file map), without a copy; undefined where the device cannot. */
export function mapped(device: Device, address: Address, shape: Shape, dtype: DType): Tensor | undefined {
  const block = device.mapHost(address, elementCount(shape) * bytesOf(dtype));
  return block && new Tensor(new Storage(device, block), 0, dtype, shape);
}

/**
 * Float32 values of the host as a tensor in the current scope, rounded to `dtype`.
 * @throws KinoraError `tensor.write` where their number is not the shape's.
 */
export function fromValues(device: Device, values: Float32Array, shape: Shape, dtype: DType = "f32"): Tensor {
  const tensor = empty(device, shape, dtype);
  tensor.write(values);
  return tensor;
}

/** int32 values: token ids. */
export function fromIntegers(device: Device, values: Int32Array, shape: Shape): Tensor {
  const tensor = empty(device, shape, "i32");
  tensor.writeBytes(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  return tensor;
}

/** Every element `value`, in the current scope. */
export function filled(device: Device, shape: Shape, value: number, dtype: DType = "f32"): Tensor {
  const tensor = empty(device, shape, dtype);
  device.kernels.fill(tensor, value);
  return tensor;
}

/** Every element 0, in the current scope. */
export const zeros = (device: Device, shape: Shape, dtype: DType = "f32"): Tensor => filled(device, shape, 0, dtype);
