// A job in a child process: its events and its end come as messages, so that the parent stays free during a kernel and
// can end it at any moment. No signals are needed, which other systems than POSIX do not have.
import { type ChildProcess, fork } from "node:child_process";
import { createRequire } from "node:module";
import { extname } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { KinoraError } from "../base/errors.ts";
import type { FromChild, ToChild } from "../protocol/jobs/contract.ts";
import { errorFrom, JobStopped } from "./errors.ts";
import { JobRun } from "./run.ts";
import type { EventOf, JobName, RequestOf, ResultOf } from "./table.ts";

/** What a child last wrote to its error output is kept for the report of its crash: this many characters. */
const LAST_WORDS = 2000;

/** The child's program: `.ts` from sources, which Node reads through tsx, and `.js` from the built package. */
function spawnChild(): ChildProcess {
  const ending = extname(fileURLToPath(import.meta.url));
  const program = fileURLToPath(new URL(`./child-program${ending}`, import.meta.url));
  const sources = ending === ".ts";
  const loader = () => pathToFileURL(createRequire(import.meta.url).resolve("tsx/esm")).href;
  return fork(program, {
    execArgv: sources ? ["--import", loader()] : [],
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    serialization: "json",
  });
}

export interface ChildOptions {
  signal?: AbortSignal | undefined;
  cacheFolder: string;
}

/** A job in a process of its own. `cancel` asks it to stop; once more, or `kill`, ends it at once. */
export class ChildRun<E, R> extends JobRun<E, R> {
  /** Of the child process; undefined where none could be started. */
  readonly pid: number | undefined;

  constructor(child: ChildProcess, start: Extract<ToChild, { type: "start" }>, signal: AbortSignal | undefined) {
    let killed = false;
    const kill = () => {
      killed = true;
      child.kill("SIGKILL");
    };
    super((tell, stop) => follow(child, start, { tell, stop, killed: () => killed }), { signal, kill });
    this.pid = child.pid;
  }
}

export function startChild<N extends JobName>(
  job: N,
  request: RequestOf<N>,
  { signal, cacheFolder }: ChildOptions,
): ChildRun<EventOf<N>, ResultOf<N>> {
  return new ChildRun(spawnChild(), { type: "start", job, request, cacheFolder }, signal);
}

interface Following<E> {
  tell(event: E): void;
  stop: AbortSignal;
  /** Whether this process ended the child. */
  killed(): boolean;
}

/** From the start of the work to its end, or the child's. */
function follow<E, R>(child: ChildProcess, start: ToChild, { tell, stop, killed }: Following<E>): Promise<R> {
  const send = (message: ToChild) => {
    // A child that is gone is told of by its end.
    if (child.connected) child.send(message, () => {});
  };
  let words = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    words = (words + text).slice(-LAST_WORDS);
  });
  return new Promise<R>((resolve, reject) => {
    const cancel = () => send({ type: "cancel" });
    child.on("message", (message: FromChild) => {
      if (message.type === "event") tell(message.event as E);
      else if (message.type === "result") resolve(message.result as R);
      else reject(errorFrom(message.error));
    });
    child.once("error", (error) => {
      reject(
        new KinoraError("job.no-process", `the job's process could not be started: ${error.message}`, {
          hint: "check that this machine has free memory and processes",
        }),
      );
    });
    // Its pipes are read to their end then; messages came before.
    child.once("close", (code, signal) => {
      stop.removeEventListener("abort", cancel);
      if (killed()) reject(new JobStopped("the job was killed"));
      // A terminal's Ctrl-C also reaches a child that has not begun to ignore it.
      else if (stop.aborted && signal !== null) reject(new JobStopped());
      else reject(crashed(start, { code, signal, words }));
    });
    send(start);
    if (stop.aborted) cancel();
    else stop.addEventListener("abort", cancel, { once: true });
  });
}

function crashed(
  start: ToChild,
  { code, signal, words }: { code: number | null; signal: NodeJS.Signals | null; words: string },
): KinoraError {
  const job = start.type === "start" ? start.job : "job";
  const last = words.trim().split("\n").slice(-5).join("\n");
  const how = signal === null ? `code ${code}` : signal;
  const memory = signal === "SIGKILL" || /heap out of memory|Allocation failed/i.test(words);
  return new KinoraError("job.crashed", `the ${job} process ended without a result`, {
    actual: last === "" ? how : `${how}: ${last}`,
    hint: memory
      ? "most likely the system ran out of memory: choose a smaller size or fewer frames, or close other programs"
      : "saved work is kept: run the same command again to continue; if it happens again, please report it",
  });
}
