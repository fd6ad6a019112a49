// Lines over steps for our HTML pages: drawn as SVG that stretches, labelled in HTML, so that words keep their size on a
// phone. What the curves are is the caller's.
import { type Html, html } from "./html.ts";

export interface Curve {
  name: string;
  color: string;
  points: readonly (readonly [step: number, value: number])[];
  faint?: boolean;
}

/** More points than this are thinned out: no screen shows them. */
const POINTS = 800;
/** Fewer than this are marked each. */
const MARKED = 40;

function thinned<T>(points: readonly T[]): T[] {
  const stride = Math.max(1, Math.ceil(points.length / POINTS));
  return points.filter((_, i) => i % stride === 0 || i === points.length - 1);
}

/** Three digits. */
export const short = (value: number): string => (value === 0 ? "0" : Number(value.toPrecision(3)).toString());

/** Of the curves, in the page's light or dark look. */
export const colors = [
  "var(--mark)",
  "var(--bad)",
  "var(--good)",
  "var(--warn)",
  "#8b5fbf",
  "#2a9d9d",
  "#b5651d",
  "#7a7a7a",
];

/** `count` colours in a row, from blue to red. */
export const ramp = (count: number): string[] =>
  Array.from(
    { length: count },
    (_, i) => `hsl(${Math.round(220 - (count > 1 ? (200 * i) / (count - 1) : 0))} 65% 50%)`,
  );

/** A value's scale: the middle 98 % of many values, so that a few outliers do not flatten the rest. */
function scaleOf(points: readonly (readonly [number, number])[], zero: boolean): [low: number, high: number] {
  const values = points.map(([, value]) => value).sort((a, b) => a - b);
  const at = (share: number) => values[Math.round(share * (values.length - 1))]!;
  let [low, high] = values.length > 50 ? [at(0.01), at(0.99)] : [values[0]!, values.at(-1)!];
  if (zero) low = Math.min(low, 0);
  if (high === low) high = low + (Math.abs(low) || 1) * 0.1;
  return [low, high];
}

const SHARES = [0, 0.25, 0.5, 0.75, 1];

/** Curves with their legend; undefined where there is nothing to draw. A page that has one takes `chartStyle`. */
export function chart(curves: readonly Curve[], options: { zero?: boolean } = {}): Html | undefined {
  const drawn = curves
    .map((curve) => ({ ...curve, points: thinned(curve.points.filter(([, value]) => Number.isFinite(value))) }))
    .filter(({ points }) => points.length > 0);
  if (drawn.length === 0) return undefined;
  const all = drawn.flatMap(({ points }) => points);
  const [low, high] = scaleOf(all, options.zero ?? false);
  const steps = all.map(([step]) => step);
  const [first, last] = steps.reduce(([a, b], step) => [Math.min(a, step), Math.max(b, step)], [steps[0]!, steps[0]!]);
  const x = (step: number) => (1000 * (step - first)) / Math.max(1, last - first);
  const y = (value: number) => 1000 - (1000 * (Math.min(high, Math.max(low, value)) - low)) / (high - low);
  const place = ([step, value]: readonly [number, number]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`;
  const grid = SHARES.map((share) => html`<path d="M0,${1000 * share}H1000" stroke="var(--line)"/>`);
  const lines = drawn.map(({ points, color, faint, name }) => {
    const line = html`<polyline points="${points.map(place).join(" ")}" stroke="${color}" stroke-width="${faint ? 1 : 2}" opacity="${faint ? 0.4 : 1}"/>`;
    // A round cap on a line of no length is a dot that does not stretch.
    const dots = points.map(
      (point) =>
        html`<path d="M${place(point)}h0" stroke="${color}" stroke-width="${faint ? 4 : 7}" stroke-linecap="round" opacity="${faint ? 0.4 : 1}"><title>${name}, step ${point[0]}: ${short(point[1])}</title></path>`,
    );
    return html`${line}${points.length < MARKED ? dots : undefined}`;
  });
  const values = SHARES.map(
    (share) => html`<span style="bottom:${100 * share}%">${short(low + share * (high - low))}</span>`,
  );
  const marks = [...new Set([0, 0.5, 1].map((share) => Math.round(first + share * (last - first))))];
  const legend = drawn.map(
    ({ name, color, faint }) =>
      html`<span><i style="border-top:${faint ? 2 : 3}px solid ${color};opacity:${faint ? 0.4 : 1}"></i>${name}</span>`,
  );
  return html`<figure class="chart"><figcaption>${legend}</figcaption><div class="plot"><div class="values">${values}</div><svg viewBox="0 0 1000 1000" preserveAspectRatio="none" fill="none" role="img" aria-label="${drawn.map(({ name }) => name).join(", ")}">${grid}${lines}</svg></div><div class="steps">${marks.map((step) => html`<span>${step}</span>`)}</div></figure>`;
}

export const chartStyle = `
.chart{margin:.6rem 0;max-width:60rem;font-size:12px;color:var(--soft)}
.chart figcaption{display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;margin-bottom:.7rem}
.chart figcaption i{display:inline-block;width:1.4rem;vertical-align:middle;margin-right:.4rem}
.chart .plot{display:flex;height:clamp(9rem,30vw,15rem)}
.chart .values{position:relative;flex:0 0 4.2rem}.chart .values span{position:absolute;right:.5rem;transform:translateY(50%);line-height:1;font-variant-numeric:tabular-nums}
.chart svg{flex:1;min-width:0;height:100%;overflow:visible}.chart svg *{vector-effect:non-scaling-stroke}
.chart .steps{display:flex;justify-content:space-between;margin:.5rem 0 0 4.2rem;font-variant-numeric:tabular-nums}
`;
