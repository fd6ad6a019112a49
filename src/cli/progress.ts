// How long something still takes, from how long it took so far.
import { formatSeconds } from "../base/units.ts";

/** ", about 12 s left", or nothing while there is nothing to go by or nothing worth saying. `started` is Date.now(). */
export function timeLeft(started: number, done: number, of: number): string {
  const seconds = ((Date.now() - started) / 1000 / done) * (of - done);
  return Number.isFinite(seconds) && seconds >= 1 ? `, about ${formatSeconds(seconds)} left` : "";
}
