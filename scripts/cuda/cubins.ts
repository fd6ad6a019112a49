// Kernels compiled for the architectures that a package brings, with a manifest that says what they were made of.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import {
  architectureOf,
  kernelFiles,
  kernelHeaders,
  kernelSource,
  readManifest,
  type ShippedManifest,
  sourceHash,
} from "../../src/device/cuda/images.ts";
import type { Nvrtc } from "../../src/ffi/nvrtc.ts";
import { isFor } from "./static-check.ts";

/** Ampere, Ada, Hopper, Blackwell: cards between them run the code of the older one of their generation. */
const capabilities = [80, 86, 89, 90, 100, 120];

export interface CubinOptions {
  files?: readonly string[];
  capabilities?: readonly number[];
}

/** Compiles into `folder`, which is replaced as a whole. Gives the bytes that were written. */
export function buildCubins(nvrtc: Nvrtc, folder: string, options: CubinOptions = {}): number {
  const chosen = { files: kernelFiles(), capabilities, ...options };
  const partial = `${folder}.${process.pid}.partial`;
  mkdirSync(partial, { recursive: true });
  const headers = kernelHeaders();
  const manifest: ShippedManifest = {
    nvrtc: nvrtc.version,
    capabilities: [...chosen.capabilities],
    files: {},
    images: {},
  };
  let total = 0;
  for (const file of chosen.files) {
    const source = kernelSource(file);
    manifest.files[file] = { source: sourceHash(file) };
    for (const architecture of chosen.capabilities.map(architectureOf)) {
      if (!isFor(file, architecture)) continue;
      const { cubin } = nvrtc.compile({ source, name: `${file}.cu`, headers, architecture });
      const sha256 = createHash("sha256").update(cubin).digest("hex");
      manifest.images[`${file}.${architecture}`] = { sha256, bytes: cubin.length };
      const packed = gzipSync(cubin, { level: 9 });
      total += packed.length;
      writeFileSync(join(partial, `${file}.${architecture}.cubin.gz`), packed);
    }
  }
  writeFileSync(join(partial, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
  rmSync(folder, { recursive: true, force: true });
  renameSync(partial, folder);
  return total;
}

/** What of a folder of compiled kernels does not fit the sources, a line each. Needs no compiler. */
export function staleCubins(folder: string): string[] {
  const manifest = readManifest(folder);
  if (!manifest) return ["there are no compiled kernels"];
  return kernelFiles().flatMap((file) => {
    if (manifest.files[file]?.source !== sourceHash(file)) return [`${file}.cu is not the one that was compiled`];
    return capabilities
      .map(architectureOf)
      .filter((architecture) => isFor(file, architecture))
      .filter((architecture) => !existsSync(join(folder, `${file}.${architecture}.cubin.gz`)))
      .map((architecture) => `${file} for ${architecture} is missing`);
  });
}
