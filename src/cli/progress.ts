// Progress lines that several commands show, and how long something still takes by how long it took so far.
import { formatSeconds } from "../base/units.ts";
import type { DatasetReading } from "../protocol/jobs/inspect-dataset.ts";
import type { Output } from "./terminal.ts";

/** ", about 12 s left", or nothing while there is nothing to go by or nothing worth saying. */
export function secondsLeft(seconds: number): string {
  return Number.isFinite(seconds) && seconds >= 1 ? `, about ${formatSeconds(seconds)} left` : "";
}

/** The same from what is `done` of `of` since `started`, a Date.now(). */
export function timeLeft(started: number, done: number, of: number): string {
  return secondsLeft(((Date.now() - started) / 1000 / done) * (of - done));
}

/** How far a dataset's files are read. */
export function tellProbing(event: DatasetReading, out: Pick<Output, "progress">, started?: number): void {
  if (event.type !== "probed") return;
  const { done, files } = event;
  out.progress(`reading files: ${done} of ${files}${started === undefined ? "" : timeLeft(started, done, files)}`);
}
