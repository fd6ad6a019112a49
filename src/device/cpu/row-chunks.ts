// Rows of a matrix some at a time, so that what is widened in between stays in the cache.

/** Elements of a chunk: 1 MiB of float32, half of it for each of two cores, stays in their second-level caches. */
const CHUNK_ELEMENTS = 1 << 18;

/** Calls `visit` for rows `[start, start + count)` in chunks. */
export function eachRowChunk(
  start: number,
  count: number,
  columns: number,
  visit: (start: number, count: number) => void,
): void {
  const step = Math.max(1, Math.floor(CHUNK_ELEMENTS / Math.max(1, columns)));
  for (let at = start; at < start + count; at += step) visit(at, Math.min(step, start + count - at));
}
