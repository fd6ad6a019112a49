// The command line as a process of its own, with its memory watched from outside, stage by stage. Linux only.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const kinoraBinary = fileURLToPath(new URL("../bin/kinora.mjs", import.meta.url));

/** Bytes of a process that are in memory. */
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
  /** The most at once, as the kernel counted it: no sample can miss it. */
  peakResident: number;
}

/** Milliseconds between two looks. */
const INTERVAL = 50;

function statusOf(pid: number): (Resident & { highest: number }) | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    return undefined;
  }
  // A process that ended and was not waited for yet has no memory lines.
  const bytes = (name: string) => 1024 * Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? 0);
  return { own: bytes("RssAnon"), mapped: bytes("RssFile"), both: bytes("VmRSS"), highest: bytes("VmHWM") };
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
  const stages: WatchedStage[] = [];
  let peakResident = 0;
  let begun = performance.now();
  const look = () => {
    const status = statusOf(child.pid!);
    const peak = stages.at(-1)?.peak;
    if (!status || !peak) return;
    peak.own = Math.max(peak.own, status.own);
    peak.mapped = Math.max(peak.mapped, status.mapped);
    peak.both = Math.max(peak.both, status.both);
    peakResident = Math.max(peakResident, status.highest);
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
  return { answer: JSON.parse(output), stages, peakResident };
}
