// Kernels by name, and their launches: parameters are written into one buffer that the driver reads before it returns.
import { KinoraError } from "../../base/errors.ts";
import type { CudaDriver, CudaHandle } from "../../ffi/cuda-driver.ts";
import { type Address, releaseMemory, reserveMemory, viewBytes } from "../../ffi/host-memory.ts";

/** Threads of a block unless a kernel says otherwise. */
export const THREADS = 256;

/**
 * A kernel's parameters, a letter each: `p` a pointer, `i` an int32, `l` an int64, `f` a float, and `s` a struct of at
 * most 128 bytes, given as its bytes.
 */
export type Signature = string;

export type Argument = number | bigint | Uint8Array;

export interface Kernel {
  readonly name: string;
  readonly signature: Signature;
  readonly threads: number;
  /** Bytes of dynamic shared memory. */
  readonly shared: number;
  readonly handle: CudaHandle;
}

/** Where a file's machine code comes from: compiled, cached or shipped. */
export type Images = (file: string) => Uint8Array;

const MOST_PARAMETERS = 32;
const CELL = 8;
const STRUCT_BYTES = 128;
const MOST_GRID = 65535;

export class Launcher {
  readonly #driver: CudaDriver;
  readonly #stream: CudaHandle;
  readonly #images: Images;
  readonly #modules = new Map<string, CudaHandle>();
  readonly #kernels = new Map<string, Kernel>();
  /** Pointers to parameters, then their cells, then room for structs. */
  readonly #memory: Address;
  readonly #size = MOST_PARAMETERS * (CELL + CELL + STRUCT_BYTES);
  readonly #view: DataView;
  readonly #bytes: Uint8Array;

  constructor(driver: CudaDriver, stream: CudaHandle, images: Images) {
    this.#driver = driver;
    this.#stream = stream;
    this.#images = images;
    this.#memory = reserveMemory(this.#size);
    this.#bytes = viewBytes(this.#memory, this.#size);
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#size);
  }

  /** A kernel of `kernels/cuda/FILE.cu`; found once. */
  kernel(
    file: string,
    name: string,
    signature: Signature,
    { threads = THREADS, shared = 0 }: { threads?: number; shared?: number } = {},
  ): Kernel {
    const key = `${name}:${shared}`;
    const known = this.#kernels.get(key);
    if (known) return known;
    if (signature.length > MOST_PARAMETERS) {
      throw new KinoraError("cuda.launch", `${name} has more than ${MOST_PARAMETERS} parameters`);
    }
    const handle = this.#driver.function(this.#module(file), name, shared);
    const made = { name, signature, threads, shared, handle };
    this.#kernels.set(key, made);
    return made;
  }

  #module(file: string): CudaHandle {
    let module = this.#modules.get(file);
    if (module === undefined) {
      module = this.#driver.handle("cuModuleLoadData", this.#images(file));
      this.#modules.set(file, module);
    }
    return module;
  }

  /** Launches `grid` blocks. A grid without a block is nothing to do. */
  launch(
    { name, signature, threads, shared, handle }: Kernel,
    grid: number | readonly [x: number, y: number, z?: number],
    ...values: readonly Argument[]
  ): void {
    const [x, y, z = 1] = typeof grid === "number" ? ([grid, 1, 1] as const) : grid;
    if (x === 0 || y === 0 || z === 0) return;
    if (y > MOST_GRID || z > MOST_GRID || x > 2 ** 31 - 1) {
      throw new KinoraError("cuda.launch", `${name} needs more blocks than a launch allows`, {
        expected: `2147483647 by ${MOST_GRID} by ${MOST_GRID}`,
        actual: `${x} by ${y} by ${z}`,
        hint: "use a smaller size or fewer frames",
      });
    }
    if (values.length !== signature.length) {
      throw new KinoraError("cuda.launch", `${name} takes ${signature.length} parameters, not ${values.length}`);
    }
    this.#write(signature, values);
    const { calls } = this.#driver;
    const status = calls.cuLaunchKernel(handle, x, y, z, threads, 1, 1, shared, this.#stream, this.#memory, 0);
    this.#driver.check("cuLaunchKernel", status);
  }

  #write(signature: Signature, values: readonly Argument[]): void {
    const view = this.#view;
    for (let i = 0; i < signature.length; i++) {
      const value = values[i]!;
      const isStruct = signature[i] === "s";
      const at = isStruct ? MOST_PARAMETERS * 2 * CELL + i * STRUCT_BYTES : MOST_PARAMETERS * CELL + i * CELL;
      const pointer = this.#memory + at;
      view.setUint32(i * CELL, pointer >>> 0, true);
      view.setUint32(i * CELL + 4, Math.floor(pointer / 2 ** 32), true);
      if (isStruct) {
        this.#bytes.set(value as Uint8Array, at);
        continue;
      }
      switch (signature[i]) {
        case "i":
          view.setInt32(at, value as number, true);
          break;
        case "f":
          view.setFloat32(at, value as number, true);
          break;
        default: {
          // Two halves: a bigint would cost an allocation. Negative numbers of 64 bits borrow from the upper half.
          const number = value as number;
          view.setUint32(at, number >>> 0, true);
          view.setInt32(at + 4, Math.floor(number / 2 ** 32), true);
        }
      }
    }
  }

  [Symbol.dispose](): void {
    for (const module of this.#modules.values()) this.#driver.calls.cuModuleUnload(module);
    this.#modules.clear();
    this.#kernels.clear();
    releaseMemory(this.#memory, this.#size);
  }
}
