// What a conformance case works with: operands with known values on one device, surrounded by guard bytes, and a
// comparison in relative error. Every bench ends at the live bytes it began with.
import { expect } from "vitest";
import { bytesOf, type DType, dtypes } from "../../../src/base/dtype.ts";
import { fromFloat32, toFloat32 } from "../../../src/base/float-formats.ts";
import { elementCount } from "../../../src/base/shape.ts";
import type { KernelName } from "../../../src/device/check-operands.ts";
import type { Block, Device } from "../../../src/device/device.ts";
import type { Kernels, Operand } from "../../../src/device/kernels.ts";

/** An operand and the values it was made with, as its dtype holds them. */
export interface Known extends Operand {
  readonly values: Float64Array;
}

/** Relative error allowed by the narrowest float dtype that takes part. */
export const tolerances: Readonly<Partial<Record<DType, number>>> = { f64: 1e-6, f32: 1e-5, f16: 2e-3, bf16: 1e-2 };

/** ‖out − ref‖ / ‖ref‖; the plain distance where the reference is zero. */
export function relativeError(out: ArrayLike<number>, reference: ArrayLike<number>): number {
  expect(out.length).toBe(reference.length);
  let [distance, norm] = [0, 0];
  for (let i = 0; i < out.length; i++) {
    distance += (out[i]! - reference[i]!) ** 2;
    norm += reference[i]! ** 2;
  }
  return Math.sqrt(distance) / (norm === 0 ? 1 : Math.sqrt(norm));
}

/** Numbers that repeat from run to run: mulberry32. */
function uniforms(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function toBytes(values: Float64Array, dtype: DType): Uint8Array {
  if (dtype === "f64") return new Uint8Array(values.slice().buffer);
  if (dtype === "i64") return new Uint8Array(BigInt64Array.from(values, (value) => BigInt(Math.trunc(value))).buffer);
  if (dtype === "bool") return Uint8Array.from(values, (value) => (value === 0 ? 0 : 1));
  if (dtype === "i32") return new Uint8Array(Int32Array.from(values).buffer);
  return fromFloat32(Float32Array.from(values), dtype);
}

function toValues(bytes: Uint8Array, dtype: DType): Float64Array {
  const copy = bytes.slice();
  if (dtype === "f64") return new Float64Array(copy.buffer);
  if (dtype === "i32") return Float64Array.from(new Int32Array(copy.buffer));
  return Float64Array.from(toFloat32(copy, dtype));
}

function counting(kernels: Kernels, calls: Map<KernelName, number>): Kernels {
  return new Proxy(kernels, {
    get(target, name: KernelName) {
      calls.set(name, (calls.get(name) ?? 0) + 1);
      return target[name];
    },
  });
}

/** An operand as tensors are: its fields belong to its class, and a spread copies none of them. */
class Placed implements Known {
  readonly #fields: Known;
  constructor(fields: Known) {
    this.#fields = fields;
  }
  get block() {
    return this.#fields.block;
  }
  get offset() {
    return this.#fields.offset;
  }
  get dtype() {
    return this.#fields.dtype;
  }
  get shape() {
    return this.#fields.shape;
  }
  get values() {
    return this.#fields.values;
  }
}

const GUARD = 64;
const GUARD_BYTE = 0xa5;

export class Bench {
  readonly device: Device;
  /** False for a device that only counts. */
  readonly computes: boolean;
  readonly kernels: Kernels;
  readonly #liveBefore: number;
  readonly #blocks: { block: Block; bytes: number }[] = [];
  readonly #random = uniforms(12345);

  /** `calls` counts the kernels asked for, over all benches that share it. */
  constructor(device: Device, calls: Map<KernelName, number>) {
    this.device = device;
    this.kernels = counting(device.kernels, calls);
    this.computes = device.computes;
    this.#liveBefore = device.memory().live;
  }

  from(values: ArrayLike<number>, shape: readonly number[], dtype: DType = "f32"): Known {
    expect(values.length).toBe(elementCount(shape));
    const bytes = toBytes(Float64Array.from(values), dtype);
    return this.#place(bytes, shape, dtype);
  }

  /** Normal values of the given spread (integers up to it for integer dtypes). */
  random(shape: readonly number[], dtype: DType = "f32", spread = 1): Known {
    const normal = () => Math.sqrt(-2 * Math.log(1 - this.#random())) * Math.cos(2 * Math.PI * this.#random()) * spread;
    const integer = () => Math.floor(this.#random() * (2 * spread + 1)) - spread;
    const draw = dtypes[dtype].floating ? normal : integer;
    return this.from(Float64Array.from({ length: elementCount(shape) }, draw), shape, dtype);
  }

  /** To be written: holds NaN (floats) or −1 until then. */
  blank(shape: readonly number[], dtype: DType = "f32"): Operand {
    return this.#place(new Uint8Array(elementCount(shape) * bytesOf(dtype)).fill(0xff), shape, dtype);
  }

  /** A copy that a kernel may overwrite. */
  copyOf(known: Known): Known {
    return this.from(known.values, known.shape, known.dtype);
  }

  async read(operand: Operand): Promise<Float64Array> {
    const bytes = elementCount(operand.shape) * bytesOf(operand.dtype);
    return toValues(await this.device.download(operand.block, operand.offset, bytes), operand.dtype);
  }

  /** `reference` is computed only where the device computes. */
  async expectClose(
    operand: Operand,
    reference: () => ArrayLike<number>,
    involved: readonly DType[] = [],
  ): Promise<void> {
    const values = await this.read(operand);
    if (!this.computes) return;
    const tolerance = Math.max(...[operand.dtype, ...involved].map((dtype) => tolerances[dtype] ?? 0));
    expect(relativeError(values, reference())).toBeLessThanOrEqual(tolerance);
  }

  async expectEqual(operand: Operand, reference: () => ArrayLike<number>): Promise<void> {
    const values = await this.read(operand);
    if (this.computes) expect(Array.from(values)).toEqual(Array.from(reference()));
  }

  free(block: Block): void {
    this.device.free(block);
  }

  /** Frees all operands; fails on a write outside one, and on memory that was not given back. */
  async close(): Promise<void> {
    for (const { block, bytes } of this.#blocks) {
      if (this.computes) {
        const before = await this.device.download(block, 0, GUARD);
        const after = await this.device.download(block, GUARD + bytes, GUARD);
        expect(
          [...before, ...after].every((byte) => byte === GUARD_BYTE),
          "a kernel wrote outside an operand",
        ).toBe(true);
      }
      this.device.free(block);
    }
    this.#blocks.length = 0;
    expect(this.device.memory().live).toBe(this.#liveBefore);
  }

  #place(bytes: Uint8Array, shape: readonly number[], dtype: DType): Known {
    const block = this.device.alloc(GUARD + bytes.length + GUARD, "activations");
    const guarded = new Uint8Array(GUARD + bytes.length + GUARD).fill(GUARD_BYTE);
    guarded.set(bytes, GUARD);
    this.device.upload(block, 0, guarded);
    this.#blocks.push({ block, bytes: bytes.length });
    return new Placed({ block, offset: GUARD, dtype, shape, values: toValues(bytes, dtype) });
  }
}

export interface Case {
  readonly name: string;
  run(bench: Bench): Promise<void>;
}

/** The gradient of Σ dy·f(inputs) by input `which`: central differences in float64. */
export function numericalGradient(
  f: (inputs: Float64Array[]) => Float64Array,
  inputs: readonly Float64Array[],
  which: number,
  dy: Float64Array,
): Float64Array {
  const moved = inputs.map((values) => values.slice());
  const loss = () => f(moved).reduce((sum, value, i) => sum + value * dy[i]!, 0);
  return inputs[which]!.map((value, i) => {
    const step = 1e-5 * Math.max(1, Math.abs(value));
    moved[which]![i] = value + step;
    const above = loss();
    moved[which]![i] = value - step;
    const below = loss();
    moved[which]![i] = value;
    return (above - below) / (2 * step);
  });
}
