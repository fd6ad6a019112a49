// Compiles the emulator and every kernel file for it, once for each state of the sources. Needs g++ or clang++.

import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const emulator = fileURLToPath(new URL(".", import.meta.url));
const kernels = fileURLToPath(new URL("../../../../kernels/cuda", import.meta.url));

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

/** Builds what is missing; several processes may do so at once. */
export function buildEmulator(command: string, architectures: readonly string[] = ["sm_80"]): Emulator {
  const read = (folder: string): string[] =>
    readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ name }) => name)
      .sort();
  const sources = [emulator, kernels].flatMap((folder) =>
    read(folder).map((name) => [name, readFileSync(join(folder, name), "utf8")]),
  );
  const version = execFileSync(command, ["--version"], { encoding: "utf8" });
  const hash = createHash("sha256")
    .update(JSON.stringify([version, sources]))
    .digest("hex")
    .slice(0, 16);
  const folder = join(tmpdir(), `kinora-cuda-emulator-${hash}`);
  const result = {
    driver: join(folder, "libcuda-emulated.so"),
    cublasLt: join(folder, "libcublasLt-emulated.so"),
    images: join(folder, "images"),
  };
  if (existsSync(folder)) return result;
  const work = `${folder}.${process.pid}`;
  mkdirSync(join(work, "images"), { recursive: true });
  const compile = (output: string, inputs: string[], optimization: string): void => {
    const flags = ["-std=c++20", optimization, "-fPIC", "-shared", "-w", "-fno-strict-aliasing", "-ffp-contract=off"];
    const includes = [`-I${emulator}`, `-I${kernels}`];
    const links = process.platform === "linux" ? ["-lpthread", "-ldl"] : [];
    execFileSync(command, [...flags, ...includes, "-o", output, ...inputs, ...links], {
      stdio: ["ignore", "inherit", "inherit"],
    });
  };
  compile(join(work, "libcuda-emulated.so"), [join(emulator, "driver.cc"), join(emulator, "scheduler.cc")], "-O2");
  compile(join(work, "libcublasLt-emulated.so"), [join(emulator, "cublaslt.cc")], "-O3");
  for (const name of read(kernels).filter((file) => file.endsWith(".cu"))) {
    const file = name.slice(0, -3);
    const source = join(work, `${file}.cc`);
    writeFileSync(
      source,
      `#define KINORA_EMULATED\n#include "${name}"\nextern "C" __attribute__((visibility("default"))) emulator::Export* emulator_exports() { return emulator::Export::first(); }\n`,
    );
    compile(join(work, `${file}.so`), [source, join(emulator, "scheduler.cc")], "-O3");
    for (const architecture of architectures) {
      writeFileSync(join(work, "images", `${file}.${architecture}.cubin`), `${join(folder, `${file}.so`)}\0`);
    }
  }
  try {
    renameSync(work, folder);
  } catch (error) {
    rmSync(work, { recursive: true });
    if (!existsSync(folder)) throw error;
  }
  return result;
}
