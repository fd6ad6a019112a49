// Numbers as people read them.

/** 1.5 GB, 320 MB, 12 kB: decimal units, as memory cards are sold. */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2)} ${units[unit]}`;
}

/** 14.3 B, 1.42 B, 350 M. */
export function formatCount(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(2)} B`;
  if (count >= 1e6) return `${(count / 1e6).toFixed(1)} M`;
  return formatInteger(count);
}

/** 1,234,567: every digit. */
export const formatInteger = (value: number): string => value.toLocaleString("en-US");

/** `1 step`, `2 steps`; `many` where it does not just end in s. */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

/** 517 TFLOP, 12.3 GFLOP. */
export function formatFlops(flops: number): string {
  for (const [unit, size] of [
    ["PFLOP", 1e15],
    ["TFLOP", 1e12],
    ["GFLOP", 1e9],
  ] as const) {
    if (flops >= size) return `${(flops / size).toPrecision(4)} ${unit}`;
  }
  return `${(flops / 1e6).toPrecision(3)} MFLOP`;
}

/** 12 ms, 4.2 s, 42 s, 3 min 5 s, 2 h 10 min. */
export function formatSeconds(seconds: number): string {
  if (seconds > 0 && seconds < 0.0995) return `${Number((seconds * 1000).toPrecision(2))} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole - minutes * 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** "12.5 %" of a share between 0 and 1. */
export function formatPercent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
