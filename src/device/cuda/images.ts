// The machine code of a kernel file for one card: from a folder that was named, compiled by NVRTC and kept, or as shipped.
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { isKinoraError, KinoraError } from "../../base/errors.ts";
import { Nvrtc, standardOptions } from "../../ffi/nvrtc.ts";
import type { Images } from "./launch.ts";

/** kernels/cuda of the package, from src/ and from dist/ alike. */
const sources = fileURLToPath(new URL("../../../kernels/cuda", import.meta.url));

/** Where compiled kernels lie in the package: made when it is packed (scripts/cuda-cubins.ts). */
export const shippedFolder = join(sources, "cubins");

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
  return Object.fromEntries(names.sort().map((name) => [name, readFileSync(join(sources, name), "utf8")]));
}

export const kernelSource = (file: string): string => readFileSync(join(sources, `${file}.cu`), "utf8");

const sha256 = (data: string | Uint8Array): string => createHash("sha256").update(data).digest("hex");

/** What a kernel file's machine code is made of: its text, its headers and the compiler's options. */
export const sourceHash = (file: string): string =>
  sha256(JSON.stringify([kernelSource(file), kernelHeaders(), standardOptions]));

/** `sm_90a` for capability 90, whose own instructions are only in its own architecture; `sm_86` for 86. */
export const architectureOf = (capability: number): string => `sm_${capability}${capability === 90 ? "a" : ""}`;

/**
 * The architecture whose code runs best on a card, of those that there are: its own, or an older one of its generation,
 * whose code it runs too.
 */
export function nearestArchitecture(capability: number, available: readonly number[]): string | undefined {
  const fits = available.filter((one) => Math.floor(one / 10) === Math.floor(capability / 10) && one <= capability);
  return fits.length > 0 ? architectureOf(Math.max(...fits)) : undefined;
}

/** What a package says of its compiled kernels (`manifest.json`). Each lies in `FILE.ARCHITECTURE.cubin.gz`. */
export interface ShippedManifest {
  nvrtc: string;
  capabilities: number[];
  files: Record<string, { source: string }>;
  /** Of each image, of its unpacked bytes. */
  images: Record<string, { sha256: string; bytes: number }>;
}

export function readManifest(folder = shippedFolder): ShippedManifest | undefined {
  const text = readIfThere(join(folder, "manifest.json"));
  return text && (JSON.parse(Buffer.from(text).toString("utf8")) as ShippedManifest);
}

/** An image that was shipped and was made of the sources that are here. */
function shipped(file: string, capability: number, folder: string): Uint8Array | undefined {
  const manifest = readManifest(folder);
  if (!manifest || manifest.files[file]?.source !== sourceHash(file)) return undefined;
  const made = manifest.capabilities.filter((one) => `${file}.${architectureOf(one)}` in manifest.images);
  const architecture = nearestArchitecture(capability, made);
  const name = `${file}.${architecture}`;
  const packed = architecture && readIfThere(join(folder, `${name}.cubin.gz`));
  if (!packed) return undefined;
  const image = gunzipSync(packed);
  return sha256(image) === manifest.images[name]!.sha256 ? image : undefined;
}

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
  /** Where shipped kernels lie; the package's own folder where absent. */
  shippedIn?: string | undefined;
}

function readIfThere(path: string): Uint8Array | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

/** Throws `cuda.no-kernels` when a file is asked for that can neither be compiled nor is shipped, `cuda.compile`. */
export function kernelImages(options: ImageOptions): Images {
  const { capability, folder, nvrtc, cacheFolder, compiling, shippedIn = shippedFolder } = options;
  let compiler: Compiler | undefined;
  const named = (file: string) =>
    folder === undefined ? undefined : readIfThere(join(folder, `${file}.${architectureOf(capability)}.cubin`));
  const compile = (file: string): Uint8Array | undefined => {
    if (nvrtc === undefined) return undefined;
    compiler ??= openCompiler(nvrtc, capability);
    if ("lacks" in compiler) return undefined;
    const { library, architecture } = compiler;
    const hash = sha256(JSON.stringify([library.version, architecture, sourceHash(file)])).slice(0, 32);
    const kept = join(cacheFolder, "cuda", `${file}.${architecture}.${hash}.cubin`);
    const known = readKept(kept);
    if (known) return known;
    compiling?.(file);
    const headers = kernelHeaders();
    const { cubin } = library.compile({ source: kernelSource(file), name: `${file}.cu`, headers, architecture });
    keep(kept, cubin);
    return cubin;
  };
  return (file) => {
    const found = named(file) ?? compile(file) ?? shipped(file, capability, shippedIn);
    if (found) return found;
    const why = compiler && "lacks" in compiler ? compiler.lacks : undefined;
    throw new KinoraError("cuda.no-kernels", `no machine code of ${file} was found for ${architectureOf(capability)}`, {
      expected: nvrtc === undefined ? "NVRTC, to compile it" : "an NVRTC that compiles for this GPU",
      ...(why ? { actual: why } : {}),
      hint: "run kinora doctor for the command that installs NVRTC, or set KINORA_NVRTC to its library",
    });
  };
}

type Compiler = { library: Nvrtc; architecture: string } | { /** Why it does not serve. */ lacks: string };

/** A library that cannot be loaded is no reason to fail where kernels are shipped. */
function openCompiler(path: string, capability: number): Compiler {
  try {
    const library = Nvrtc.open(path);
    const architecture = nearestArchitecture(capability, library.architectures());
    return architecture === undefined
      ? { lacks: `NVRTC ${library.version} does not support this GPU generation` }
      : { library, architecture };
  } catch (error) {
    if (!isKinoraError(error)) throw error;
    return { lacks: error.message };
  }
}

const DIGEST_BYTES = 32;

/** Kept code behind its digest: what was cut off or changed on the disk is made again. */
function readKept(path: string): Uint8Array | undefined {
  const bytes = readIfThere(path);
  if (!bytes || bytes.length <= DIGEST_BYTES) return undefined;
  const cubin = bytes.subarray(DIGEST_BYTES);
  const digest = createHash("sha256").update(cubin).digest();
  return digest.equals(bytes.subarray(0, DIGEST_BYTES)) ? cubin : undefined;
}

/** A cache that cannot be written costs a compilation at the next start, nothing else. */
function keep(path: string, cubin: Uint8Array): void {
  try {
    mkdirSync(dirname(path), { recursive: true });
    const partial = `${path}.${process.pid}.partial`;
    writeFileSync(partial, Buffer.concat([createHash("sha256").update(cubin).digest(), cubin]));
    renameSync(partial, path);
  } catch {
    return;
  }
}
