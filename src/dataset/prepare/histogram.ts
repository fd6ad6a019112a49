// A histogram as inline SVG: bars for the values, dashed lines for the limits, numbers at the ends.
import { Html } from "../../base/html.ts";

const width = 260;
const height = 90;
const base = 72;
const bins = 26;

function label(value: number): string {
  return Number(value.toPrecision(2)).toString();
}

/** Limits are always inside the picture, so that it shows how far the values are from them. */
export function histogram(values: readonly number[], { min, max }: { min?: number; max?: number }): Html {
  const limits = [min, max].filter((limit) => limit !== undefined);
  let low = Math.min(...values, ...limits);
  let high = Math.max(...values, ...limits);
  if (high === low) [low, high] = [low - 0.5, high + 0.5];
  const pad = (high - low) * 0.03;
  [low, high] = [low >= 0 && low - pad < 0 ? low : low - pad, high + pad];
  const counts = new Array<number>(bins).fill(0);
  for (const value of values) counts[Math.min(bins - 1, Math.floor(((value - low) / (high - low)) * bins))]!++;
  const most = Math.max(...counts);
  const x = (value: number) => ((value - low) / (high - low)) * width;
  const bars = counts.map((count, i) => {
    if (count === 0) return "";
    // A single item among hundreds is still seen.
    const tall = Math.max(2, (count / most) * (base - 6));
    const left = (i * width) / bins;
    return `<rect x="${left.toFixed(1)}" y="${(base - tall).toFixed(1)}" width="${(width / bins - 1).toFixed(1)}" height="${tall.toFixed(1)}" fill="var(--mark)"/>`;
  });
  const lines = limits.map(
    (limit) =>
      `<line x1="${x(limit).toFixed(1)}" x2="${x(limit).toFixed(1)}" y1="2" y2="${base}" stroke="var(--bad)" stroke-dasharray="4 3"/>`,
  );
  const text = (at: number, anchor: string, value: number) =>
    `<text x="${at}" y="${height - 4}" font-size="11" fill="var(--soft)" text-anchor="${anchor}">${label(value)}</text>`;
  return new Html(
    `<svg viewBox="0 0 ${width} ${height}" role="img">${bars.join("")}${lines.join("")}<line x1="0" x2="${width}" y1="${base}" y2="${base}" stroke="var(--line)"/>${text(0, "start", low)}${text(width, "end", high)}</svg>`,
  );
}
