// What the kernels of the cuda device share: launching, temporaries, addresses, small tables on the card.
import { bytesOf, type DType } from "../../base/dtype.ts";
import { KinoraError } from "../../base/errors.ts";
import { elementCount, type Shape } from "../../base/shape.ts";
import type { CublasLt } from "../../ffi/cublaslt.ts";
import type { CudaHandle, DeviceAddress } from "../../ffi/cuda-driver.ts";
import type { Operand, RowRuns } from "../kernels.ts";
import { type Launcher, THREADS } from "./launch.ts";
import { type CudaMemory, cudaBlock } from "./memory.ts";

/** Numbers that kernels know dtypes by (kernels/cuda/device.cuh). */
export const dtypeCodes: Readonly<Record<DType, number>> = {
  f32: 0,
  bf16: 1,
  f16: 2,
  f8e4m3: 3,
  f8e5m2: 4,
  i8: 5,
  u8: 6,
  i32: 7,
  i64: 8,
  bool: 9,
  f64: 10,
  i16: 11,
};

/** Neighbours that a thread of most kernels takes at once (device.cuh, Eight). */
export const EIGHT = 8;

/** The parts of a device that kernels are written against; plans put others in their place. */
export interface CudaContextParts {
  cublas: Pick<CublasLt, "prepare" | "run" | "forget">;
  launcher: Pick<Launcher, "kernel" | "launch">;
  memory: Pick<CudaMemory, "alloc" | "free" | "permanent">;
  stream: CudaHandle;
  multiprocessors: number;
  /** e.g. 90 for compute capability 9.0. */
  capability: number;
  /** Products of float32 on tensor cores, with factors of 10 bits of mantissa. */
  tf32?: boolean;
  /** Copies a few bytes into the card's memory, in order with the kernels. */
  uploadSmall(target: DeviceAddress, bytes: Uint8Array): void;
}

/** A temporary of the device; freed when it goes out of scope, which is safe since work on a stream is in order. */
export interface Temporary extends Operand, Disposable {}

export class CudaContext {
  readonly cublas: CudaContextParts["cublas"];
  readonly launcher: CudaContextParts["launcher"];
  readonly memory: CudaContextParts["memory"];
  readonly stream: CudaHandle;
  readonly multiprocessors: number;
  readonly capability: number;
  readonly tf32: boolean;
  readonly #upload: CudaContextParts["uploadSmall"];
  readonly #held = new Set<Temporary>();

  constructor(parts: CudaContextParts) {
    this.cublas = parts.cublas;
    this.launcher = parts.launcher;
    this.memory = parts.memory;
    this.stream = parts.stream;
    this.multiprocessors = parts.multiprocessors;
    this.capability = parts.capability;
    this.tf32 = parts.tf32 ?? false;
    this.#upload = parts.uploadSmall;
  }

  /** Blocks for a loop over `count` elements that all threads share, some at a time: as many as keep the card busy. */
  blocksFor(count: number, perThread = 1): number {
    return Math.min(Math.ceil(count / (perThread * THREADS)), this.multiprocessors * 16);
  }

  /** Where an operand's first element lies. */
  address({ block, offset }: Operand): DeviceAddress {
    return (cudaBlock(block).address + offset) as DeviceAddress;
  }

  /** The same, or null for what is absent. */
  optional(operand: Operand | undefined): DeviceAddress {
    return operand ? this.address(operand) : (0 as DeviceAddress);
  }

  temporary(dtype: DType, shape: Shape): Temporary {
    const block = this.memory.alloc(elementCount(shape) * bytesOf(dtype), "workspace");
    const made: Temporary = {
      block,
      offset: 0,
      dtype,
      shape,
      [Symbol.dispose]: () => {
        if (this.#held.delete(made)) this.memory.free(block);
      },
    };
    this.#held.add(made);
    return made;
  }

  /** Runs a kernel; where it throws half-way, what it holds is freed. */
  whole<T>(kernel: () => T): T {
    try {
      return kernel();
    } catch (error) {
      for (const temporary of this.#held) temporary[Symbol.dispose]();
      throw error;
    }
  }

  /** Integers on the card for the launches that follow. */
  table(values: Int32Array): Temporary {
    const made = this.temporary("i32", [Math.max(1, values.length)]);
    if (values.length > 0) {
      this.#upload(this.address(made), new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    }
    return made;
  }

  /** A table of floats that stays as long as the device, and counts as the driver's. */
  floats(values: Float32Array): Operand {
    const block = this.memory.permanent(values.byteLength);
    const made: Operand = { block, offset: 0, dtype: "f32", shape: [values.length] };
    this.#upload(this.address(made), new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    return made;
  }

  /** Runs as kernels read them: pairs (first row, table row), in order. */
  runs(runs: RowRuns): Temporary {
    return this.table(Int32Array.from(runs.flatMap(({ start, row }) => [start, row])));
  }

  /** Throws `kernel.dtype` for a format that kernels of this kind do not take. */
  expectDtype(what: string, operand: Operand, allowed: readonly DType[]): void {
    if (allowed.includes(operand.dtype)) return;
    throw new KinoraError("kernel.dtype", `${what} is in a format the cuda device does not take here`, {
      expected: allowed.join(", "),
      actual: operand.dtype,
    });
  }
}

/** A part of an operand, or all of it under another shape. Operands may be tensors, whose fields no spread copies. */
export const viewOf = (
  { block, offset, dtype, shape }: Operand,
  changes: { offset?: number; shape?: Shape },
): Operand => ({ block, offset, dtype, shape, ...changes });

/** A view of an operand under another shape of as many elements. */
export const reshaped = (operand: Operand, shape: Shape): Operand => viewOf(operand, { shape });
