// NVIDIA's compiler and disassembler for checks on machines without a GPU: named by the environment, kept from before, or
// fetched from PyPI by pip.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { cacheFolderOf } from "../../src/base/platform.ts";

/** The last NVRTC that knows all our architectures and still makes code for drivers of CUDA 12. */
const NVRTC = "nvidia-cuda-nvrtc-cu12==12.9.86";
const DISASSEMBLER = "nvidia-cuda-nvdisasm==13.5.37";

export type Tool = { path: string } | { missing: string };

/** Packages below the folder are files of a few levels: looks through them all. */
function findFile(folder: string, name: RegExp): string | undefined {
  const entry = readdirSync(folder, { recursive: true, withFileTypes: true }).find(
    (one) => one.isFile() && name.test(one.name),
  );
  return entry && join(entry.parentPath, entry.name);
}

function fetchPackage(specification: string, name: RegExp): Tool {
  const cache = cacheFolderOf({ platform: process.platform, environment: process.env, home: homedir() });
  const folder = join(cache, "cuda-tools", specification);
  if (!existsSync(folder)) {
    mkdirSync(join(folder, ".."), { recursive: true });
    const partial = mkdtempSync(`${folder}.`);
    const options = ["--quiet", "--no-deps", "--only-binary=:all:", "--retries", "1", "--target", partial];
    const python = process.platform === "win32" ? "python" : "python3";
    const run = spawnSync(python, ["-m", "pip", "install", ...options, specification], { encoding: "utf8" });
    if (run.status !== 0) {
      rmSync(partial, { recursive: true, force: true });
      const words = (run.error?.message ?? run.stderr).trim().split("\n").at(-1);
      return { missing: `pip could not fetch ${specification}: ${words}` };
    }
    try {
      renameSync(partial, folder);
    } catch (error) {
      // Somebody else was faster.
      rmSync(partial, { recursive: true, force: true });
      if (!existsSync(folder)) throw error;
    }
  }
  const path = findFile(folder, name);
  return path ? { path } : { missing: `${specification} holds no file named ${name.source}` };
}

const named = (variable: string): Tool | undefined => {
  const path = process.env[variable];
  return path ? { path } : undefined;
};

/** NVRTC's library: KINORA_NVRTC, or PyPI's. */
export const findNvrtc = (): Tool =>
  named("KINORA_NVRTC") ?? fetchPackage(NVRTC, /^(libnvrtc\.so\.\d+|nvrtc64_\d+_0\.dll)$/);

/** nvdisasm, which turns machine code into text: KINORA_NVDISASM, or PyPI's. */
export const findDisassembler = (): Tool =>
  named("KINORA_NVDISASM") ?? fetchPackage(DISASSEMBLER, /^nvdisasm(\.exe)?$/);
