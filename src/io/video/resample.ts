// From frames at any times to frames at a steady rate, by timestamps and never by counting.

/** Something shown from `time` on, for `duration` seconds or until the next. */
export interface Timed {
  /** Seconds from the start of the film. */
  time: number;
  /** Seconds; used only for the last one. */
  duration: number;
}

export interface Resampled<T extends Timed> {
  /** Counts from 0 at `start`. Slot k covers start + k/fps to start + (k+1)/fps. */
  slot: number;
  item: T;
}

/**
 * For each slot of 1/fps seconds from `start`, the item on screen in the middle of the slot: steady under jitter of up
 * to half a frame, so that a source already at `fps` comes out unchanged. Items before `start` count while they show.
 *
 * `keep` is called on an item that is held for later, `drop` when it is let go (frames are reference counted).
 */
export async function* resample<T extends Timed>(
  items: AsyncIterable<T>,
  options: { fps: number; start?: number; end?: number; keep(item: T): T; drop(item: T): void },
): AsyncGenerator<Resampled<T>> {
  const { fps, start = 0, end = Number.POSITIVE_INFINITY, keep, drop } = options;
  const instant = (slot: number) => start + (slot + 0.5) / fps;
  // The slot's middle must lie in the range; the tolerance is for ends computed as slot / fps.
  const inRange = (slot: number) => instant(slot) < end - 1e-9;
  let slot = 0;
  let held: T | undefined;
  try {
    for await (const item of items) {
      if (held) {
        for (; instant(slot) < item.time; slot++) {
          if (!inRange(slot)) return;
          yield { slot, item: held };
        }
        drop(held);
      } else {
        // A film whose first frame comes late starts with the first slot that shows something.
        while (instant(slot) < item.time && inRange(slot)) slot++;
      }
      held = undefined;
      if (!inRange(slot)) return;
      held = keep(item);
    }
    if (held) {
      const last = held.time + Math.max(held.duration, 0);
      for (; inRange(slot) && instant(slot) < last - 1e-9; slot++) yield { slot, item: held };
    }
  } finally {
    if (held) drop(held);
  }
}
