// Runs a command's job in a process of its own, so that Ctrl-C is heard in the middle of a kernel, and prints its events.
import { JobStopped } from "../jobs/errors.ts";
import { startJob } from "../jobs/start.ts";
import type { EventOf, JobName, RequestOf, ResultOf } from "../jobs/table.ts";
import { Interrupt } from "./interrupt.ts";
import type { Printer } from "./terminal.ts";

/** The exit code of a command that was stopped, as shells have it for Ctrl-C; and for a reader that went away. */
export const STOPPED = 130;
export const BROKEN_PIPE = 141;

/** Runs a short job in this process, which a signal ends. Throws what the job throws. */
export async function perform<N extends JobName>(
  out: Printer,
  name: N,
  request: RequestOf<N>,
  show: (event: EventOf<N>) => void = () => {},
): Promise<ResultOf<N>> {
  const run = startJob(name, request);
  for await (const event of run) {
    out.event(event);
    show(event);
  }
  return run;
}

export interface Following<N extends JobName> {
  /** What a person reads of an event. */
  show(event: EventOf<N>): void;
  /** What the first Ctrl-C waits for, e.g. `this step`. */
  until(): string;
  /** What a person and a machine read of a job that was stopped; `atOnce`: by the second Ctrl-C. */
  stopped(atOnce: boolean): { value: unknown; text: string };
}

/** The job's result; undefined where it was stopped, which is said. Throws what the job throws. */
export async function follow<N extends JobName>(
  out: Printer,
  name: N,
  request: RequestOf<N>,
  { show, until, stopped }: Following<N>,
): Promise<ResultOf<N> | undefined> {
  let atOnce = false;
  // A reader that went away hears no more of it: the job stops where nothing is lost.
  const run = startJob(name, request, { child: true, signal: out.closed });
  using _interrupt = new Interrupt({
    first() {
      out.note(`stopping after ${until()}; press Ctrl-C again to stop now`);
      run.cancel();
    },
    again() {
      atOnce = true;
      run.kill();
    },
  });
  try {
    for await (const event of run) {
      out.event(event);
      show(event);
    }
    return await run;
  } catch (error) {
    if (!(error instanceof JobStopped)) throw error;
    const { value, text } = stopped(atOnce);
    if (out.json) out.answer(value, () => "");
    else out.say(text);
    return undefined;
  }
}
