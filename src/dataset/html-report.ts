// The page of `kinora dataset inspect --html`: what an epoch holds, what gave nothing and why, what to mind.
import { basename } from "node:path";
import { type Html, html, page, table } from "../base/html.ts";
import { formatInteger } from "../base/units.ts";
import type { InspectedItem, Inspection } from "./inspection.ts";

const number = (title: string) => ({ title, numeric: true });
const sizeText = ({ width, height }: { width: number; height: number }) => `${width}×${height}`;
const bucketText = (bucket: { width: number; height: number; frames: number }) =>
  `${sizeText(bucket)}×${bucket.frames}`;

export function inspectionPage(data: Inspection): string {
  const { totals, drops, withoutItems, warnings } = data;
  const name = data.config === undefined ? "dataset" : basename(data.config);
  const missing = totals.onPaper === undefined ? undefined : totals.onPaper - totals.items;
  const body = html`<h1>${name}</h1>
<p class="soft">what one epoch of <b>${data.model}</b> (${data.fps} fps, sides in multiples of ${data.sizeMultiple}) trains on</p>
<div class="tiles">
${tile(formatInteger(totals.items), "items per epoch")}
${missing ? tile(formatInteger(totals.onPaper!), "nominal") : undefined}
${tile(formatInteger(totals.batches), "batches")}
${tile(formatInteger(totals.files), "files read")}
${withoutItems.length > 0 ? tile(formatInteger(withoutItems.length), "files without items") : undefined}
${warnings.length > 0 ? tile(formatInteger(warnings.length), "warnings") : undefined}
</div>
${data.refusals.length > 0 ? html`<h2>Training refuses this dataset</h2><ul class="findings">${data.refusals.map(refusal)}</ul>` : undefined}
${warnings.length > 0 ? html`<h2>Mind this</h2><ul class="findings">${warnings.map(finding)}</ul>` : undefined}
<h2>Datasets</h2>${data.datasets.map(dataset)}
<h2>Files that yield less</h2>
${drops.length === 0 ? html`<p class="good">None: every file gives all it is asked for.</p>` : dropTable(drops)}
<h2>Items</h2>${table(itemColumns, data.items.map(itemRow), { filter: true })}
<h2>Batches</h2>
<p class="soft">In order; training shuffles the items within a bucket and then the batches.</p>
<details><summary>${formatInteger(data.batches.length)} batches</summary>${table(
    [number("batch"), number("dataset"), { title: "bucket" }, number("items"), { title: "which" }],
    data.batches.map((batch, i) => [
      i + 1,
      batch.dataset,
      bucketText(batch),
      batch.items.length,
      html`<span class="mono">${batch.items.join("  ")}</span>`,
    ]),
    { filter: true },
  )}</details>`;
  return page(`${name}: ${formatInteger(totals.items)} items`, body);
}

const tile = (value: string, label: string): Html => html`<div class="tile"><b>${value}</b>${label}</div>\n`;

function refusal({ code, message, hint }: Inspection["refusals"][number]): Html {
  return html`<li class="bad">${message} <span class="soft">${code}</span>${hint && html`<br><span class="soft">${hint}</span>`}</li>\n`;
}

function finding({ code, message, hint, dataset, files }: Inspection["warnings"][number]): Html {
  const where = dataset === undefined ? "" : `dataset ${dataset}: `;
  const list =
    files.length > 2
      ? html`<details><summary>${formatInteger(files.length)} files</summary><span class="mono">${files.join("\n")}</span></details>`
      : undefined;
  return html`<li>${where}${message} <span class="soft">${code}</span>${hint && html`<br><span class="soft">${hint}</span>`}${list}</li>\n`;
}

function dataset(entry: Inspection["datasets"][number]): Html {
  const settings = [
    entry.type,
    `resolution ${entry.resolution.join("×")}`,
    entry.enableBucket ? `buckets${entry.bucketNoUpscale ? ", no upscaling" : ""}` : "no buckets",
    entry.extraction,
    `batch size ${entry.batchSize}`,
    entry.repeats > 1 ? `×${entry.repeats} repeats` : undefined,
  ];
  const paper =
    entry.onPaper !== undefined && entry.onPaper !== entry.items ? ` of ${formatInteger(entry.onPaper)} nominal` : "";
  return html`<h3>${entry.dataset}. <span class="mono">${entry.path}</span></h3>
<p class="soft">${settings.filter(Boolean).join(" · ")}</p>
<p>${formatInteger(entry.files)} files → <b>${formatInteger(entry.items)} items</b>${paper}, ${formatInteger(entry.batches)} batches, ${formatInteger(entry.frames)} frames</p>
${table(
  [{ title: "bucket" }, number("items"), number("batches")],
  entry.buckets.map((bucket) => [bucketText(bucket), formatInteger(bucket.items), formatInteger(bucket.batches)]),
)}`;
}

function dropTable(drops: Inspection["drops"]): Html {
  return table(
    [number("dataset"), { title: "file" }, { title: "why" }, number("for length"), number("items missing")],
    drops.map((drop) => [
      drop.dataset,
      html`<span class="mono">${drop.name}</span>`,
      drop.reason,
      drop.frames,
      drop.items === 0 ? "" : drop.items,
    ]),
    { filter: drops.length > 20 },
  );
}

const itemColumns = [
  number("dataset"),
  { title: "file" },
  number("first frame"),
  number("frames"),
  number("fps"),
  { title: "source" },
  { title: "crop" },
  { title: "bucket" },
  number("repeats"),
  { title: "caption" },
];

function itemRow(item: InspectedItem) {
  return [
    item.dataset,
    html`<span class="mono">${item.name}</span>`,
    item.firstFrame,
    item.frames,
    item.fps,
    sizeText(item.source),
    `${sizeText(item.crop)} at ${item.crop.x}, ${item.crop.y}`,
    bucketText(item.bucket),
    item.repeats,
    item.caption === undefined
      ? html`<span class="warn">none</span>`
      : item.caption.length > 120
        ? `${item.caption.slice(0, 119)}…`
        : item.caption,
  ];
}
