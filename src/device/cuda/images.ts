// The machine code of a kernel file for one card: from a folder that was named, compiled once and kept, or as shipped.
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { KinoraError } from "../../base/errors.ts";
import { Nvrtc } from "../../ffi/nvrtc.ts";
import type { Images } from "./launch.ts";

/** kernels/cuda of the package, from src/ and from dist/ alike. */
const sources = fileURLToPath(new URL("../../../kernels/cuda", import.meta.url));

/** Kernel files of the package, without their ending. */
export function kernelFiles(): string[] {
  return readdirSync(sources)
    .filter((name) => name.endsWith(".cu"))
    .map((name) => name.slice(0, -3))
    .sort();
}

/** Headers that kernels include, by name. */
export function kernelHeaders(): Record<string, string> {
  const names = readdirSync(sources).filter((name) => name.endsWith(".cuh"));
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(sources, name), "utf8")]));
}

export const kernelSource = (file: string): string => readFileSync(join(sources, `${file}.cu`), "utf8");

/** `sm_90a` for capability 90, whose own instructions are only in its own architecture; `sm_86` for 86. */
export const architectureOf = (capability: number): string => `sm_${capability}${capability === 90 ? "a" : ""}`;

export interface ImageOptions {
  capability: number;
  /** A folder of `FILE.sm_XX.cubin`, which goes before everything. */
  folder?: string | undefined;
  /** NVRTC's library; without it what is shipped has to do. */
  nvrtc?: string | undefined;
  /** Where compiled code is kept. */
  cacheFolder: string;
  /** Told before each compilation, which takes seconds. */
  compiling?: ((file: string) => void) | undefined;
}

function readIfThere(path: string): Uint8Array | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

/** Throws `cuda.no-kernels` when a file is asked for that can neither be compiled nor is shipped, `cuda.compile`. */
export function kernelImages({ capability, folder, nvrtc, cacheFolder, compiling }: ImageOptions): Images {
  const architecture = architectureOf(capability);
  let compiler: Nvrtc | undefined;
  const compile = (file: string): Uint8Array | undefined => {
    if (nvrtc === undefined) return undefined;
    compiler ??= Nvrtc.open(nvrtc);
    const headers = kernelHeaders();
    const source = kernelSource(file);
    const identity = JSON.stringify([compiler.version, architecture, source, headers]);
    const hash = createHash("sha256").update(identity).digest("hex").slice(0, 32);
    const kept = join(cacheFolder, "cuda", `${file}.${architecture}.${hash}.cubin`);
    const known = readIfThere(kept);
    if (known) return known;
    compiling?.(file);
    const { cubin } = compiler.compile({ source, name: `${file}.cu`, headers, architecture });
    keep(kept, cubin);
    return cubin;
  };
  return (file) => {
    const named = folder === undefined ? undefined : readIfThere(join(folder, `${file}.${architecture}.cubin`));
    const found = named ?? compile(file) ?? readIfThere(join(sources, "cubin", `${file}.${architecture}.cubin`));
    if (found) return found;
    throw new KinoraError("cuda.no-kernels", `no machine code of ${file} was found for ${architecture}`, {
      expected: nvrtc === undefined ? "NVRTC, to compile it" : `${file}.${architecture}.cubin in ${folder}`,
      hint: "pip install nvidia-cuda-nvrtc, or set KINORA_NVRTC to NVRTC's library",
    });
  };
}

/** A cache that cannot be written costs a compilation at the next start, nothing else. */
function keep(path: string, cubin: Uint8Array): void {
  try {
    mkdirSync(join(path, ".."), { recursive: true });
    const partial = `${path}.${process.pid}.partial`;
    writeFileSync(partial, cubin);
    renameSync(partial, path);
  } catch {
    return;
  }
}
