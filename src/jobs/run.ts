// A job under way, as its starter holds it: the events as they come, the result at the end, and the means to stop it.
import { setImmediate as nextTurn } from "node:timers/promises";
import { KinoraError } from "../base/errors.ts";
import { JobStopped, stoppedBy } from "./errors.ts";
import { type JobContext, type JobDefinition, parseRequest } from "./job.ts";

/** Runs a job in this process; each event is handed to `context.emit`. Throws what the job throws, `JobStopped` where it was stopped. */
export async function performJob(
  { contract, run }: JobDefinition,
  request: unknown,
  context: JobContext,
): Promise<unknown> {
  const { signal, emit } = context;
  try {
    signal.throwIfAborted();
    const work = run(parseRequest(contract.name, contract.request, request), context);
    try {
      for (;;) {
        const { done, value } = await work.next();
        if (done) return value;
        emit(value);
        // Kernels never leave the turn of the event loop that they began in: who listens has his turn before the next.
        await nextTurn();
      }
    } finally {
      await work.return(undefined);
    }
  } catch (error) {
    throw stoppedBy(signal, error);
  }
}

/** Does the work of a run: tells events as they come, and ends with the result. */
export type Driver<E, R> = (tell: (event: E) => void, signal: AbortSignal) => Promise<R>;

export interface RunControls {
  /** Asks the job to stop when it aborts, as `cancel` does. */
  signal?: AbortSignal | undefined;
  /** Ends the work at once, where that is possible. */
  kill?: () => void;
}

/** Events that are kept for a loop that has not begun yet; the oldest go first. */
const KEPT = 1000;

/**
 * A job that has begun. Iterate it for its events, await it for its result, or both; leaving the loop early stops the
 * job. A failure rejects the result and ends the loop; one that nobody waits for is not an unhandled rejection.
 *
 * @example
 * ```ts
 * const run = generate({ model: "tiny-t2v", prompt: "a red circle moves to the right", out: "a.mp4" });
 * for await (const event of run) if (event.type === "step") console.log(`${event.step} of ${event.steps}`);
 * const { video } = await run;
 * ```
 */
export class JobRun<E, R> implements AsyncIterable<E>, PromiseLike<R> {
  /** The result; rejects with a KinoraError, of the code `job.stopped` where the job was stopped. */
  readonly result: Promise<R>;
  readonly #controller = new AbortController();
  readonly #kill: (() => void) | undefined;
  readonly #events: E[] = [];
  #read = false;
  #ended = false;
  #failure: { error: unknown } | undefined;
  /** Of a reader that waits for the next event. */
  #wake: (() => void) | undefined;

  constructor(drive: Driver<E, R>, { signal, kill }: RunControls = {}) {
    this.#kill = kill;
    const stop = () => this.#ask();
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
    this.result = drive((event) => this.#tell(event), this.#controller.signal);
    this.result
      .catch((error: unknown) => {
        this.#failure = { error };
      })
      .finally(() => {
        signal?.removeEventListener("abort", stop);
        this.#ended = true;
        this.#wake?.();
      });
  }

  /** Asks the job to stop where nothing is lost. In a child process, a second call ends it at once. */
  cancel(): void {
    if (this.#controller.signal.aborted) this.kill();
    else this.#ask();
  }

  #ask(): void {
    if (!this.#controller.signal.aborted) this.#controller.abort(new JobStopped());
  }

  /** Ends a child process at once, in the middle of a kernel too; what is on disk stays whole. Here it only asks to stop. */
  kill(): void {
    this.#ask();
    if (!this.#ended) this.#kill?.();
  }

  #tell(event: E): void {
    this.#events.push(event);
    if (!this.#read && this.#events.length > KEPT) this.#events.shift();
    this.#wake?.();
  }

  /** The events, once. @throws KinoraError `job.already-read` for a second loop. */
  async *[Symbol.asyncIterator](): AsyncGenerator<E, void> {
    if (this.#read) {
      throw new KinoraError("job.already-read", "the events of this job are already being read", {
        hint: "read them in one loop and pass them on",
      });
    }
    this.#read = true;
    let left = true;
    try {
      for (;;) {
        while (this.#events.length > 0) yield this.#events.shift()!;
        if (this.#ended) break;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      left = false;
      if (this.#failure) throw this.#failure.error;
    } finally {
      if (left && !this.#ended) {
        this.#ask();
        // Until files and locks are given back.
        await this.result.catch(() => {});
      }
    }
  }

  // biome-ignore lint/suspicious/noThenProperty: to be awaited for its result is what it is for.
  then<A = R, B = never>(
    onResult?: ((result: R) => A | PromiseLike<A>) | null,
    onError?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.result.then(onResult, onError);
  }

  catch<B = never>(onError?: ((error: unknown) => B | PromiseLike<B>) | null): Promise<R | B> {
    return this.result.catch(onError);
  }

  finally(onEnd?: (() => void) | null): Promise<R> {
    return this.result.finally(onEnd);
  }
}
