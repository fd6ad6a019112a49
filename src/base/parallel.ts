// Several pieces of work at once, and the events of work as a stream. Not threads: each piece waits for something else.

/**
 * Runs `work` on all items, at most `width` at a time, in order of starting. After the first failure, or once `signal`
 * aborts, no more are started, and those under way are told by the signal that they are handed. The failure, or the
 * signal's reason, is thrown once they have ended.
 */
export async function inParallel<T>(
  items: readonly T[],
  width: number,
  work: (item: T, signal: AbortSignal) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const failing = new AbortController();
  const stop = signal ? AbortSignal.any([signal, failing.signal]) : failing.signal;
  let next = 0;
  let failure: { error: unknown } | undefined;
  const lane = async () => {
    while (next < items.length && !stop.aborted) {
      try {
        await work(items[next++]!, stop);
      } catch (error) {
        failure ??= { error };
        failing.abort(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, lane));
  if (failure) throw failure.error;
  signal?.throwIfAborted();
}

/**
 * What `work` emits, in order of arrival; then its failure, where it fails. Leaving the stream aborts the signal that the
 * work is handed, with `left` as its reason, and waits for its end.
 */
export async function* stream<E>(
  work: (emit: (event: E) => void, signal: AbortSignal) => Promise<void>,
  outer?: AbortSignal,
  left?: Error,
): AsyncGenerator<E> {
  const leaving = new AbortController();
  const events: E[] = [];
  let wake: (() => void) | undefined;
  let ended = false;
  let failure: { error: unknown } | undefined;
  const emit = (event: E) => {
    events.push(event);
    wake?.();
  };
  const run = work(emit, outer ? AbortSignal.any([outer, leaving.signal]) : leaving.signal)
    .catch((error: unknown) => {
      failure = { error };
    })
    .finally(() => {
      ended = true;
      wake?.();
    });
  try {
    for (;;) {
      while (events.length > 0) yield events.shift()!;
      if (ended) break;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  } finally {
    leaving.abort(left);
    await run;
  }
  if (failure) throw failure.error;
}

/** Work on all items as {@link inParallel} does it, and what it emits as a {@link stream}. */
export function pool<T, E>(
  items: readonly T[],
  width: number,
  work: (item: T, emit: (event: E) => void, signal: AbortSignal) => Promise<void>,
  outer?: AbortSignal,
): AsyncGenerator<E> {
  return stream<E>((emit, signal) => inParallel(items, width, (item, stop) => work(item, emit, stop), signal), outer);
}
