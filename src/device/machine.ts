// What this machine is, as far as its system tells without any library of ours: processor, memory, disks.
import { readFileSync, statfsSync } from "node:fs";
import { availableParallelism, cpus, release, totalmem, version } from "node:os";
import { dirname, resolve } from "node:path";

export interface Machine {
  node: string;
  platform: NodeJS.Platform;
  architecture: string;
  /** e.g. `Debian GNU/Linux 12 (bookworm), Linux 6.1.0`. */
  system: string;
  processor: {
    model: string;
    cores: number;
    /** Cores this process may use. */
    usable: number;
    /** Instruction sets that matter to products, e.g. `avx512_bf16`; undefined where the system does not tell. */
    instructions?: string[];
  };
  /** Bytes. */
  memory: { total: number; available: number };
}

/** Of x86 and of Arm, the later ones faster. */
const telling =
  /^(?:avx2|avx512f|avx512_bf16|avx512_vnni|avx512_fp16|avx_vnni|amx_bf16|amx_int8|asimd|sve2?|i8mm|bf16)$/;

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function instructions(): string[] | undefined {
  const flags = /^(?:flags|Features)\s*: (.*)$/m.exec(read("/proc/cpuinfo"))?.[1];
  return flags?.split(" ").filter((flag) => telling.test(flag));
}

/** Bytes of memory that this process can have, and of it those that nobody uses. */
export function hostMemory(): Machine["memory"] {
  // A container's limit; without one it is 0 or beyond all memory.
  const limit = process.constrainedMemory();
  const total = limit > 0 ? Math.min(limit, totalmem()) : totalmem();
  return { total, available: Math.min(total, process.availableMemory()) };
}

export function lookAtMachine(): Machine {
  const distribution = /^PRETTY_NAME="?(.*?)"?$/m.exec(read("/etc/os-release"))?.[1];
  const kernel = process.platform === "linux" ? `Linux ${release()}` : version();
  const found = instructions();
  return {
    node: process.versions.node,
    platform: process.platform,
    architecture: process.arch,
    system: distribution ? `${distribution}, ${kernel}` : kernel,
    processor: {
      model: cpus()[0]?.model.trim() || "unknown",
      cores: cpus().length,
      usable: availableParallelism(),
      ...(found ? { instructions: found } : {}),
    },
    memory: hostMemory(),
  };
}

/** Bytes that this user may still write at `path`, which need not exist yet; undefined where the system does not tell. */
export function freeSpace(path: string): number | undefined {
  for (let at = resolve(path); ; at = dirname(at)) {
    try {
      const { bavail, bsize } = statfsSync(at);
      return bavail * bsize;
    } catch {
      if (dirname(at) === at) return undefined;
    }
  }
}
