// The run's own page: what is trained, curves, validation, previews. One HTML file that opens from disk.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Html, html, page, table } from "../../base/html.ts";
import { formatBytes, formatSeconds } from "../../base/units.ts";
import { writeFileAtomic } from "../../io/atomic.ts";
import type { LogLine, PreviewLine, StepLine, ValidationLine } from "../../protocol/train-log.ts";
import type { TrainSettings } from "../config/settings.ts";

export const pageName = "index.html";

/** More points than this are thinned out: no screen shows them. */
const POINTS = 800;
/** Films in the page itself, all together; further ones are linked. */
const EMBEDDED = 24e6;

interface Curve {
  name: string;
  color: string;
  points: readonly (readonly [step: number, value: number])[];
  faint?: boolean;
}

function thinned<T>(points: readonly T[]): T[] {
  const stride = Math.max(1, Math.ceil(points.length / POINTS));
  return points.filter((_, i) => i % stride === 0 || i === points.length - 1);
}

const short = (value: number): string => (value === 0 ? "0" : Number(value.toPrecision(3)).toString());

/** Lines over steps, drawn in 720×240 units. */
export function chart(curves: readonly Curve[], options: { zero?: boolean } = {}): Html {
  const drawn = curves
    .map((curve) => ({ ...curve, points: thinned(curve.points.filter(([, value]) => Number.isFinite(value))) }))
    .filter(({ points }) => points.length > 0);
  if (drawn.length === 0) return html`<p class="soft">nothing yet</p>`;
  const all = drawn.flatMap(({ points }) => points);
  // A few outliers must not flatten the rest: the middle 98 % of the values set the scale.
  const values = all.map(([, value]) => value).sort((a, b) => a - b);
  const at = (share: number) => values[Math.round(share * (values.length - 1))]!;
  let [low, high] = values.length > 50 ? [at(0.01), at(0.99)] : [values[0]!, values.at(-1)!];
  if (options.zero) low = Math.min(low, 0);
  if (high === low) high = low + (Math.abs(low) || 1) * 0.1;
  const [first, last] = [Math.min(...all.map(([step]) => step)), Math.max(...all.map(([step]) => step))];
  const [left, right, top, bottom] = [60, 712, 8, 212];
  const x = (step: number) => left + ((step - first) / Math.max(1, last - first)) * (right - left);
  const y = (value: number) => bottom - ((Math.min(high, Math.max(low, value)) - low) / (high - low)) * (bottom - top);
  const grid = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const value = low + share * (high - low);
    return html`<line x1="${left}" x2="${right}" y1="${y(value)}" y2="${y(value)}" stroke="var(--line)"/><text x="${left - 6}" y="${y(value) + 4}" text-anchor="end">${short(value)}</text>`;
  });
  const steps = [...new Set([0, 0.5, 1].map((share) => Math.round(first + share * (last - first))))].map(
    (step) => html`<text x="${x(step)}" y="${bottom + 18}" text-anchor="middle">${step}</text>`,
  );
  const lines = drawn.map(({ points, color, faint, name }) => {
    const path = points.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    const style = html`stroke="${color}" stroke-width="${faint ? 1 : 2}" opacity="${faint ? 0.35 : 1}"`;
    const dots =
      points.length < 40
        ? points.map(
            ([step, value]) =>
              html`<circle cx="${x(step).toFixed(1)}" cy="${y(value).toFixed(1)}" r="3" fill="${color}"><title>${name}, step ${step}: ${short(value)}</title></circle>`,
          )
        : [];
    return html`<polyline points="${path}" fill="none" ${style}/>${dots}`;
  });
  const legend = drawn.map(
    ({ name, color }) => html`<span style="margin-right:1rem"><span style="color:${color}">●</span> ${name}</span>`,
  );
  return html`<div>${legend}</div><svg viewBox="0 0 720 240" width="100%" role="img" style="max-width:60rem;font:11px system-ui;fill:var(--soft)">${grid}${steps}${lines}</svg>`;
}

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

/** The loss of each step and the smoothed one, of each expert. */
export function lossCurves(lines: readonly StepLine[]): Curve[] {
  const experts = [...new Set(lines.map(({ expert }) => expert))].sort();
  return experts.flatMap((expert, i) => {
    const own = lines.filter((line) => line.expert === expert);
    const name = experts.length > 1 ? `, ${expert}-noise expert` : "";
    const faint = experts.length > 1 ? colors[i]! : colors[7]!;
    return [
      {
        name: `each step${name}`,
        color: faint,
        points: own.map(({ step, loss }) => [step, loss] as const),
        faint: true,
      },
      {
        name: `smoothed${name}`,
        color: colors[i]!,
        points: own.map(({ step, smoothed }) => [step, smoothed] as const),
      },
    ];
  });
}

/** The held-out loss of each expert, and by noise level; undefined where nothing was judged. */
export function validationCharts(lines: readonly ValidationLine[]): Html | undefined {
  if (lines.length === 0) return undefined;
  const experts = [...new Set(lines.map(({ expert }) => expert))];
  const name = (expert: string) => (experts.length > 1 ? `${expert}-noise expert` : "held-out loss");
  const total = experts.map((expert, i) => ({
    name: name(expert),
    color: colors[i]!,
    points: lines.filter((line) => line.expert === expert).map(({ step, loss }) => [step, loss] as const),
  }));
  const bands = experts.map((expert) => {
    const own = lines.filter((line) => line.expert === expert);
    const curves = (own[0]?.bands ?? []).map(({ sigma }, i) => ({
      name: `σ ${sigma.toFixed(3)}`,
      color: colors[i % colors.length]!,
      points: own.flatMap((line) => (line.bands[i] ? [[line.step, line.bands[i].loss] as const] : [])),
    }));
    return html`<h3>${experts.length > 1 ? name(expert) : "By noise level"}</h3>${chart(curves)}`;
  });
  return html`<h2>Held-out loss</h2><p class="soft">Files that never train, with noise and noise levels that never change.</p>${chart(total)}${bands}`;
}

async function previewTable(output: string, lines: readonly PreviewLine[]): Promise<Html | undefined> {
  if (lines.length === 0) return undefined;
  const steps = [...new Set(lines.map(({ step }) => step))].sort((a, b) => a - b);
  const prompts = new Map(lines.map(({ index, prompt }) => [index, prompt]));
  let budget = EMBEDDED;
  const cells = new Map<string, Html>();
  // The newest first, so that the budget is spent on them.
  for (const line of [...lines].reverse()) {
    const key = `${line.step}/${line.index}`;
    if (cells.has(key)) continue;
    const bytes = await readFile(join(output, line.file)).catch(() => undefined);
    const embedded = bytes && bytes.length <= budget;
    if (embedded) budget -= bytes.length;
    const source = embedded ? `data:video/mp4;base64,${bytes.toString("base64")}` : line.file;
    cells.set(
      key,
      bytes
        ? html`<video src="${source}" width="160" muted loop playsinline controls preload="metadata"></video>`
        : html`<span class="soft">missing</span>`,
    );
  }
  const rows = [...prompts]
    .sort(([a], [b]) => a - b)
    .map(([index, prompt]) => {
      const films = steps.map((step) => html`<td>${cells.get(`${step}/${index}`) ?? ""}</td>`);
      return html`<tr><td style="min-width:10rem">${prompt}</td>${films}</tr>`;
    });
  const heads = steps.map((step) => html`<th>step ${step}</th>`);
  return html`<h2>Previews</h2><div class="wide"><table><thead><tr><th>prompt</th>${heads}</tr></thead><tbody>${rows}</tbody></table></div>`;
}

/** The smoothed loss of each expert. */
function lossTiles(lines: readonly StepLine[]): { name: string; value: string }[] {
  const last = new Map(lines.map((line) => [line.expert, line.smoothed]));
  if (last.size === 0) return [{ name: "smoothed loss", value: "–" }];
  const name = (expert: string) => (last.size > 1 ? `smoothed loss, ${expert} noise` : "smoothed loss");
  return [...last].sort().map(([expert, value]) => ({ name: name(expert), value: short(value) }));
}

/** The page as text. */
export async function runPage(settings: TrainSettings, lines: readonly LogLine[], steps: number): Promise<string> {
  const stepLines = lines.filter((line): line is StepLine => line.kind === "step");
  const last = stepLines.at(-1);
  const validations = lines.filter((line): line is ValidationLine => line.kind === "validation");
  const previews = lines.filter((line): line is PreviewLine => line.kind === "preview");
  const saved = lines.flatMap((line) =>
    line.kind === "saved" ? line.files.map((file) => [line.step, file] as const) : [],
  );
  const seconds = stepLines.reduce((sum, line) => sum + line.seconds, 0);
  const tile = (name: string, value: string) => html`<div class="tile"><b>${value}</b>${name}</div>`;
  const of = (value: (line: StepLine) => number) => stepLines.map((line) => [line.step, value(line)] as const);
  const what = settings.kind === "lora" ? `LoRA of rank ${settings.lora.rank}` : "full fine-tune";
  const body = html`<h1>${settings.name}</h1><p class="soft">${what} on ${settings.model.name}, ${settings.experts.train.length > 1 ? "both experts" : settings.boundary === undefined ? "" : `${settings.experts.train[0]}-noise expert`}</p>
<div class="tiles">${[
    tile("steps", `${last?.step ?? 0} of ${steps}`),
    ...lossTiles(stepLines).map(({ name, value }) => tile(name, value)),
    tile("seconds a step", last ? short(seconds / stepLines.length) : "–"),
    tile("time in steps", formatSeconds(seconds)),
    tile("peak memory", last ? formatBytes(Math.max(...stepLines.slice(-50).map((line) => line.peakBytes))) : "–"),
  ]}</div>
<h2>Loss</h2>${chart(lossCurves(stepLines))}
<p class="soft">The loss of a step depends on its noise levels more than on the training; the held-out loss tells what is learnt.</p>
${validationCharts(validations)}
${await previewTable(settings.output, previews)}
<h2>Learning rate</h2>${chart([{ name: "learning rate", color: colors[2]!, points: of((line) => line.learningRate) }], { zero: true })}
<h2>Gradient norm</h2>${chart([{ name: "before clipping", color: colors[1]!, points: of((line) => line.gradientNorm) }], { zero: true })}
${
  saved.length > 0
    ? html`<h2>Files</h2>${table(
        [{ title: "step", numeric: true }, { title: "file" }],
        saved.map(([step, file]) => [step, file]),
      )}`
    : undefined
}`;
  return page(`${settings.name} – training`, body);
}

export async function writeRunPage(settings: TrainSettings, lines: readonly LogLine[], steps: number): Promise<void> {
  await writeFileAtomic(join(settings.output, pageName), await runPage(settings, lines, steps));
}
