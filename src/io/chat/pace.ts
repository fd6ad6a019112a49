// When the next request may start: an even rate, and the pauses a server asks for. Not a queue of work.
import { setTimeout as delay } from "node:timers/promises";

/** Sleeps unless `signal` aborts first, which rejects with the signal's reason. */
export async function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  try {
    await delay(milliseconds, undefined, signal ? { signal } : {});
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

/** Hands out starting times: `requestsPerMinute` evenly spaced, none before a pause has ended. */
export class Pace {
  readonly #spacing: number;
  #next = 0;
  #pausedUntil = 0;

  constructor(requestsPerMinute?: number) {
    this.#spacing = requestsPerMinute === undefined ? 0 : 60_000 / requestsPerMinute;
  }

  /** Holds every later start back: a server's Retry-After is meant for all of us, not for one request. */
  pause(milliseconds: number): void {
    this.#pausedUntil = Math.max(this.#pausedUntil, performance.now() + milliseconds);
  }

  /** Resolves when one request may start. */
  async turn(signal?: AbortSignal): Promise<void> {
    const slot = Math.max(performance.now(), this.#next);
    this.#next = slot + this.#spacing;
    await this.#until(slot, signal);
    // A pause may have begun, or grown, while this one waited.
    while (performance.now() < this.#pausedUntil) await this.#until(this.#pausedUntil, signal);
  }

  async #until(time: number, signal?: AbortSignal): Promise<void> {
    const wait = time - performance.now();
    if (wait > 0) await sleep(Math.ceil(wait), signal);
  }
}
