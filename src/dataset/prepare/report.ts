// report.html: the whole preparation on one page that opens from disk, with every picture and graph inside it.
import { readFile } from "node:fs/promises";
import type { DatasetManifest, ManifestItem, ManifestSource } from "../../protocol/dataset-manifest.ts";
import { type MeasureName, measureNames } from "../../protocol/prepare-config.ts";
import { histogram } from "./histogram.ts";
import { measures } from "./measures/table.ts";
import { itemFile } from "./publish.ts";

export interface ReportContext {
  /** Contact strips by item. */
  strips: ReadonlyMap<string, string>;
  /** Places that could not be listed. */
  unlisted: readonly { path: string; code: string; message: string }[];
  notes: readonly string[];
  /** Files of items that have a caption. */
  captioned: ReadonlySet<string>;
}

/** Strips in one page; beyond, a browser has its trouble. */
const mostStrips = 3000;

function htmlText(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

function short(value: number): string {
  return Number(value.toPrecision(3)).toString();
}

function seconds(value: number): string {
  if (value < 60) return `${short(value)} s`;
  return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}

async function strip(item: ManifestItem, context: ReportContext, budget: { left: number }): Promise<string> {
  const path = context.strips.get(item.id);
  if (!path || budget.left <= 0) return "";
  budget.left--;
  const bytes = await readFile(path).catch(() => undefined);
  if (!bytes) return "";
  return `<img loading="lazy" alt="" src="data:image/jpeg;base64,${bytes.toString("base64")}">`;
}

function measureCells(item: ManifestItem): string {
  return measureNames
    .flatMap((name) => {
      const measurement = item.measures[name];
      if (!measurement || measurement.value === null) return [];
      const { title } = measures[name];
      const state = measurement.verdict === "fail" ? ' class="bad"' : "";
      return `<span${state} title="${htmlText(`${title}, ${measurement.unit}`)}">${htmlText(title.toLowerCase())} <b>${short(measurement.value)}</b></span>`;
    })
    .join("");
}

async function card(
  item: ManifestItem,
  manifest: DatasetManifest,
  context: ReportContext,
  budget: { left: number },
): Promise<string> {
  const source = manifest.sources[item.source]!;
  const place = item.kind === "video" ? `${short(item.in)}–${short(item.out)} s, ${item.frames} frames` : "picture";
  const size = item.size ? `${item.size.width}×${item.size.height}` : "";
  const cropped =
    item.content && source.width && item.content.width * item.content.height < 0.999 * source.width * source.height!
      ? " · bars cropped"
      : "";
  const caption = item.verdict === "keep" && !context.captioned.has(itemFile(item)) ? " · no caption" : "";
  const reasons = item.reasons.map(({ message }) => `<li>${htmlText(message)}</li>`).join("");
  return `<article>${await strip(item, context, budget)}
<h3>${htmlText(item.id)}</h3>
<p>${htmlText(source.path)}<br>${place} · ${size}${cropped}${caption}</p>
${reasons ? `<ul class="why">${reasons}</ul>` : ""}<p class="measures">${measureCells(item)}</p></article>`;
}

function distribution(name: MeasureName, items: readonly ManifestItem[]): string {
  const measured = items.flatMap((item) => {
    const measurement = item.measures[name];
    return measurement && measurement.value !== null ? [{ ...measurement, value: measurement.value }] : [];
  });
  const [first] = measured;
  if (!first) return "";
  const { title, unit } = measures[name];
  const failed = measured.filter(({ verdict }) => verdict === "fail").length;
  const graph = histogram(
    measured.map(({ value }) => value),
    { ...(first.min === undefined ? {} : { min: first.min }), ...(first.max === undefined ? {} : { max: first.max }) },
  );
  return `<figure><figcaption><b>${htmlText(title)}</b><br><small>${htmlText(unit)}</small></figcaption>${graph}<p><small>${measured.length} measured${failed > 0 ? `, <span class="bad">${failed} beyond the limit</span>` : ""}</small></p></figure>`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (row: readonly string[], tag: string) => row.map((cell) => `<${tag}>${cell}</${tag}>`).join("");
  return `<table><tr>${cells(head, "th")}</tr>${rows.map((row) => `<tr>${cells(row, "td")}</tr>`).join("")}</table>`;
}

function reasonRows(items: readonly ManifestItem[]): string[][] {
  const counts = new Map<string, number>();
  for (const item of items) for (const { code } of item.reasons) counts.set(code, (counts.get(code) ?? 0) + 1);
  const most = Math.max(1, ...counts.values());
  return [...counts]
    .sort((a, b) => b[1] - a[1])
    .map(([code, count]) => [
      htmlText(code.replaceAll("-", " ")),
      String(count),
      `<i class="bar" style="width:${Math.round((100 * count) / most)}%"></i>`,
    ]);
}

function bucketRows(kept: readonly ManifestItem[]): string[][] {
  const buckets = new Map<string, { videos: number; images: number; frames: number }>();
  for (const { size, kind, frames } of kept) {
    if (!size) continue;
    const name = `${size.width}×${size.height}`;
    const bucket = buckets.get(name) ?? { videos: 0, images: 0, frames: 0 };
    bucket[kind === "video" ? "videos" : "images"]++;
    bucket.frames += frames;
    buckets.set(name, bucket);
  }
  return [...buckets]
    .sort((a, b) => b[1].frames - a[1].frames)
    .map(([name, { videos, images, frames }]) => [name, String(videos), String(images), String(frames)]);
}

function problemRows(sources: readonly ManifestSource[], context: ReportContext): string[][] {
  const rows = sources.flatMap(({ path, problem, damage }) =>
    problem
      ? [[htmlText(path), htmlText(problem.code), htmlText(problem.message)]]
      : damage
        ? [
            [
              htmlText(path),
              "media.damaged",
              `${damage} decoding ${damage === 1 ? "error" : "errors"}; damaged frames are left out`,
            ],
          ]
        : [],
  );
  return [...rows, ...context.unlisted.map((row) => [row.path, row.code, row.message].map(htmlText))];
}

const style = `
:root{color-scheme:light dark;--bg:#fbfbfa;--fg:#1c1c1a;--dim:#6d6c66;--line:#dddbd3;--card:#fff;--bad:#b3261e;--ok:#2f6f4f;--bar:#7a9e8d}
@media(prefers-color-scheme:dark){:root{--bg:#171716;--fg:#ecebe6;--dim:#9c9a92;--line:#35342f;--card:#20201e;--bad:#ff8a80;--ok:#7fc8a0;--bar:#4d7463}}
*{box-sizing:border-box}body{margin:0 auto;max-width:1500px;padding:2rem;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .8rem}h3{font-size:.95rem;margin:.5rem 0 0;overflow-wrap:anywhere}
p{margin:.3rem 0}small,.dim,article p{color:var(--dim)}article p{font-size:.82rem;overflow-wrap:anywhere}
.facts{display:flex;flex-wrap:wrap;gap:1.6rem;margin:1.2rem 0}.facts div b{display:block;font-size:1.7rem;line-height:1.2}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,560px),1fr));gap:1rem}
article,figure{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.8rem;margin:0}
article img{width:100%;max-height:150px;object-fit:contain;object-position:left;display:block;border-radius:4px}
.graphs{display:grid;grid-template-columns:repeat(auto-fill,minmax(260px,1fr));gap:1rem}figure svg{width:100%;height:auto;display:block;margin-top:.4rem}
.measures span{display:inline-block;margin-right:.8rem;white-space:nowrap}.measures b{color:var(--fg);font-weight:600}
.bad,.measures .bad b{color:var(--bad)}.why{margin:.4rem 0;padding-left:1.1rem;color:var(--bad);font-size:.87rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}th{font-weight:600;color:var(--dim);font-size:.85rem}
.bar{display:block;height:.8rem;min-width:3px;background:var(--bar);border-radius:2px}.reasons td:last-child{width:60%}
pre{white-space:pre-wrap;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.8rem;font-size:.82rem}summary{cursor:pointer}`;

/** The page. Equal sets give equal pages: there is no date in it. */
export async function reportHtml(manifest: DatasetManifest, context: ReportContext): Promise<string> {
  const { items, sources, model, fps } = manifest;
  const kept = items.filter((item) => item.verdict === "keep");
  const dropped = items.filter((item) => item.verdict === "drop");
  const tooShort = dropped.filter((item) => item.reasons.some(({ code }) => code === "too-short"));
  const shown = dropped.filter((item) => !tooShort.includes(item));
  const videos = kept.filter((item) => item.kind === "video");
  const budget = { left: mostStrips };
  const cards = async (list: readonly ManifestItem[]) => {
    const parts: string[] = [];
    for (const item of list) parts.push(await card(item, manifest, context, budget));
    return `<div class="grid">${parts.join("\n")}</div>`;
  };
  const fact = (value: string, words: string) => `<div><b>${value}</b>${words}</div>`;
  const problems = problemRows(sources, context);
  const films = sources.filter((source) => source.kind === "video");
  const film = films.reduce((sum, source) => sum + (source.duration ?? 0), 0);
  const keptSeconds = videos.reduce((sum, item) => sum + item.out - item.in, 0);
  const keptCards = await cards(kept);
  const droppedCards = await cards(shown);
  const graphs = measureNames.map((name) => distribution(name, items)).join("");
  const section = (title: string, body: string) => `<section><h2>${title}</h2>${body}</section>`;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Prepared set for ${model}</title><style>${style}</style></head><body>
<h1>Prepared set for ${model}</h1>
<p class="dim">${fps} frames a second, sides in multiples of ${manifest.sizeMultiple}${manifest.inPlace ? ", films left in place" : ""}</p>
<div class="facts">${fact(String(videos.length), "clips kept")}${fact(seconds(keptSeconds), `kept of ${seconds(film)} of film`)}${fact(String(kept.length - videos.length), "pictures kept")}${fact(String(dropped.length), "dropped")}${fact(String(problems.length), problems.length === 1 ? "source with problems" : "sources with problems")}</div>
${problems.length > 0 ? section("What could not be read", table(["file", "code", "what"], problems)) : ""}
${context.notes.length > 0 ? section("Left alone", `<ul>${context.notes.map((note) => `<li>${htmlText(note)}</li>`).join("")}</ul>`) : ""}
${dropped.length > 0 ? section("Why items were dropped", `<div class="reasons">${table(["reason", "items", ""], reasonRows(dropped))}</div>`) : ""}
${kept.length > 0 ? section("Sizes", table(["width × height", "clips", "pictures", "frames"], bucketRows(kept))) : ""}
${section("Measures", `<div class="graphs">${graphs}</div><p class="dim">The dashed lines are the limits: what lies beyond them was dropped.</p>`)}
${section(`Kept (${kept.length})`, keptCards)}
${shown.length > 0 ? section(`Dropped (${shown.length})`, droppedCards) : ""}
${
  tooShort.length > 0
    ? section(
        `Too short (${tooShort.length})`,
        `<details><summary>pieces of film under the shortest length</summary>${table(
          ["film", "from", "to"],
          tooShort.map((item) => [htmlText(sources[item.source]!.path), `${short(item.in)} s`, `${short(item.out)} s`]),
        )}</details>`,
      )
    : ""
}
${section("Settings", `<pre>${htmlText(JSON.stringify(manifest.settings, undefined, 2))}</pre>`)}
</body></html>
`;
}
