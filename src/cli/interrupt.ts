// Ctrl-C for commands that keep what is done: the first asks the work to stop, the next ends the process.

/** npm, tsx and the terminal may each pass on one keypress: what comes within this time is the same one. */
const SAME_KEYPRESS_MS = 1000;

const signals = ["SIGINT", "SIGTERM"] as const;

/**
 * Listens from its making until it is disposed of. Signals are only heard between turns of the event loop, which kernels
 * never leave.
 */
export class Interrupt implements Disposable {
  readonly #controller = new AbortController();
  readonly #say: () => void;
  #listening = false;

  /** `say` tells the person that the first signal was heard. */
  constructor(say: () => void) {
    this.#say = say;
    this.listen(true);
  }

  /** Aborts at the first signal. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Off: signals end the process at once. For work that loses nothing and would not hear them for long. */
  listen(on: boolean): void {
    if (on === this.#listening || (on && this.#controller.signal.aborted)) return;
    this.#listening = on;
    for (const signal of signals) {
      if (on) process.on(signal, this.#onSignal);
      else process.off(signal, this.#onSignal);
    }
  }

  readonly #onSignal = (): void => {
    if (this.#controller.signal.aborted) return;
    this.#controller.abort();
    this.#say();
    // The next signal is the system's, which ends the process in the middle of a kernel too. Until then this thread
    // waits, since a timer would come only after the kernels.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, SAME_KEYPRESS_MS);
    this.listen(false);
  };

  [Symbol.dispose](): void {
    this.listen(false);
  }
}
