// The run's own page: what is trained, curves, validation, previews. One HTML file that opens from disk.
import { join } from "node:path";
import { type Curve, chart, chartStyle, colors, ramp, short } from "../../base/chart.ts";
import { isKinoraError } from "../../base/errors.ts";
import { type Html, html, page, table } from "../../base/html.ts";
import { formatBytes, formatSeconds } from "../../base/units.ts";
import { writeFileAtomic } from "../../io/atomic.ts";
import { readPlainFile } from "../../io/files.ts";
import type { LogLine, PreviewLine, StepLine, ValidationLine } from "../../protocol/train-log.ts";
import type { TrainSettings } from "../config/settings.ts";

export const pageName = "index.html";

/** Films in the page itself, all together; further ones are linked. */
const EMBEDDED = 24e6;

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
    const levels = own[0]?.bands ?? [];
    const shades = ramp(levels.length);
    const curves = levels.map(({ sigma }, i) => ({
      name: `σ ${sigma.toFixed(3)}`,
      color: shades[i]!,
      points: own.flatMap((line) => (line.bands[i] ? [[line.step, line.bands[i].loss] as const] : [])),
    }));
    const drawn = chart(curves);
    return drawn && html`<h3>${experts.length > 1 ? `${name(expert)} by noise level` : "By noise level"}</h3>${drawn}`;
  });
  return html`<h2>Held-out loss</h2><p class="soft">Files that are never trained on, with fixed noise and noise levels.</p>${chart(total)}${bands}`;
}

/** The films of each prompt, by step, each with its caption. */
async function previewFigures(output: string, lines: readonly PreviewLine[]): Promise<Html | undefined> {
  if (lines.length === 0) return undefined;
  // Of films that were made twice, the last.
  const films = [...new Map(lines.map((line) => [`${line.step}/${line.index}`, line])).values()];
  films.sort((a, b) => a.index - b.index || a.step - b.step);
  let budget = EMBEDDED;
  const figures = new Map<PreviewLine, Html>();
  // The newest first, so that the budget is spent on them.
  for (const line of [...films].sort((a, b) => b.step - a.step)) {
    // What is larger than the rest of the budget is shown from its file.
    const bytes = await readPlainFile(join(output, line.file), budget).catch((error: unknown) =>
      isKinoraError(error, "io.too-large") ? ("too large" as const) : undefined,
    );
    if (bytes instanceof Buffer) budget -= bytes.length;
    const source = bytes instanceof Buffer ? `data:video/mp4;base64,${bytes.toString("base64")}` : line.file;
    const film = bytes
      ? html`<video src="${source}" muted loop playsinline controls preload="metadata" aria-label="${line.prompt}, step ${line.step}"></video>`
      : html`<p class="soft">the video was deleted</p>`;
    figures.set(line, html`<figure>${film}<figcaption>step ${line.step}</figcaption></figure>`);
  }
  const prompts = new Map(films.map(({ index, prompt }) => [index, prompt]));
  const rows = [...prompts].map(([index, prompt]) => {
    const own = films.filter((line) => line.index === index).map((line) => figures.get(line));
    return html`<h3>${prompt || "(no words)"}</h3><div class="films">${own}</div>`;
  });
  return html`<h2>Previews</h2>${rows}`;
}

const style = `${chartStyle}
.films{display:flex;flex-wrap:wrap;gap:.9rem}.films figure{margin:0;width:11rem}.films video{width:100%;border-radius:.3rem;background:var(--tint)}
.films figcaption{font-size:13px;color:var(--soft)}
@media(max-width:30rem){main{padding:1.2rem .9rem 3rem}.films figure{width:calc(50% - .45rem)}.tile{flex:1;min-width:6.5rem;padding:.5rem .7rem}.tile b{font-size:1.2rem}}
`;

/** A heading and what is below it, where there is something. */
const section = (title: string, content: Html | undefined): Html | undefined =>
  content && html`<h2>${title}</h2>${content}`;

/** The smoothed loss of each expert. */
function lossTiles(lines: readonly StepLine[]): { name: string; value: string }[] {
  const last = new Map(lines.map((line) => [line.expert, line.smoothed]));
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
  const rate = { name: "learning rate", color: colors[2]!, points: of((line) => line.learningRate) };
  const norm = { name: "before clipping", color: colors[1]!, points: of((line) => line.gradientNorm) };
  const losses = chart(lossCurves(stepLines));
  const files = saved.map(([step, file]) => [step, file]);
  const tiles = [
    tile("steps", `${last?.step ?? 0} of ${steps}`),
    ...lossTiles(stepLines).map(({ name, value }) => tile(name, value)),
    ...(last
      ? [
          tile("seconds a step", short(seconds / stepLines.length)),
          tile("time in steps", formatSeconds(seconds)),
          tile("peak memory", formatBytes(Math.max(...stepLines.slice(-50).map((line) => line.peakBytes)))),
        ]
      : []),
  ];
  const body = html`<h1>${settings.name}</h1><p class="soft">${whatTrains(settings)}</p>
<div class="tiles">${tiles}</div>
${losses ? undefined : html`<p class="soft">No step is done yet.</p>`}
${section("Loss", losses && html`${losses}<p class="soft">The loss of a step depends on its noise levels more than on the training; the held-out loss tells what is learnt.</p>`)}
${validationCharts(validations)}
${await previewFigures(settings.output, previews)}
${section("Learning rate", chart([rate], { zero: true }))}
${section("Gradient norm", chart([norm], { zero: true }))}
${section("Files", files.length > 0 ? table([{ title: "step", numeric: true }, { title: "file" }], files) : undefined)}`;
  return page(`${settings.name} – training`, body, style);
}

/** What trains on what, in a line. */
function whatTrains({ kind, lora, model, experts, boundary }: TrainSettings): string {
  const what = kind === "lora" ? `LoRA of rank ${lora.rank}` : "full fine-tune";
  const which = experts.train.length > 1 ? "both experts" : `${experts.train[0]}-noise expert`;
  return `${what} on ${model.name}${boundary === undefined ? "" : `, ${which}`}`;
}

export async function writeRunPage(settings: TrainSettings, lines: readonly LogLine[], steps: number): Promise<void> {
  await writeFileAtomic(join(settings.output, pageName), await runPage(settings, lines, steps));
}
