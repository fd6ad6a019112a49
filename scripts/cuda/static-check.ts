// What can be said of the kernels' machine code without a card: registers, spills and shared memory of each kernel on each
// architecture, as the compiler reports them, and the instructions that carry the fast kernels.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { kernelFiles, kernelHeaders, kernelSource } from "../../src/device/cuda/images.ts";
import type { Nvrtc } from "../../src/ffi/nvrtc.ts";

export const architectures = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120"] as const;

/** Files that only one architecture has. */
const onlyFor: Readonly<Record<string, string>> = { hopper: "sm_90a" };

/** Whether a file has kernels for an architecture. */
export const isFor = (file: string, architecture: string): boolean => (onlyFor[file] ?? architecture) === architecture;

/** Instructions without which a kernel is not what it says, by a kernel's name: on every architecture. */
const instructions: readonly { kernels: RegExp; opcodes: readonly string[]; what: string }[] = [
  {
    kernels: /^flash_(forward|backward)/,
    opcodes: ["HMMA", "LDSM", "LDGSTS"],
    what: "tensor cores, asynchronous copies",
  },
];

export interface KernelReport {
  file: string;
  kernel: string;
  architecture: string;
  registers: number;
  /** Bytes. */
  spills: number;
  shared: number;
  /** The most registers that the launch bound leaves to a thread. */
  most: number;
}

const REGISTERS = 65536;
const MOST_REGISTERS = 255;

/** Registers a thread may have by `KERNEL(threads, blocks)`, by kernel. The hardware gives them in eights. */
export function launchBounds(source: string): Map<string, number> {
  const bounds = new Map<string, number>();
  for (const [, threads, blocks, name] of source.matchAll(/^KERNEL\((\d+), (\d+)\) (\w+)\(/gm)) {
    const share = Math.floor(REGISTERS / (Number(threads) * Number(blocks)) / 8) * 8;
    bounds.set(name!, Math.min(MOST_REGISTERS, share));
  }
  return bounds;
}

/** The kernels' part of ptxas' log under `-v`. */
export function readLog(log: string): Map<string, { registers: number; spills: number; shared: number }> {
  const found = new Map<string, { registers: number; spills: number; shared: number }>();
  for (const part of log.split("Compiling entry function '").slice(1)) {
    const number = (pattern: RegExp) => Number(pattern.exec(part)?.[1] ?? 0);
    found.set(part.slice(0, part.indexOf("'")), {
      registers: number(/Used (\d+) registers/),
      spills: number(/(\d+) bytes spill stores/) + number(/(\d+) bytes spill loads/),
      shared: number(/(\d+) bytes smem/),
    });
  }
  return found;
}

/** Opcodes of each kernel of a cubin, without their suffixes. */
export function opcodesOf(disassembler: string, cubin: Uint8Array): Map<string, ReadonlySet<string>> {
  const folder = mkdtempSync(join(tmpdir(), "kinora-cubin-"));
  try {
    const path = join(folder, "kernel.cubin");
    writeFileSync(path, cubin);
    const run = spawnSync(disassembler, ["-c", path], { encoding: "utf8", maxBuffer: 2 ** 30 });
    if (run.status !== 0) throw new Error(`nvdisasm: ${run.error?.message ?? run.stderr}`);
    const sections = run.stdout.split(/^\.text\.(\w+):/m);
    const found = new Map<string, ReadonlySet<string>>();
    for (let i = 1; i < sections.length; i += 2) {
      const lines = sections[i + 1]!.matchAll(/^\s*\/\*[0-9a-f]{4,}\*\/\s+(?:@!?U?P\w+ )?([A-Z0-9]+)/gm);
      found.set(sections[i]!, new Set([...lines].map((match) => match[1]!)));
    }
    return found;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export interface StaticCheck {
  reports: readonly KernelReport[];
  /** What is wrong, a line each. */
  faults: readonly string[];
}

/** Compiles files of kernels for every architecture; without a disassembler, instructions stay unchecked. */
export function staticCheck(nvrtc: Nvrtc, disassembler: string | undefined, files = kernelFiles()): StaticCheck {
  const reports: KernelReport[] = [];
  const faults: string[] = [];
  const headers = kernelHeaders();
  for (const file of files) {
    const source = kernelSource(file);
    const bounds = launchBounds(source);
    for (const architecture of architectures) {
      if (!isFor(file, architecture)) continue;
      const options = ["--ptxas-options=-v"];
      const { cubin, log } = nvrtc.compile({ source, name: `${file}.cu`, headers, architecture, options });
      const found = readLog(log);
      faults.push(
        ...log
          .split("\n")
          .filter((line) => line.includes(": warning"))
          .map((line) => `${architecture}: ${line}`),
      );
      for (const [kernel, most] of bounds) {
        const use = found.get(kernel);
        const name = `${kernel} on ${architecture}`;
        if (!use || use.registers === 0) {
          faults.push(`${name}: the compiler reports nothing of it`);
          continue;
        }
        reports.push({ file, kernel, architecture, ...use, most });
        if (use.spills > 0) faults.push(`${name}: ${use.spills} bytes of registers spilled`);
        if (use.registers > most) faults.push(`${name}: ${use.registers} registers, ${most} fit its launch bound`);
      }
      const isFast = [...bounds.keys()].some((kernel) => instructions.some(({ kernels }) => kernels.test(kernel)));
      if (disassembler && isFast) faults.push(...missingInstructions(opcodesOf(disassembler, cubin), architecture));
    }
  }
  return { reports, faults };
}

function missingInstructions(opcodes: Map<string, ReadonlySet<string>>, architecture: string): string[] {
  return [...opcodes].flatMap(([kernel, have]) =>
    instructions
      .filter(({ kernels }) => kernels.test(kernel))
      .flatMap(({ opcodes: wanted, what }) =>
        wanted
          .filter((opcode) => !have.has(opcode))
          .map((opcode) => `${kernel} on ${architecture}: no ${opcode} (${what})`),
      ),
  );
}

/** Kernels down, architectures across: registers, with `+N` bytes of shared memory. */
export function table(reports: readonly KernelReport[]): string {
  const kernels = [...new Set(reports.map(({ file, kernel }) => `${file}/${kernel}`))];
  const rows = kernels.map((name) => [
    name,
    ...architectures.map((architecture) => {
      const one = reports.find(
        (report) => `${report.file}/${report.kernel}` === name && report.architecture === architecture,
      );
      if (!one) return "-";
      return `${one.registers}/${one.most}${one.shared ? ` +${one.shared}` : ""}${one.spills ? ` SPILLS ${one.spills}` : ""}`;
    }),
  ]);
  const all = [["registers used/allowed", ...architectures], ...rows];
  const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  return all
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
