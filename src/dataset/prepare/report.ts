// report.html: the whole preparation on one page that opens from disk, with every picture and graph inside it.
import { Html, html, page, table } from "../../base/html.ts";
import { plural } from "../../base/units.ts";
import { readPlainFile } from "../../io/files.ts";
import type { DatasetManifest, ManifestItem, ManifestSource, Reason } from "../../protocol/dataset-manifest.ts";
import { type MeasureName, measureNames } from "../../protocol/prepare-config.ts";
import { itemFile } from "../manifest.ts";
import { histogram } from "./histogram.ts";
import { measures } from "./measures/table.ts";

export interface ReportContext {
  /** Contact strips by item. */
  strips: ReadonlyMap<string, string>;
  /** Places that could not be listed. */
  unlisted: readonly { path: string; code: string; message: string }[];
  notes: readonly string[];
  /** Captions of items, by the items' files. */
  captions: ReadonlyMap<string, string>;
}

/** Strips in one page; beyond, a browser has its trouble. */
const mostStrips = 3000;
/** Characters of a caption that are shown. */
const mostWords = 1000;
const mostStripBytes = 2 ** 20;

function short(value: number): string {
  return Number(value.toPrecision(3)).toString();
}

function seconds(value: number): string {
  if (value < 60) return `${short(value)} s`;
  return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}

async function strip(path: string | undefined): Promise<Html | undefined> {
  const bytes = path === undefined ? undefined : await readPlainFile(path, mostStripBytes).catch(() => undefined);
  return bytes && html`<img loading="lazy" alt="" src="data:image/jpeg;base64,${bytes.toString("base64")}">`;
}

function measureCells({ measures: measured }: ManifestItem): Html[] {
  return measureNames.flatMap((name) => {
    const measurement = measured[name];
    if (!measurement || measurement.value === null) return [];
    const { title } = measures[name];
    const state = measurement.verdict === "fail" ? new Html(' class="bad"') : undefined;
    return html`<span${state} title="${title}, ${measurement.unit}">${title.toLowerCase()} <b>${short(measurement.value)}</b></span>`;
  });
}

async function card(item: ManifestItem, source: ManifestSource, context: ReportContext): Promise<Html> {
  const { content, size } = item;
  const caption = context.captions.get(itemFile(item));
  const bars = content && source.width && content.width * content.height < 0.999 * source.width * source.height!;
  const facts = [
    item.kind === "video" ? `${short(item.in)}–${short(item.out)} s, ${item.frames} frames` : "picture",
    size && `${size.width}×${size.height}`,
    bars && "bars cropped",
    item.verdict === "keep" && caption === undefined && "no caption",
  ];
  const reasons = item.reasons.map(({ message }) => html`<li>${message}</li>`);
  const findings = (item.findings ?? []).map(({ message }) => html`<li>${message}</li>`);
  return html`<article>${await strip(context.strips.get(item.id))}
<h3>${item.id}</h3>
<p class="soft">${source.path}<br>${facts.filter(Boolean).join(" · ")}</p>
${caption ? html`<p class="caption">${caption.length > mostWords ? `${caption.slice(0, mostWords)}…` : caption}</p>\n` : undefined}${reasons.length > 0 ? html`<ul class="why">${reasons}</ul>` : undefined}${findings.length > 0 ? html`<ul class="told">${findings}</ul>` : undefined}<p class="measures soft">${measureCells(item)}</p></article>\n`;
}

function distribution(name: MeasureName, items: readonly ManifestItem[]): Html | undefined {
  const measured = items.flatMap((item) => {
    const measurement = item.measures[name];
    return measurement && measurement.value !== null ? [{ ...measurement, value: measurement.value }] : [];
  });
  const [first] = measured;
  if (!first) return undefined;
  const { title, unit } = measures[name];
  const failed = measured.filter(({ verdict }) => verdict === "fail").length;
  const graph = histogram(
    measured.map(({ value }) => value),
    { ...(first.min === undefined ? {} : { min: first.min }), ...(first.max === undefined ? {} : { max: first.max }) },
  );
  const beyond = failed > 0 ? html`, <span class="bad">${failed} beyond the limit</span>` : undefined;
  return html`<figure><figcaption><b>${title}</b><br><small class="soft">${unit}</small></figcaption>${graph}<small class="soft">${measured.length} measured${beyond}</small></figure>`;
}

/** How many items have each of these codes. */
function codeTable(title: string, lists: readonly (readonly Reason[])[]): Html {
  const counts = new Map<string, number>();
  for (const list of lists) for (const { code } of list) counts.set(code, (counts.get(code) ?? 0) + 1);
  const most = Math.max(1, ...counts.values());
  return table(
    [{ title }, { title: "items", numeric: true }, { title: "" }],
    [...counts]
      .sort((a, b) => b[1] - a[1])
      .map(([code, count]) => [
        code.replaceAll("-", " "),
        count,
        html`<i class="bar" style="width:${Math.round((100 * count) / most)}%"></i>`,
      ]),
  );
}

function bucketTable(kept: readonly ManifestItem[]): Html {
  const buckets = new Map<string, { videos: number; images: number; frames: number }>();
  for (const { size, kind, frames } of kept) {
    if (!size) continue;
    const name = `${size.width}×${size.height}`;
    const bucket = buckets.get(name) ?? { videos: 0, images: 0, frames: 0 };
    bucket[kind === "video" ? "videos" : "images"]++;
    bucket.frames += frames;
    buckets.set(name, bucket);
  }
  const number = (title: string) => ({ title, numeric: true });
  return table(
    [{ title: "width × height" }, number("clips"), number("pictures"), number("frames")],
    [...buckets]
      .sort((a, b) => b[1].frames - a[1].frames)
      .map(([name, { videos, images, frames }]) => [name, videos, images, frames]),
  );
}

function problemRows(sources: readonly ManifestSource[], context: ReportContext): string[][] {
  const rows = sources.flatMap(({ path, problem, damage, notes = [] }) => {
    const damaged = {
      code: "media.damaged",
      message: `${plural(damage ?? 0, "decoding error")}; damaged frames are left out`,
    };
    const found = problem ? [problem] : [...(damage ? [damaged] : []), ...notes];
    return found.map(({ code, message }) => [path, code, message]);
  });
  return [...rows, ...context.unlisted.map(({ path, code, message }) => [path, code, message])];
}

const style = `
main{max-width:94rem}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,35rem),1fr));gap:1rem}
.graphs{display:grid;grid-template-columns:repeat(auto-fill,minmax(16rem,1fr));gap:1rem}
article,figure{background:var(--tint);border-radius:.5rem;padding:.8rem;margin:0}
article h3{font-size:.95rem;margin:.5rem 0 0;overflow-wrap:anywhere}article p{font-size:.82rem;overflow-wrap:anywhere}
article img{width:100%;max-height:150px;object-fit:contain;object-position:left;display:block;border-radius:.25rem}
figure svg{width:100%;height:auto;display:block;margin-top:.4rem}
.measures span{display:inline-block;margin-right:.8rem;white-space:nowrap}.measures b{color:var(--ink);font-weight:600}.measures .bad b{color:var(--bad)}
.caption{margin:.4rem 0}
.why,.told{margin:.4rem 0;padding-left:1.1rem;font-size:.87rem}.why{color:var(--bad)}
.bar{display:block;height:.8rem;min-width:3px;background:var(--mark);border-radius:2px}.reasons td:last-child{width:60%}
pre{white-space:pre-wrap;background:var(--tint);border-radius:.5rem;padding:.8rem;font-size:.82rem}
`;

/** The page. Equal sets give equal pages: there is no date in it. */
export async function reportHtml(manifest: DatasetManifest, context: ReportContext): Promise<string> {
  const { items, sources, model, fps } = manifest;
  const kept = items.filter((item) => item.verdict === "keep");
  const dropped = items.filter((item) => item.verdict === "drop");
  const tooShort = dropped.filter((item) => item.reasons.some(({ code }) => code === "too-short"));
  const shown = dropped.filter((item) => !tooShort.includes(item));
  const videos = kept.filter((item) => item.kind === "video");
  const strips = new Map([...context.strips].slice(0, mostStrips));
  const cards = async (list: readonly ManifestItem[]) => {
    const parts: Html[] = [];
    for (const item of list) parts.push(await card(item, sources[item.source]!, { ...context, strips }));
    return html`<div class="grid">${parts}</div>`;
  };
  const tile = (count: number, words: string, value: string | number = count) =>
    count > 0 ? [html`<div class="tile"><b>${value}</b>${words}</div>\n`] : [];
  const problems = problemRows(sources, context);
  const measured = items.some(({ measures: values }) => Object.keys(values).length > 0);
  const film = sources.reduce((sum, source) => sum + (source.kind === "video" ? (source.duration ?? 0) : 0), 0);
  const keptSeconds = videos.reduce((sum, item) => sum + item.out - item.in, 0);
  const tiles = [
    ...tile(videos.length, videos.length === 1 ? "clip kept" : "clips kept"),
    ...tile(keptSeconds, `kept of ${seconds(film)} of film`, seconds(keptSeconds)),
    ...tile(kept.length - videos.length, kept.length - videos.length === 1 ? "picture kept" : "pictures kept"),
    ...tile(dropped.length, "dropped"),
    ...tile(problems.length, problems.length === 1 ? "source with problems" : "sources with problems"),
  ];
  const section = (title: string, content: Html, wanted = true) =>
    wanted ? html`<section><h2>${title}</h2>${content}</section>\n` : undefined;
  const findings = kept.flatMap((item) => (item.findings ? [item.findings] : []));
  const gaps = sources.flatMap(({ path, gaps = [] }) =>
    gaps.map((gap) => [path, `${short(gap.in)} s`, `${short(gap.out)} s`, gap.message]),
  );
  const gapTable = table(
    [{ title: "film" }, { title: "from", numeric: true }, { title: "to", numeric: true }, { title: "what" }],
    gaps,
  );
  const pieces = table(
    [{ title: "film" }, { title: "from", numeric: true }, { title: "to", numeric: true }],
    tooShort.map((item) => [sources[item.source]!.path, `${short(item.in)} s`, `${short(item.out)} s`]),
  );
  const body = html`<h1>Prepared set for ${model}</h1>
<p class="soft">${fps} fps, sides in multiples of ${manifest.sizeMultiple}${manifest.inPlace ? ", films left in place" : ""}</p>
<div class="tiles">
${tiles}</div>
${section("Files that could not be read, or only in part", table([{ title: "file" }, { title: "code" }, { title: "what" }], problems), problems.length > 0)}
${section("Notes", html`<ul>${context.notes.map((note) => html`<li>${note}</li>`)}</ul>`, context.notes.length > 0)}
${section(
  "Why items were dropped",
  html`<div class="reasons">${codeTable(
    "reason",
    dropped.map((item) => item.reasons),
  )}</div>`,
  dropped.length > 0,
)}
${section("Remarks on kept items", html`<div class="reasons">${codeTable("finding", findings)}</div>`, findings.length > 0)}
${section("Sizes", bucketTable(kept), kept.length > 0)}
${section("Measures", html`<div class="graphs">${measureNames.map((name) => distribution(name, items))}</div><p class="soft">The dashed lines are the limits: what lies beyond them was dropped.</p>`, measured)}
${section(`Kept (${kept.length})`, await cards(kept), kept.length > 0)}
${section(`Dropped (${shown.length})`, await cards(shown), shown.length > 0)}
${section(`Too short (${tooShort.length})`, html`<details><summary>pieces of film under the shortest length</summary>${pieces}</details>`, tooShort.length > 0)}
${section(`In no clip (${gaps.length})`, html`<details><summary>stretches between scenes, empty or damaged</summary>${gapTable}</details>`, gaps.length > 0)}
${section("Settings", html`<pre>${JSON.stringify(manifest.settings, undefined, 2)}</pre>`)}`;
  return page(`Prepared set for ${model}`, body, style);
}
