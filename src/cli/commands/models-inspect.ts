// `kinora models inspect FILE|DIR`: prints what weight files are.
import { relative } from "node:path";
import type { DType } from "../../base/dtype.ts";
import { isKinoraError, KinoraError } from "../../base/errors.ts";
import { formatBytes, formatCount } from "../../base/units.ts";
import { fileOrFolder } from "../../io/files.ts";
import { findModels, openTensorSource, type TensorSource } from "../../io/tensor-source.ts";
import { type NonFinite, scanValues } from "../../io/value-scan.ts";
import { inspectWeights, type NetworkReport, type WeightReport } from "../../lora/inspect.ts";
import { type OwnFile, ownJson } from "../../lora/own-files.ts";
import type { RecognizedLora } from "../../lora/recognize.ts";
import type { Recognized } from "../../models/wan/recognize.ts";
import { command, type Option, type Values } from "../command.ts";
import { parseChoice } from "../parse.ts";
import { timeLeft } from "../progress.ts";
import { oneLine, type Printer } from "../terminal.ts";

const options = {
  scan: {
    type: "string",
    value: "all|sample|none",
    help: "look for values that are not finite (default: all up to 2 GiB, a sample of larger files)",
  },
  names: { type: "boolean", help: "list every tensor, and every missing or unexpected name" },
} satisfies Record<string, Option>;

const FULL_SCAN_BYTES = 2 ** 31;
/** Longer lists and metadata are cut, unless --names or --json asks for all. */
const SHOWN = 10;
const SHOWN_TEXT = 160;
const QUIET_MS = 2000;

type Scan = "all" | "sample" | "none";

interface Inspection extends WeightReport {
  scan: Scan;
  nonFinite: NonFinite[];
}

function scanMode(value: string | undefined): Scan | undefined {
  return value === undefined ? undefined : parseChoice("--scan", value, ["all", "sample", "none"]);
}

function inspect(source: TensorSource, asked: Scan | undefined, out: Printer): Inspection {
  const report = inspectWeights(source);
  const scan = asked ?? (report.bytes <= FULL_SCAN_BYTES ? "all" : "sample");
  if (scan === "none") return { ...report, scan, nonFinite: [] };
  const started = Date.now();
  const events = scanValues(source, scan === "sample");
  for (;;) {
    const { done, value } = events.next();
    if (done) return { ...report, scan, nonFinite: value };
    if (Date.now() - started < QUIET_MS) continue;
    const share = Math.floor((value.bytesDone / value.bytesTotal) * 100);
    out.progress(`looking at values: ${share} %${timeLeft(started, value.bytesDone, value.bytesTotal)}`);
  }
}

function sizes(recognized: Recognized): string {
  const parts = Object.entries(recognized.config).flatMap(([name, value]) => {
    // The autoencoder's statistics are constants of the model, not sizes.
    if (name === "kind" || name === "statistics") return [];
    if (Array.isArray(value)) return [`${name} [${value.join(", ")}]`];
    if (typeof value === "object")
      return [
        `${name} (${Object.entries(value ?? {})
          .map((pair) => pair.join(" "))
          .join(", ")})`,
      ];
    return [`${name} ${value}`];
  });
  return parts.join(", ");
}

function shorten(names: readonly string[], all: boolean): string {
  const shown = all ? names : names.slice(0, SHOWN);
  const more = names.length - shown.length;
  return `${names.length}: ${shown.join(", ")}${more > 0 ? ` and ${more} more (--names lists them)` : ""}`;
}

type Rows = [label: string, text: string][];

const counted = (counts: ReadonlyMap<string, number>): string[] =>
  [...counts].map(([what, count]) => `${count} × ${what}`);

function networkRows(
  { recognized, layout, prefix, parameters, problems, complete, quantized, ignored }: NetworkReport,
  all: boolean,
): Rows {
  const near = ({ name, nearest }: { name: string; nearest?: string }) =>
    nearest ? `${name} (nearest: ${nearest})` : name;
  const rows: Rows = [["what", recognized.label]];
  for (const note of recognized.notes) rows.push(["note", note]);
  rows.push(["layout", `${layout} names${prefix ? `, prefix ${prefix}` : ""}`]);
  rows.push(["parameters", formatCount(parameters)], ["sizes", sizes(recognized)]);
  for (const text of counted(quantized)) rows.push(["quantised", text]);
  if (complete) rows.push(["complete", "yes: every parameter is there, in its shape"]);
  if (problems.missing.length > 0) rows.push(["missing", shorten(problems.missing.map(near), all)]);
  if (problems.unexpected.length > 0) rows.push(["unexpected", shorten(problems.unexpected.map(near), all)]);
  const shapes = problems.wrongShape.map(
    ({ name, expected, actual }) => `${name} [${actual}] instead of [${expected}]`,
  );
  if (shapes.length > 0) rows.push(["wrong shape", shorten(shapes, all)]);
  const wrong = problems.wrongDtype.map(({ name, dtype }) => `${name} ${dtype}`);
  if (wrong.length > 0) rows.push(["wrong dtype", shorten(wrong, all)]);
  for (const text of counted(ignored)) rows.push(["left out", text]);
  return rows;
}

function loraRows(lora: RecognizedLora, all: boolean): Rows {
  const rows: Rows = [
    ["what", lora.label],
    ["layout", lora.formats.length > 0 ? `${lora.formats.join(" and ")} names` : "no known names"],
    ["rank", lora.ranks.join(", ") || "none"],
    ["alpha", `${lora.hasAlpha ? lora.alphas.join(", ") : "none in the file"} (scale ${lora.scales.join(", ") || 1})`],
    ["modules", [...lora.kinds].map(([kind, count]) => `${count} × ${kind}`).join(", ") || "0"],
  ];
  if (lora.expert) rows.push(["expert", `${lora.expert} noise`]);
  if (lora.bothExperts) rows.push(["expert", "both, told apart by names"]);
  for (const note of lora.notes) rows.push(["note", note]);
  for (const text of counted(lora.others)) rows.push(["not applied", `${text} tensors`]);
  const strays = [
    ...lora.unmatched.map(({ name, why }) => `${name} (${why})`),
    ...lora.refused.flatMap(({ names, why }) => names.map((name) => `${name} (${why})`)),
  ];
  if (strays.length > 0) rows.push(["unmatched", shorten(strays, all)]);
  return rows;
}

const ownRows = ({ what, facts }: OwnFile): Rows => [
  ["what", what],
  ...facts.map(([label, text]): [string, string] => [label, text]),
];

function rowsOf(report: Inspection, all: boolean): Rows {
  const total = [...report.dtypes.values()].reduce((sum, count) => sum + count, 0);
  const rows: Rows = [];
  for (const network of report.networks) rows.push(...networkRows(network, all));
  if (report.lora) rows.push(...loraRows(report.lora, all));
  for (const failure of report.failures) rows.push(["problem", failure]);
  if (report.own) rows.push(...ownRows(report.own));
  if (report.networks.length === 0 && !report.lora && !report.own && report.failures.length === 0) {
    rows.push(["what", "no Wan network and no LoRA that Kinora knows"]);
  }
  rows.push([
    "file",
    `${report.format}, ${report.tensors} tensors, ${formatCount(total)} values, ${formatBytes(report.bytes)}`,
  ]);
  const dtypes = [...report.dtypes].sort((a, b) => b[1] - a[1]);
  rows.push(["dtypes", dtypes.map(([dtype, count]: [DType, number]) => `${dtype} ${formatCount(count)}`).join(", ")]);
  const looked = { all: "all of them looked at", sample: "a sample looked at", none: "" }[report.scan];
  const spoiled = report.nonFinite.map(({ name, nan, infinite }) => `${name} (${nan} NaN, ${infinite} infinite)`);
  if (report.scan !== "none")
    rows.push(["values", spoiled.length > 0 ? `NOT FINITE in ${shorten(spoiled, all)}` : `finite, ${looked}`]);
  for (const [key, value] of Object.entries(report.metadata)) {
    rows.push(["metadata", `${key} = ${all || value.length <= SHOWN_TEXT ? value : `${value.slice(0, SHOWN_TEXT)}…`}`]);
  }
  return rows;
}

function print(name: string, rows: Rows): string {
  const width = Math.max(...rows.map(([label]) => label.length));
  return [oneLine(name), ...rows.map(([label, text]) => `  ${label.padEnd(width)}  ${oneLine(text)}`)].join("\n");
}

function machineReadable(report: Inspection): object {
  const { networks, lora, dtypes, ...rest } = report;
  return {
    ...rest,
    dtypes: Object.fromEntries(dtypes),
    networks: networks.map(({ recognized, quantized, ignored, ...network }) => {
      const { expected: _, ...known } = recognized;
      return { ...known, ...network, quantized: Object.fromEntries(quantized), ignored: Object.fromEntries(ignored) };
    }),
    ...(lora
      ? { lora: { ...lora, kinds: Object.fromEntries(lora.kinds), others: Object.fromEntries(lora.others) } }
      : {}),
  };
}

async function run(values: Values<typeof options>, positionals: string[], out: Printer): Promise<number> {
  const [path] = positionals;
  if (path === undefined || positionals.length > 1) {
    throw new KinoraError("cli.bad-arguments", "name one file or folder", { hint: "kinora models inspect FILE|DIR" });
  }
  const asked = scanMode(values.scan);
  const own = ownJson(path);
  if (own) {
    out.answer({ files: [{ path, own }] }, () => print(path, ownRows(own)));
    return 0;
  }
  const folder = fileOrFolder(path).kind === "folder";
  const found = folder ? findModels(path) : [path];
  if (found.length === 0) {
    throw new KinoraError("io.no-weights", `${path} holds no weights`, {
      expected: ".safetensors or .pth files, or an index of shards",
      hint: "name the file or folder that has them",
    });
  }
  const answers: object[] = [];
  let failed = false;
  for (const file of found) {
    const name = folder ? relative(path, file) : file;
    try {
      using source = openTensorSource(file);
      const report = inspect(source, asked, out);
      if (out.json) answers.push(machineReadable(report));
      else {
        out.print(print(name, rowsOf(report, values.names)));
        if (values.names)
          for (const tensor of source.names)
            out.print(`    ${oneLine(tensor)} ${source.info(tensor).dtype} [${source.info(tensor).shape}]`);
      }
    } catch (error) {
      // One spoiled file among several must not hide what the others are.
      if (!isKinoraError(error) || !folder) throw error;
      failed = true;
      const { code, message, hint } = error;
      if (out.json) answers.push({ path: file, error: { code, message, hint } });
      else
        out.print(
          print(name, [["error", `${code}: ${message}`], ...(hint ? [["hint", hint] as [string, string]] : [])]),
        );
    }
  }
  out.answer({ files: answers }, () => "");
  return failed ? 1 : 0;
}

export const modelsInspect = command({
  name: "models inspect",
  usage: "FILE|DIR",
  details: `
Recognises Wan's transformers, autoencoders, text and vision encoders and LoRAs by names and shapes alone, in the layouts
of the official repositories, ComfyUI, diffusers, transformers, kohya/musubi and DiffSynth; safetensors (also sharded)
and PyTorch checkpoints, from which nothing is executed. Kinora's own files are told too: states of runs, cached latents and
texts, saved latents, manifests.`,
  options,
  run,
});
