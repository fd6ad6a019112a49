// cuBLASLt through koffi: matrix products on a card. Matrices are column-major here, as the library has them; the device
// turns ours over. Numbers of attributes: cublasLt.h; they are stable across versions 11 to 13.
import koffi, { type LibraryHandle } from "koffi";
import { KinoraError } from "../base/errors.ts";
import type { CudaHandle, DeviceAddress } from "./cuda-driver.ts";

/** cudaDataType_t. */
export const dataTypes = { f32: 0, f16: 2, bf16: 14, f8e4m3: 28, f8e5m2: 29 } as const;
export type CublasType = keyof typeof dataTypes;

/** cublasComputeType_t: float32 accumulation, exact or with operands rounded to 19 bits. */
export const computeTypes = { f32: 68, tf32: 77 } as const;

/** cublasLtEpilogue_t, as bits: bias, then tanh GELU. */
export const epilogues = { none: 1, bias: 4, gelu: 32, geluBias: 36 } as const;

const F32 = dataTypes.f32;
const descriptor = { transposeA: 3, transposeB: 4, epilogue: 7, bias: 8, biasType: 26 } as const;
const layout = { batch: 5, stride: 6 } as const;
const preference = { workspace: 1, alignments: { a: 5, b: 6, c: 7, out: 8 } } as const;
/** What the library takes for granted of addresses that it is told nothing of; the most that it is told. */
export const MOST_ALIGNMENT = 256;
/** sizeof(cublasLtMatmulHeuristicResult_t): 64 bytes of algorithm, workspace, state, waves, reserved. */
const HEURISTIC_BYTES = 96;
const ALGORITHM_BYTES = 64;

export interface MatrixLayout {
  type: CublasType;
  rows: number;
  columns: number;
  /** Elements from column to column. */
  leading: number;
  batch?: number;
  /** Elements from matrix to matrix. */
  stride?: number;
}

export interface ProductShape {
  a: MatrixLayout;
  b: MatrixLayout;
  out: MatrixLayout;
  transposeA: boolean;
  transposeB: boolean;
  compute: keyof typeof computeTypes;
  epilogue: keyof typeof epilogues;
  /** The library adds a bias of the result's own format. */
  biasType?: CublasType;
  /** Bytes an algorithm may use beside. */
  workspace: number;
  /** Powers of two up to 256 that the addresses are multiples of. */
  alignments: { a: number; b: number; out: number };
}

/** A product that has been prepared: descriptors and the algorithm that the library chose. */
export interface Product {
  readonly workspaceBytes: number;
  readonly handles: {
    readonly operation: CudaHandle;
    readonly a: CudaHandle;
    readonly b: CudaHandle;
    readonly out: CudaHandle;
  };
  readonly algorithm: Uint8Array;
  readonly hasBias: boolean;
}

export class CublasLt {
  readonly path: string;
  readonly version: number;
  readonly #functions: ReturnType<typeof functionsOf>;
  readonly #handle: CudaHandle;
  readonly #scalar = new Float32Array(2);
  readonly #pointer = new BigUint64Array(1);

  private constructor(path: string, library: LibraryHandle) {
    this.path = path;
    this.#functions = functionsOf(library);
    this.version = Number(this.#functions.version());
    const handle = [0];
    this.#check("cublasLtCreate", this.#functions.create(handle));
    this.#handle = handle[0]!;
  }

  /** With a current context. Throws `cuda.no-cublas`. */
  static open(path: string): CublasLt {
    try {
      return new CublasLt(path, koffi.load(path));
    } catch (cause) {
      if (cause instanceof KinoraError) throw cause;
      throw new KinoraError("cuda.no-cublas", `${path} cannot be used as cuBLASLt: ${(cause as Error).message}`, {
        hint: "pip install nvidia-cublas, or set KINORA_CUBLASLT to the library",
        cause,
      });
    }
  }

  /** Describes a product and asks the library for its best algorithm. Undefined where it has none. */
  prepare(shape: ProductShape): Product | undefined {
    const api = this.#functions;
    const operation = this.#made("cublasLtMatmulDescCreate", (out) =>
      api.descCreate(out, computeTypes[shape.compute], F32),
    );
    const set = (attribute: number, value: Int32Array): void =>
      this.#check("cublasLtMatmulDescSetAttribute", api.descSet(operation, attribute, value, value.byteLength));
    set(descriptor.transposeA, Int32Array.of(shape.transposeA ? 1 : 0));
    set(descriptor.transposeB, Int32Array.of(shape.transposeB ? 1 : 0));
    set(descriptor.epilogue, Int32Array.of(epilogues[shape.epilogue]));
    const hasBias = shape.epilogue === "bias" || shape.epilogue === "geluBias";
    if (hasBias && shape.biasType) set(descriptor.biasType, Int32Array.of(dataTypes[shape.biasType]));
    const [a, b, out] = [this.#layout(shape.a), this.#layout(shape.b), this.#layout(shape.out)];
    const wish = this.#made("cublasLtMatmulPreferenceCreate", (result) => api.preferenceCreate(result));
    const prefer = (attribute: number, value: BigUint64Array | Uint32Array): void =>
      this.#check("cublasLtMatmulPreferenceSetAttribute", api.preferenceSet(wish, attribute, value, value.byteLength));
    prefer(preference.workspace, BigUint64Array.of(BigInt(shape.workspace)));
    const { alignments } = preference;
    prefer(alignments.a, Uint32Array.of(shape.alignments.a));
    prefer(alignments.b, Uint32Array.of(shape.alignments.b));
    for (const attribute of [alignments.c, alignments.out]) prefer(attribute, Uint32Array.of(shape.alignments.out));
    const result = new Uint8Array(HEURISTIC_BYTES);
    const found = [0];
    const status = api.heuristic(this.#handle, operation, a, b, out, out, wish, 1, result, found);
    api.preferenceDestroy(wish);
    const view = new DataView(result.buffer);
    // The result has a status of its own.
    if (status !== 0 || found[0] === 0 || view.getInt32(ALGORITHM_BYTES + 8, true) !== 0) {
      for (const handle of [a, b, out]) api.layoutDestroy(handle);
      api.descDestroy(operation);
      return undefined;
    }
    const workspaceBytes = Number(view.getBigUint64(ALGORITHM_BYTES, true));
    return { workspaceBytes, handles: { operation, a, b, out }, algorithm: result.slice(0, ALGORITHM_BYTES), hasBias };
  }

  /** out = epilogue(alpha·op(A)·op(B) + beta·out), on `stream`. */
  run(
    product: Product,
    operands: {
      a: DeviceAddress;
      b: DeviceAddress;
      out: DeviceAddress;
      bias?: DeviceAddress;
      alpha: number;
      beta: number;
      workspace: DeviceAddress;
      stream: CudaHandle;
    },
  ): void {
    const api = this.#functions;
    const { operation, a, b, out } = product.handles;
    if (product.hasBias) {
      this.#pointer[0] = BigInt(operands.bias ?? 0);
      this.#check("cublasLtMatmulDescSetAttribute", api.descSet(operation, descriptor.bias, this.#pointer, 8));
    }
    this.#scalar[0] = operands.alpha;
    this.#scalar[1] = operands.beta;
    const beta = this.#scalar.subarray(1);
    this.#check(
      "cublasLtMatmul",
      api.matmul(
        this.#handle,
        operation,
        this.#scalar,
        operands.a,
        a,
        operands.b,
        b,
        beta,
        operands.out,
        out,
        operands.out,
        out,
        product.algorithm,
        operands.workspace,
        product.workspaceBytes,
        operands.stream,
      ),
    );
  }

  /** Lets go of a prepared product's descriptors. */
  forget({ handles }: Product): void {
    for (const handle of [handles.a, handles.b, handles.out]) this.#functions.layoutDestroy(handle);
    this.#functions.descDestroy(handles.operation);
  }

  #layout({ type, rows, columns, leading, batch, stride }: MatrixLayout): CudaHandle {
    const api = this.#functions;
    const made = this.#made("cublasLtMatrixLayoutCreate", (out) =>
      api.layoutCreate(out, dataTypes[type], rows, columns, leading),
    );
    if (batch !== undefined) {
      const count = Int32Array.of(batch);
      const step = BigInt64Array.of(BigInt(stride ?? 0));
      this.#check("cublasLtMatrixLayoutSetAttribute", api.layoutSet(made, layout.batch, count, 4));
      this.#check("cublasLtMatrixLayoutSetAttribute", api.layoutSet(made, layout.stride, step, 8));
    }
    return made;
  }

  #made(call: string, make: (out: number[]) => number): CudaHandle {
    const out = [0];
    this.#check(call, make(out));
    return Number(out[0]);
  }

  #check(call: string, status: number): void {
    if (status === 0) return;
    const name = statusNames[status] ?? "status";
    throw new KinoraError("cuda.cublas", `cuBLASLt refused ${call}`, { actual: `${name} (${status})` });
  }

  [Symbol.dispose](): void {
    this.#functions.destroy(this.#handle);
  }
}

const statusNames: Readonly<Record<number, string>> = {
  1: "not initialised",
  3: "out of memory",
  7: "invalid value",
  8: "not for this architecture",
  11: "mapping error",
  13: "execution failed",
  14: "internal error",
  15: "not supported",
};

function functionsOf(library: LibraryHandle) {
  return {
    version: library.func("size_t cublasLtGetVersion()"),
    create: library.func("int cublasLtCreate(_Out_ uintptr_t*)"),
    destroy: library.func("int cublasLtDestroy(uintptr_t)"),
    descCreate: library.func("int cublasLtMatmulDescCreate(_Out_ uintptr_t*, int, int)"),
    descDestroy: library.func("int cublasLtMatmulDescDestroy(uintptr_t)"),
    descSet: library.func("int cublasLtMatmulDescSetAttribute(uintptr_t, int, const void*, size_t)"),
    layoutCreate: library.func("int cublasLtMatrixLayoutCreate(_Out_ uintptr_t*, int, uint64_t, uint64_t, int64_t)"),
    layoutDestroy: library.func("int cublasLtMatrixLayoutDestroy(uintptr_t)"),
    layoutSet: library.func("int cublasLtMatrixLayoutSetAttribute(uintptr_t, int, const void*, size_t)"),
    preferenceCreate: library.func("int cublasLtMatmulPreferenceCreate(_Out_ uintptr_t*)"),
    preferenceDestroy: library.func("int cublasLtMatmulPreferenceDestroy(uintptr_t)"),
    preferenceSet: library.func("int cublasLtMatmulPreferenceSetAttribute(uintptr_t, int, const void*, size_t)"),
    heuristic: library.func(
      "int cublasLtMatmulAlgoGetHeuristic(uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, int, void*, _Out_ int*)",
    ),
    matmul: library.func(
      "int cublasLtMatmul(uintptr_t, uintptr_t, const void*, uint64_t, uintptr_t, uint64_t, uintptr_t, const void*, uint64_t, uintptr_t, uint64_t, uintptr_t, const void*, uint64_t, size_t, uintptr_t)",
    ),
  };
}
