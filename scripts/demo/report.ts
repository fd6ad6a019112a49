// The demo's last stage: one page with everything on it. The videos are in the page itself; where the page lies beside
// them they play from their files, which phones prefer.
import { readFile } from "node:fs/promises";
import { cpus } from "node:os";
import { basename, join, relative, sep } from "node:path";
import { chart, chartStyle } from "../../src/base/chart.ts";
import { type Html, html, page, table } from "../../src/base/html.ts";
import { formatBytes, formatSeconds } from "../../src/base/units.ts";
import { kinoraVersion } from "../../src/base/version.ts";
import { writeFileAtomic } from "../../src/io/atomic.ts";
import { writePng } from "../../src/io/image/write.ts";
import type { LogLine } from "../../src/protocol/train-log.ts";
import { lossCurves, validationCharts } from "../../src/train/run/run-page.ts";
import { type AttributeTally, scored, tally } from "../tiny/analyser/score.ts";
import { readClip } from "../tiny/clips.ts";
import { contactSheet } from "../tiny/world/contact-sheet.ts";
import type { DrawnClip } from "./draw.ts";
import { type Variant, variants } from "./generate.ts";
import { type MeasuredPair, type Measures, percent, points } from "./measure.ts";
import { type DemoSettings, demoFiles, model, TRIGGER } from "./settings.ts";
import { keptStages, type WorkLog } from "./stage.ts";
import type { TrainedStyle } from "./train.ts";

export interface Results {
  settings: DemoSettings;
  clips: readonly DrawnClip[];
  training: TrainedStyle;
  measures: Measures;
  work: WorkLog;
  /** Of the device that computed. */
  device: string;
}

/** Clips and videos of the page; the rest is in their folders. */
const SHOWN = { clips: 12, pairs: 24, picture: 6 } as const;

const columnNames: Readonly<Record<Variant, string>> = { without: "without the LoRA", with: "with the LoRA" };

/** Writes report.html and result.png, a still picture of some pairs. */
export async function writeReport(results: Results): Promise<void> {
  const files = demoFiles(results.settings.folder);
  await writeFileAtomic(files.report, await reportPage(results));
  await writePng(files.picture, await pairsPicture(results.measures.pairs));
}

/** Evenly spaced, the first one included. */
function someOf<T>(all: readonly T[], count: number): T[] {
  const shown = Math.min(count, all.length);
  return Array.from({ length: shown }, (_, i) => all[Math.floor((i * all.length) / shown)]!);
}

const STILLS = 4;

/** A row for each pair: some frames without the LoRA, then the same frames with it. */
async function pairsPicture(pairs: readonly MeasuredPair[]) {
  const rows = someOf(pairs, SHOWN.picture).map(async (pair) => {
    const [before, after] = [await readClip(pair.without), await readClip(pair.with)];
    const size = before.width * before.height * 3;
    const stills = [before, after].flatMap(({ data, frames }) =>
      Array.from({ length: STILLS }, (_, i) => {
        const frame = Math.round((i * (frames - 1)) / (STILLS - 1));
        return data.subarray(frame * size, (frame + 1) * size);
      }),
    );
    return { ...before, frames: stills.length, data: Buffer.concat(stills) };
  });
  return contactSheet(await Promise.all(rows), { columns: 2 * STILLS, magnify: 2 });
}

/** The page as text. */
export async function reportPage(results: Results): Promise<string> {
  const { settings, clips, training, measures, work } = results;
  const share = (variant: Variant) => percent(tallyOf(measures, variant)["style: neon"]);
  const spent = keptStages.reduce((sum, stage) => sum + work.seconds(stage), measures.seconds);
  const tile = (value: string, name: string) => html`<div class="tile"><b>${value}</b>${name}</div>`;
  const missed = measures.goals.filter(({ met }) => !met);
  const verdict =
    missed.length === 0
      ? html`<p class="good">✓ All ${measures.goals.length} goals are met.</p>`
      : html`<p class="bad">✗ Missed: ${missed.map(({ what, got, wanted }) => `${what} (${got}, wanted ${wanted})`).join("; ")}</p>`;
  const body = html`<style>${pageStyle}</style>
<h1>A style, learned from ${clips.length} clips</h1>
<p class="soft">${model.name} has never seen the ${TRIGGER}. A LoRA of rank ${settings.train.rank} was trained on ${clips.length} drawn clips, then
${measures.pairs.length} new prompts were generated twice from the same noise: without it and with it.</p>
<div class="tiles">${[
    tile(`${share("without").toFixed(0)} → ${share("with").toFixed(0)} %`, "videos in the style"),
    tile(formatSeconds(work.seconds("training")), `training, ${settings.train.steps} steps`),
    tile(formatSeconds(spent), "everything together"),
    tile(`${cpus().length} cores`, `${cpus()[0]?.model.trim() ?? "CPU"}, device ${results.device}`),
  ]}</div>
${verdict}
<h2>The same prompts, the same noise</h2>
<p class="soft">Left as the model ships, right with the LoRA; half speed. Below each, what the analyser saw: ✓ what the prompt says.</p>
<div class="pairs">${await Promise.all(someOf(measures.pairs, SHOWN.pairs).map((pair) => pairCard(settings, pair)))}</div>
${measures.pairs.length > SHOWN.pairs ? html`<p class="soft">${SHOWN.pairs} of ${measures.pairs.length} pairs; all are in ${basename(demoFiles(settings.folder).videos)}/.</p>` : undefined}
<h2>What was measured</h2>
<p class="soft">A classical analyser (scripts/tiny/analyser) looks at each film and knows nothing of its prompt. The LoRA's night takes the place of
the background's colour, so that row is part of the style.</p>
${measureTable(measures)}
<h2>What it learned from</h2>
<p class="soft">${clips.length} clips of ${clipsSize(training)}, written as MP4 with .txt captions; ${settings.train.heldOut} of them only judge.</p>
<div class="clips">${await Promise.all(someOf(clips, SHOWN.clips).map((clip) => clipCard(settings, clip)))}</div>
<h2>Training</h2>
${lossChart(training.log)}
${validationCharts(training.log.filter((line) => line.kind === "validation"))}
<p>${link(settings, join(demoFiles(settings.folder).run, "index.html"), "The run's own page")} has previews over the steps, the learning rate and the gradient's norm.</p>
<h2>Time</h2>
${timeTable(results, spent)}
<h2>Settings</h2>
<details open><summary>train.toml</summary><pre>${training.config}</pre></details>
${recipeTable(measures)}
<h2>By hand</h2>
<pre>${byHand(results)}</pre>
<p class="soft">Kinora ${kinoraVersion()}. Every film carries its recipe: npx kinora show FILE.mp4 prints it.</p>
<script>${pageScript}</script>`;
  return page(`${TRIGGER} – kinora demo`, body, chartStyle);
}

const tallyOf = ({ pairs }: Measures, variant: Variant) => tally(pairs.map(({ scores }) => scores[variant]));

const clipsSize = ({ settings }: TrainedStyle): string => {
  const [section] = settings.dataset.datasets;
  const side = section?.resolution?.join("×") ?? "";
  return `${section?.video.lengths.join(", ")} frames, scaled to ${side} by the dataset`;
};

const href = ({ folder }: DemoSettings, path: string): string => relative(folder, path).split(sep).join("/");
const link = (settings: DemoSettings, path: string, text: string): Html =>
  html`<a href="${href(settings, path)}">${text}</a>`;

/** From its file where that lies beside the page, else from the page itself. */
async function video(settings: DemoSettings, path: string, label: string): Promise<Html> {
  const bytes = await readFile(path);
  const data = `data:video/mp4;base64,${bytes.toString("base64")}`;
  return html`<video muted loop playsinline preload="auto" aria-label="${label}"><source src="${href(settings, path)}" type="video/mp4"><source src="${data}" type="video/mp4"></video>`;
}

async function pairCard(settings: DemoSettings, { prompt, scores, ...films }: MeasuredPair): Promise<Html> {
  const sides = variants.map(async (variant) => {
    const { right, analysis } = scores[variant];
    const chip = (word: string, ok: boolean) =>
      html`<span class="${ok ? "yes" : "no"}">${ok ? "✓" : "✗"} ${word}</span>`;
    const chips = (["color", "shape", "motion"] as const).map((name) =>
      chip(analysis[name].value ?? `no ${name}`, right[name] === true),
    );
    const style = analysis.style.value === "neon" ? html`<span class="neon">neon</span>` : html`<span>flat</span>`;
    const film = await video(settings, films[variant], `${prompt.text}, ${columnNames[variant]}`);
    return html`<figure>${film}<figcaption>${[...chips, style]}</figcaption></figure>`;
  });
  return html`<article><p>${prompt.text}</p><div class="sides">${await Promise.all(sides)}</div></article>\n`;
}

async function clipCard(settings: DemoSettings, { path, text }: DrawnClip): Promise<Html> {
  return html`<figure>${await video(settings, path, text)}<figcaption>${text}</figcaption></figure>\n`;
}

function measureTable(measures: Measures): Html {
  const [without, withLora] = variants.map((variant) => tallyOf(measures, variant));
  const cell = (tallied: AttributeTally) =>
    tallied.of === 0 ? "–" : `${percent(tallied).toFixed(1)} % (${tallied.right}/${tallied.of})`;
  const rows = (["style: neon", ...scored] as const).map((name) => {
    const [before, after] = [without![name], withLora![name]];
    const change = before.of === 0 ? "" : points(percent(after) - percent(before));
    return [name, cell(before), cell(after), change];
  });
  const goals = measures.goals.map(({ what, wanted, got, met }) => [
    what,
    wanted,
    got,
    met ? html`<span class="good">✓</span>` : html`<span class="bad">✗ missed</span>`,
  ]);
  const heads = variants.map((variant) => ({ title: columnNames[variant], numeric: true }));
  return html`${table([{ title: "right in the video" }, ...heads, { title: "change", numeric: true }], rows)}
<h3>Goals</h3>
${table([{ title: "goal" }, { title: "wanted" }, { title: "measured" }, { title: "" }], goals)}`;
}

function lossChart(log: readonly LogLine[]): Html {
  const steps = log.filter((line) => line.kind === "step");
  return html`<p class="soft">The loss of a step depends on its noise level more than on what is learnt; the held-out loss below does not.</p>
${chart(lossCurves(steps))}`;
}

function timeTable({ settings, work, measures, training }: Results, spent: number): Html {
  const steps = training.log.filter((line) => line.kind === "step");
  const inSteps = steps.reduce((sum, { seconds }) => sum + seconds, 0);
  const videos = settings.prompts * variants.length;
  const each = (seconds: number, count: number, what: string) =>
    count === 0 ? "" : `${(seconds / count).toPrecision(2)} s a ${what}`;
  const rows = [
    ["clips drawn", formatSeconds(work.seconds("clips")), each(work.seconds("clips"), settings.clips, "clip")],
    [
      "LoRA trained, with caches, judging and previews",
      formatSeconds(work.seconds("training")),
      `${each(inSteps, steps.length, "step")}, peak memory ${formatBytes(Math.max(0, ...steps.map(({ peakBytes }) => peakBytes)))}`,
    ],
    ["videos generated", formatSeconds(work.seconds("videos")), each(work.seconds("videos"), videos, "video")],
    ["videos measured", formatSeconds(measures.seconds), each(measures.seconds, videos, "video")],
    ["together", formatSeconds(spent), ""],
  ];
  return table([{ title: "stage" }, { title: "time", numeric: true }, { title: "" }], rows);
}

function recipeTable({ pairs }: Measures): Html | undefined {
  const recipe = pairs[0]?.recipe;
  if (!recipe) return undefined;
  const { video: size, frames, fps, steps, sampler, shift, guidance, boundary, weights, loras } = recipe;
  const file = ({ name, sha256 }: { name: string; sha256: string }) => `${name} (${sha256.slice(0, 12)}…)`;
  return html`<details><summary>the videos</summary>${table(
    [{ title: "setting" }, { title: "value" }],
    [
      ["video", `${size.width}×${size.height}, ${frames} frames at ${fps} a second`],
      ["sampler", `${sampler}, ${steps} steps, shift ${shift}`],
      ["guidance", `${guidance.high} high noise, ${guidance.low} low noise`],
      ["experts change at", boundary ?? "–"],
      ["high-noise expert", weights.high ? file(weights.high) : "–"],
      ["low-noise expert", file(weights.low)],
      ["LoRA", loras.map(file).join(", ")],
    ],
  )}</details>`;
}

const quoted = (text: string): string => (/^[\w./-]+$/.test(text) ? text : `"${text.replaceAll('"', '\\"')}"`);

/** The commands that do the same, from the folder that the demo was started in. */
function byHand({ settings, training, measures }: Results): string {
  const here = (path: string) => quoted(relative(process.cwd(), path).split(sep).join("/"));
  const [pair] = measures.pairs;
  const checkpoint = settings.checkpoint === undefined ? "" : ` --ckpt_dir ${quoted(settings.checkpoint)}`;
  const loras = training.loras.map((file) => ` --lora ${here(file)}`).join("");
  return [
    `npx kinora train ${here(demoFiles(settings.folder).config)}`,
    ...(pair
      ? [
          `npx kinora generate --task ${model.name}${checkpoint} --prompt ${quoted(pair.prompt.text)} --seed ${pair.prompt.seed}${loras} --out neon.mp4`,
          `npx kinora show ${here(pair.with)}`,
          `npx kinora generate --from ${here(pair.with)} --out again.mp4`,
        ]
      : []),
  ].join("\n");
}

const pageStyle = html`
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,21rem),1fr));gap:1rem}
.pairs article{display:flex;flex-direction:column;background:var(--tint);border-radius:.6rem;padding:.75rem .9rem}
.pairs article p{flex:1;margin:0 0 .55rem;line-height:1.4}
.sides{display:grid;grid-template-columns:1fr 1fr;gap:.6rem}
.clips{display:grid;grid-template-columns:repeat(auto-fill,minmax(9rem,1fr));gap:.9rem}
figure{margin:0}video{display:block;width:100%;aspect-ratio:1;border-radius:.35rem;background:#000}
figcaption{font-size:12.5px;line-height:1.45;margin-top:.35rem;color:var(--soft)}
figcaption span{display:inline-block;margin:0 .55em .1em 0;white-space:nowrap}
figcaption .yes{color:var(--good)}figcaption .no{color:var(--bad)}
figcaption .neon{background:#26105f;color:#f2e9ff;border-radius:.6em;padding:0 .5em}
pre{background:var(--tint);border-radius:.5rem;padding:.8rem 1rem;white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
a{color:var(--mark)}
`;

/** Plays what is on the screen, at half speed; whoever asks for less motion gets controls instead. */
const pageScript = html`
{
  const films = document.querySelectorAll("main video");
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) for (const film of films) film.controls = true;
  else {
    const seen = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) target.pause();
        else { target.defaultPlaybackRate = target.playbackRate = 0.5; target.play().catch(() => { target.controls = true; }); }
      }
    });
    for (const film of films) seen.observe(film);
  }
}
`;
