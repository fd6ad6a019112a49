// `kinora dataset inspect CONFIG`: prints what an epoch trains on, what gives nothing and why, and what to mind.
import { KinoraError } from "../../base/errors.ts";
import { formatInteger } from "../../base/units.ts";
import type { ResultOf } from "../../jobs/table.ts";
import { modelNames } from "../../protocol/model-media.ts";
import { command } from "../command.ts";
import { perform } from "../follow.ts";
import { tellProbing } from "../progress.ts";
import type { Printer } from "../terminal.ts";

type Inspection = ResultOf<"inspect-dataset">;

export const datasetInspect = command({
  name: "dataset inspect",
  usage: "CONFIG.toml|CONFIG.json|FOLDER",
  options: {
    html: { type: "string", value: "FILE", help: "also write an HTML page with everything" },
    model: {
      type: "string",
      value: "MODEL",
      help: `model whose frame rate and size steps apply (default: the file's, or the one the folder was prepared for)`,
    },
    tokenizer: {
      type: "string",
      value: "FILE|FOLDER",
      help: "the text encoder's tokenizer, to count caption tokens exactly (default: an estimate)",
    },
    summary: { type: "boolean", help: "leave out the list of items and batches" },
  },
  details: `
Reads a musubi-tuner dataset configuration, or Kinora's own form:

  [general]
  model = "t2v-A14B"                 # ${modelNames.join(", ")}
  trigger = "Studio Ghibli style"    # every caption begins with it
  goal = "style"                     # character, style, motion, domain: checks the size of the set

  [[datasets]]
  source = "set"                     # a folder that dataset prepare wrote, or any folder of clips and pictures
  media = "all"                      # or "images", "videos"
  source_fps = "auto"                # each clip's own rate; frames are skipped down to the model's
  resolution = [960, 544]            # and all of musubi's keys: target_frames, frame_extraction, num_repeats, …

In a table with source, enable_bucket and bucket_no_upscale are on, and whole clips are taken up to the model's length
unless target_frames or frame_extraction say otherwise. A FOLDER is read as one such table.
docs/musubi.md lists the differences between Kinora and musubi-tuner.`,
  async run(values, positionals, out) {
    const [path, ...rest] = positionals;
    if (path === undefined || rest.length > 0)
      throw new KinoraError("cli.bad-arguments", "dataset inspect takes one configuration or folder", {
        hint: "kinora dataset inspect CONFIG.toml",
      });
    const { model, tokenizer, html } = values;
    const started = Date.now();
    const request = { config: path, model, tokenizer, html };
    const data = await perform(out, "inspect-dataset", request, (event) => tellProbing(event, out, started));
    out.answer(data, () => describe(data, values.summary, out));
    if (values.html !== undefined) out.note(`wrote ${values.html}`);
    return 0;
  },
});

const plural = (value: number, one: string, many = `${one}s`): string =>
  `${formatInteger(value)} ${value === 1 ? one : many}`;
const batches = (value: number): string => plural(value, "batch", "batches");
const bucketText = ({ width, height, frames }: { width: number; height: number; frames: number }) =>
  `${width}x${height}x${frames}`;

function describe(data: Inspection, summary: boolean, { inFlags }: Printer): string {
  const lines: string[] = [`${data.model}: ${data.fps} fps, sides in steps of ${data.sizeMultiple}`];
  if (!summary) {
    for (const { dataset } of data.datasets) {
      const items = data.items.filter((item) => item.dataset === dataset);
      if (items.length > 0) lines.push("", `items of dataset ${dataset}`, ...itemLines(items));
    }
    if (data.batches.length > 0) lines.push("", ...batchLines(data));
  }
  for (const dataset of data.datasets) lines.push("", ...datasetLines(dataset));
  if (data.drops.length > 0) {
    lines.push("", "files that yield fewer items than requested");
    for (const drop of data.drops) {
      const effect = drop.items > 0 ? ` (−${plural(drop.items, "item")})` : "";
      lines.push(`  dataset ${drop.dataset}  ${drop.name}: ${drop.reason}${effect}`);
    }
    const none = data.withoutItems;
    if (none.length > 0)
      lines.push(`  ${plural(none.length, "file")} yielded no item: ${names(none.map((file) => file.name))}`);
  }
  if (data.refusals.length > 0) {
    lines.push("", "this dataset cannot be trained");
    for (const { code, message, hint } of data.refusals) {
      lines.push(`  ${message}  [${code}]`);
      if (hint) lines.push(`    ${inFlags(hint)}`);
    }
  }
  if (data.warnings.length > 0) {
    lines.push("", "warnings");
    for (const { code, message, hint, dataset } of data.warnings) {
      lines.push(`  ${dataset === undefined ? "" : `dataset ${dataset}: `}${message}  [${code}]`);
      if (hint) lines.push(`    ${inFlags(hint)}`);
    }
  }
  lines.push("", totalLine(data));
  return lines.join("\n");
}

const names = (all: readonly string[]): string =>
  all.slice(0, 5).join(", ") + (all.length > 5 ? ` and ${all.length - 5} more` : "");

function totalLine({ totals }: Inspection): string {
  const result = `${plural(totals.items, "item")} in ${batches(totals.batches)}`;
  const missing = totals.onPaper === undefined ? 0 : totals.onPaper - totals.items;
  return missing > 0
    ? `${formatInteger(totals.onPaper!)} nominal items − ${formatInteger(missing)} = ${result} per epoch`
    : `${result} per epoch`;
}

function itemLines(items: Inspection["items"]): string[] {
  const rows = items.map((item) => {
    const last = item.firstFrame + item.frames - 1;
    const { crop, source } = item;
    const whole = crop.width === source.width && crop.height === source.height;
    return [
      item.name,
      item.kind === "image"
        ? "picture"
        : item.frames === 1
          ? `frame ${item.firstFrame}`
          : `frames ${item.firstFrame}–${last} (${item.frames})`,
      item.fps === undefined
        ? ""
        : `${item.fps} fps${item.skipped ? ` from ${Number(item.skipped.from.toFixed(3))}` : ""}`,
      `${source.width}x${source.height}`,
      whole
        ? "whole"
        : `crop ${[crop.width, crop.height].map(Math.round).join("x")}+${Math.round(crop.x)}+${Math.round(crop.y)}`,
      bucketText(item.bucket),
      item.repeats > 1 ? `×${item.repeats}` : "",
    ];
  });
  return columns(rows);
}

/** Rows set in columns, two blanks apart and two in front. */
function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  return rows.map((row) => `  ${row.map((cell, i) => cell.padEnd(widths[i]!)).join("  ")}`.trimEnd());
}

function batchLines(data: Inspection): string[] {
  const alone = data.batches.every((batch) => batch.items.length === 1);
  if (alone) return [`batches: ${formatInteger(data.batches.length)} of one item each, in the order above`];
  const rows = data.batches.map((batch, i) => [
    String(i + 1),
    `dataset ${batch.dataset}`,
    bucketText(batch),
    batch.items.join("  "),
  ]);
  return ["batches (in order, before shuffling)", ...columns(rows)];
}

function datasetLines(entry: Inspection["datasets"][number]): string[] {
  const settings = [
    `resolution ${entry.resolution.join("x")}`,
    entry.enableBucket ? `buckets${entry.bucketNoUpscale ? ", no upscaling" : ""}` : "no buckets",
    entry.extraction,
    `batch size ${entry.batchSize}`,
    entry.repeats > 1 ? `${entry.repeats} repeats` : undefined,
  ];
  const paper =
    entry.onPaper !== undefined && entry.onPaper !== entry.items ? ` (${formatInteger(entry.onPaper)} nominal)` : "";
  return [
    `dataset ${entry.dataset}: ${entry.type} ${entry.path}`,
    `  ${settings.filter(Boolean).join(", ")}`,
    `  ${plural(entry.files, "file")} → ${plural(entry.items, "item")}${paper}, ${batches(entry.batches)}, ${plural(entry.frames, "frame")}`,
    ...columns(
      entry.buckets.map((bucket) => [`  ${bucketText(bucket)}`, plural(bucket.items, "item"), batches(bucket.batches)]),
    ),
  ];
}
