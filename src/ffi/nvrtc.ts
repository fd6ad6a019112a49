// NVRTC, NVIDIA's compiler as a library: CUDA C to a card's machine code. It needs no driver and no GPU.
// https://docs.nvidia.com/cuda/nvrtc/
import koffi, { type LibraryHandle } from "koffi";
import { KinoraError } from "../base/errors.ts";

/** Options of every compilation. */
export const standardOptions: readonly string[] = ["-std=c++17", "-default-device"];

export interface CompileRequest {
  source: string;
  /** For messages. */
  name: string;
  /** What `#include "…"` finds. */
  headers: Readonly<Record<string, string>>;
  /** e.g. `sm_90a`. */
  architecture: string;
  options?: readonly string[];
}

export interface Compiled {
  cubin: Uint8Array;
  /** With `--ptxas-options=-v`: registers and spills of each kernel. */
  log: string;
}

export class Nvrtc {
  readonly path: string;
  readonly version: string;
  readonly #functions: ReturnType<typeof functionsOf>;

  private constructor(path: string, library: LibraryHandle) {
    this.path = path;
    this.#functions = functionsOf(library);
    const [major, minor] = [[0], [0]];
    this.#check("nvrtcVersion", this.#functions.version(major, minor));
    this.version = `${major[0]}.${minor[0]}`;
  }

  /** Throws `cuda.no-compiler`. */
  static open(path: string): Nvrtc {
    try {
      return new Nvrtc(path, koffi.load(path));
    } catch (cause) {
      if (cause instanceof KinoraError) throw cause;
      throw new KinoraError("cuda.no-compiler", `${path} cannot be used as NVRTC: ${(cause as Error).message}`, {
        hint: "pip install nvidia-cuda-nvrtc, or set KINORA_NVRTC to the library",
        cause,
      });
    }
  }

  /** Compiles for one architecture. Throws `cuda.compile` with the compiler's own words. */
  compile({ source, name, headers, architecture, options = [] }: CompileRequest): Compiled {
    const api = this.#functions;
    const program = [0];
    const names = Object.keys(headers);
    const contents = names.map((header) => headers[header]!);
    this.#check("nvrtcCreateProgram", api.create(program, source, name, names.length, contents, names));
    const handle = program[0]!;
    try {
      const all = [`-arch=${architecture}`, ...standardOptions, ...options];
      const status = api.compile(handle, all.length, all);
      const log = this.#log(handle);
      if (status !== 0) {
        throw new KinoraError("cuda.compile", `${name} does not compile for ${architecture}`, {
          actual: log.slice(0, 1500) || `status ${status}`,
          hint: "update NVRTC, or report this with its version",
        });
      }
      const size = [0];
      this.#check("nvrtcGetCUBINSize", api.cubinSize(handle, size));
      const cubin = new Uint8Array(Number(size[0]));
      this.#check("nvrtcGetCUBIN", api.cubin(handle, cubin));
      return { cubin, log };
    } finally {
      api.destroy(program);
    }
  }

  /** Compute capabilities that it compiles for, e.g. 80, 86, 90. */
  architectures(): number[] {
    const count = [0];
    this.#check("nvrtcGetNumSupportedArchs", this.#functions.architectureCount(count));
    const found = new Int32Array(count[0]!);
    this.#check("nvrtcGetSupportedArchs", this.#functions.architectures(found));
    return [...found];
  }

  #log(program: number): string {
    const size = [0];
    this.#check("nvrtcGetProgramLogSize", this.#functions.logSize(program, size));
    const bytes = new Uint8Array(Number(size[0]));
    if (bytes.length > 0) this.#check("nvrtcGetProgramLog", this.#functions.log(program, bytes));
    return new TextDecoder().decode(bytes).replace(/\0+$/, "").trim();
  }

  #check(call: string, status: number): void {
    if (status === 0) return;
    throw new KinoraError("cuda.nvrtc", `NVRTC refused ${call}`, {
      actual: String(this.#functions.error(status)),
      hint: "update NVRTC",
    });
  }
}

function functionsOf(library: LibraryHandle) {
  return {
    version: library.func("int nvrtcVersion(_Out_ int*, _Out_ int*)"),
    architectureCount: library.func("int nvrtcGetNumSupportedArchs(_Out_ int*)"),
    architectures: library.func("int nvrtcGetSupportedArchs(void*)"),
    create: library.func("int nvrtcCreateProgram(_Out_ uintptr_t*, str, str, int, str*, str*)"),
    compile: library.func("int nvrtcCompileProgram(uintptr_t, int, str*)"),
    logSize: library.func("int nvrtcGetProgramLogSize(uintptr_t, _Out_ size_t*)"),
    log: library.func("int nvrtcGetProgramLog(uintptr_t, void*)"),
    cubinSize: library.func("int nvrtcGetCUBINSize(uintptr_t, _Out_ size_t*)"),
    cubin: library.func("int nvrtcGetCUBIN(uintptr_t, void*)"),
    destroy: library.func("int nvrtcDestroyProgram(_Inout_ uintptr_t*)"),
    error: library.func("str nvrtcGetErrorString(int)"),
  };
}
