// The command line as a process of its own, with the memory of it and of its children (a job runs in one) watched from
// outside, stage by stage. Linux only.
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const kinoraBinary = fileURLToPath(new URL("../bin/kinora.mjs", import.meta.url));

/** Bytes of some processes that are in memory; a page that two of them map counts in each. */
export interface Resident {
  /** Its own: what it allocated. */
  own: number;
  /** Pages of mapped files, which the system may drop: weights read in place, the program itself. */
  mapped: number;
  both: number;
}

export interface WatchedStage {
  name: string;
  seconds: number;
  /** Each the most there was, by samples. */
  peak: Resident;
}

export interface Watched {
  /** What it printed, parsed. */
  answer: unknown;
  stages: WatchedStage[];
  /** The sum of each process's most, as the kernel counted it: no sample can miss it. The parent's hardly changes. */
  peakResident: number;
}

/** Milliseconds between two looks. */
const INTERVAL = 50;

function statusOf(pid: number): (Resident & { highest: number }) | undefined {
  const text = readProc(`${pid}/status`);
  if (text === undefined) return undefined;
  // A process that ended and was not waited for yet has no memory lines.
  const bytes = (name: string) => 1024 * Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? 0);
  return { own: bytes("RssAnon"), mapped: bytes("RssFile"), both: bytes("VmRSS"), highest: bytes("VmHWM") };
}

/** Undefined where the process has just ended. */
function readProc(path: string): string | undefined {
  try {
    return readFileSync(`/proc/${path}`, "utf8");
  } catch {
    return undefined;
  }
}

/** A process and all below it. */
function treeOf(root: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    // The name in parentheses may hold anything; the parent's id is the second field behind it.
    const parent = Number(readProc(`${name}/stat`)?.replace(/^.*\)/s, "").trim().split(" ")[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const tree = [root];
  for (const pid of tree) tree.push(...(children.get(pid) ?? []));
  return tree;
}

/** The memory of a process and of all it starts. */
export class ProcessTree {
  readonly #root: number;
  /** By process; those that have ended too. */
  readonly #highest = new Map<number, number>();

  constructor(root: number) {
    this.#root = root;
  }

  /** Now, of all together. */
  look(): Resident {
    const sum = { own: 0, mapped: 0, both: 0 };
    for (const pid of treeOf(this.#root)) {
      const status = statusOf(pid);
      if (!status) continue;
      sum.own += status.own;
      sum.mapped += status.mapped;
      sum.both += status.both;
      this.#highest.set(pid, Math.max(this.#highest.get(pid) ?? 0, status.highest));
    }
    return sum;
  }

  /** The sum of each one's most so far. */
  get highest(): number {
    return [...this.#highest.values()].reduce((total, bytes) => total + bytes, 0);
  }
}

/**
 * Runs `kinora ARGUMENTS --json`. Each event line on its error output names the stage it begins, or none. `log` is told
 * of stages as they end.
 */
export async function watchKinora(
  argv: readonly string[],
  stageOf: (event: Record<string, unknown>) => string | undefined,
  log: (stage: WatchedStage) => void,
): Promise<Watched> {
  if (process.platform !== "linux") throw new Error("memory is watched through /proc, which only Linux has");
  const child = spawn(process.execPath, [kinoraBinary, ...argv, "--json"], { stdio: ["ignore", "pipe", "pipe"] });
  const tree = new ProcessTree(child.pid!);
  const stages: WatchedStage[] = [];
  let begun = performance.now();
  const look = () => {
    const { own, mapped, both } = tree.look();
    const peak = stages.at(-1)?.peak;
    if (!peak) return;
    peak.own = Math.max(peak.own, own);
    peak.mapped = Math.max(peak.mapped, mapped);
    peak.both = Math.max(peak.both, both);
  };
  const end = () => {
    const stage = stages.at(-1);
    if (!stage) return;
    stage.seconds = (performance.now() - begun) / 1000;
    log(stage);
  };
  const begin = (name: string) => {
    if (stages.at(-1)?.name === name) return;
    end();
    stages.push({ name, seconds: 0, peak: { own: 0, mapped: 0, both: 0 } });
    begun = performance.now();
    look();
  };
  begin("start");
  const timer = setInterval(look, INTERVAL);
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk;
  });
  createInterface(child.stderr).on("line", (line) => {
    if (!line.startsWith("{")) {
      console.log(`  ${line}`);
      return;
    }
    const name = stageOf(JSON.parse(line) as Record<string, unknown>);
    if (name !== undefined) begin(name);
  });
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  clearInterval(timer);
  end();
  if (code !== 0) throw new Error(`kinora ${argv.join(" ")} ended with ${code}: ${output}`);
  return { answer: JSON.parse(output), stages, peakResident: tree.highest };
}
