// Several pieces of work at once, their events as one stream. Leaving the stream stops the work.

/**
 * Runs `work` on each item, at most `concurrency` at a time, in order of starting. What `work` throws ends the stream:
 * the others are told to stop by `signal`, and the stream throws once all have ended.
 */
export async function* pool<T, E>(
  items: readonly T[],
  concurrency: number,
  work: (item: T, emit: (event: E) => void, signal: AbortSignal) => Promise<void>,
  outer?: AbortSignal,
): AsyncGenerator<E> {
  const stop = new AbortController();
  const signal = outer ? AbortSignal.any([outer, stop.signal]) : stop.signal;
  const events: E[] = [];
  let wake: (() => void) | undefined;
  let failure: { error: unknown } | undefined;
  let running = 0;
  let next = 0;

  const tell = () => wake?.();
  const runner = async () => {
    running++;
    try {
      while (next < items.length && !signal.aborted) {
        const item = items[next++]!;
        await work(
          item,
          (event) => {
            events.push(event);
            tell();
          },
          signal,
        );
      }
    } catch (error) {
      failure ??= { error };
      stop.abort(error);
    } finally {
      running--;
      tell();
    }
  };
  const runners = Array.from({ length: Math.min(concurrency, items.length) }, runner);

  try {
    for (;;) {
      while (events.length > 0) yield events.shift()!;
      if (running === 0) break;
      await new Promise<void>((resolve) => {
        wake = resolve;
        if (events.length > 0 || running === 0) resolve();
      });
    }
  } finally {
    stop.abort();
    await Promise.all(runners);
  }
  if (failure) throw failure.error;
  outer?.throwIfAborted();
}
