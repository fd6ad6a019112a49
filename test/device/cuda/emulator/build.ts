// Compiles the emulator and every kernel file for it, each once for each state of its sources. Needs g++ or clang++.

import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const emulator = fileURLToPath(new URL(".", import.meta.url));
const kernels = fileURLToPath(new URL("../../../../kernels/cuda", import.meta.url));
const kept = join(tmpdir(), "kinora-cuda-emulator");

export interface Emulator {
  driver: string;
  cublasLt: string;
  /** Folder of images, `FILE.sm_80.cubin`: the path of a library each. */
  images: string;
}

/** The compiler, or why there is none. */
export function compiler(): { command: string } | { missing: string } {
  const wanted = process.env.CXX ? [process.env.CXX] : ["g++", "clang++"];
  if (process.platform === "win32") return { missing: "the CUDA emulator runs on Linux and macOS" };
  const command = wanted.find((name) => spawnSync(name, ["--version"]).status === 0);
  return command ? { command } : { missing: `no C++ compiler (${wanted.join(", ")}) for the CUDA emulator` };
}

const filesOf = (folder: string, ending: RegExp): string[] =>
  readdirSync(folder)
    .filter((name) => ending.test(name))
    .sort();

const hashOf = (...parts: readonly unknown[]): string =>
  createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16);

/** Makes a file or folder of this name unless it is there; several processes may do so at once. */
function once(name: string, make: (target: string) => void): string {
  const path = join(kept, name);
  if (existsSync(path)) return path;
  mkdirSync(kept, { recursive: true });
  const work = mkdtempSync(join(kept, "making-"));
  try {
    make(join(work, "made"));
    renameSync(join(work, "made"), path);
  } catch (error) {
    if (!existsSync(path)) throw error;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return path;
}

/** Kernel files and headers by name. */
export function kernelTexts(): Record<string, string> {
  return Object.fromEntries(
    filesOf(kernels, /\.cuh?$/).map((name) => [name, readFileSync(join(kernels, name), "utf8")]),
  );
}

/** Builds what is missing. `changed`: texts that go in the places of kernel files; they run a few times only. */
export function buildEmulator(
  command: string,
  {
    architectures = ["sm_80"],
    changed = {},
  }: { architectures?: readonly string[]; changed?: Readonly<Record<string, string>> } = {},
): Emulator {
  const texts = { ...kernelTexts(), ...changed };
  const version = execFileSync(command, ["--version"], { encoding: "utf8" });
  const flags = ["-std=c++20", "-fPIC", "-shared", "-w", "-fno-strict-aliasing", "-ffp-contract=off", `-I${emulator}`];
  // Thread-local variables are read at every step: without a call, where the compiler can.
  if (process.arch === "x64" && /^g\+\+/.test(version)) flags.push("-mtls-dialect=gnu2");
  const links = process.platform === "linux" ? ["-lpthread", "-ldl"] : [];
  const own = Object.fromEntries(
    filesOf(emulator, /\.(h|cc)$/).map((name) => [name, readFileSync(join(emulator, name), "utf8")]),
  );
  const compile = (output: string, options: readonly string[], ...inputs: string[]): void => {
    execFileSync(command, [...flags, ...options, "-o", output, ...inputs, ...links], {
      stdio: ["ignore", "inherit", "inherit"],
    });
  };
  const library = (name: string, sources: readonly string[], options: readonly string[]): string =>
    once(`${name}-${hashOf(version, flags, options, own)}.so`, (target) =>
      compile(target, options, ...sources.map((source) => join(emulator, source))),
    );
  const headers = Object.fromEntries(Object.entries(texts).filter(([name]) => name.endsWith(".cuh")));
  const kernel = (file: string): string => {
    const optimization = file in changed ? "-O1" : "-O2";
    return once(`${file}-${hashOf(version, flags, optimization, own, headers, texts[file])}.so`, (target) => {
      const folder = `${target}.sources`;
      mkdirSync(folder);
      for (const [name, text] of Object.entries({ ...headers, [file]: texts[file]! }))
        writeFileSync(join(folder, name), text);
      const source = join(folder, "whole.cc");
      writeFileSync(
        source,
        `#define KINORA_EMULATED\n#include "${file}"\nextern "C" __attribute__((visibility("default"))) emulator::Export* emulator_exports() { return emulator::Export::first(); }\n`,
      );
      compile(target, [optimization], source, join(emulator, "scheduler.cc"));
    });
  };
  const libraries = Object.keys(texts)
    .filter((name) => name.endsWith(".cu"))
    .map((name) => [name.slice(0, -3), kernel(name)] as const);
  const driver = library("libcuda", ["driver.cc", "scheduler.cc"], ["-O2"]);
  return {
    driver,
    // Products wait for their turn on the driver's streams.
    cublasLt: library("libcublasLt", ["cublaslt.cc"], ["-O3", `-DDRIVER="${driver}"`]),
    images: once(`images-${hashOf(libraries, architectures)}`, (target) => {
      mkdirSync(target);
      for (const [file, path] of libraries) {
        for (const architecture of architectures)
          writeFileSync(join(target, `${file}.${architecture}.cubin`), `${path}\0`);
      }
    }),
  };
}
