// Ctrl-C for commands that keep what is done: the first asks the work to stop, the next ends it at once.
import { stopSignals } from "../base/platform.ts";

const signals = stopSignals(process.platform);

/** npm, tsx and the terminal may each pass on one keypress: what comes within this time is the same one. */
const SAME_KEYPRESS_MS = 1000;

/**
 * Listens from its making until it is disposed of. Signals are only heard between turns of the event loop, which kernels
 * never leave: the work belongs in another process.
 */
export class Interrupt implements Disposable {
  readonly #first: () => void;
  readonly #again: () => void;
  #since: number | undefined;

  constructor({ first, again }: { first: () => void; again: () => void }) {
    this.#first = first;
    this.#again = again;
    for (const signal of signals) process.on(signal, this.#onSignal);
  }

  readonly #onSignal = (): void => {
    const now = performance.now();
    if (this.#since === undefined) {
      this.#since = now;
      this.#first();
    } else if (now - this.#since > SAME_KEYPRESS_MS) this.#again();
  };

  [Symbol.dispose](): void {
    for (const signal of signals) process.off(signal, this.#onSignal);
  }
}
