// `kinora models inspect FILE|DIR`: prints what weight files are.
import { KinoraError } from "../../base/errors.ts";
import { formatBytes, formatCount } from "../../base/units.ts";
import type { ResultOf } from "../../jobs/table.ts";
import type { InspectedFile } from "../../protocol/jobs/inspect-model.ts";
import { command, type Option, type Values } from "../command.ts";
import { perform } from "../follow.ts";
import { parseChoice } from "../parse.ts";
import { timeLeft } from "../progress.ts";
import { oneLine, type Printer } from "../terminal.ts";

type Network = InspectedFile["networks"][number];
type Lora = NonNullable<InspectedFile["lora"]>;

const options = {
  scan: {
    type: "string",
    value: "all|sample|none",
    help: "look for NaN and infinity (default: all values up to 2 GiB, a sample of larger files)",
  },
  names: { type: "boolean", help: "list every tensor, and every missing or unexpected name" },
} satisfies Record<string, Option>;

/** Longer lists and metadata are cut, unless --names or --json asks for all. */
const SHOWN = 10;
const SHOWN_TEXT = 160;
const QUIET_MS = 2000;

function sizes({ config }: Network): string {
  const parts = Object.entries(config).flatMap(([name, value]) => {
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

const counted = (counts: Readonly<Record<string, number>>): string[] =>
  Object.entries(counts).map(([what, count]) => `${count} × ${what}`);

function networkRows(network: Network, all: boolean): Rows {
  const { label, notes, layout, prefix, parameters, problems, complete, quantized, ignored } = network;
  const near = ({ name, nearest }: { name: string; nearest?: string }) =>
    nearest ? `${name} (nearest: ${nearest})` : name;
  const rows: Rows = [["what", label]];
  for (const note of notes) rows.push(["note", note]);
  rows.push(["layout", `${layout} names${prefix ? `, prefix ${prefix}` : ""}`]);
  rows.push(["parameters", formatCount(parameters)], ["sizes", sizes(network)]);
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

function loraRows(lora: Lora, all: boolean): Rows {
  const rows: Rows = [
    ["what", lora.label],
    ["layout", lora.formats.length > 0 ? `${lora.formats.join(" and ")} names` : "no known key names"],
    ["rank", lora.ranks.join(", ") || "none"],
    ["alpha", `${lora.hasAlpha ? lora.alphas.join(", ") : "none in the file"} (scale ${lora.scales.join(", ") || 1})`],
    ["modules", counted(lora.kinds).join(", ") || "0"],
  ];
  if (lora.expert) rows.push(["expert", `${lora.expert} noise`]);
  if (lora.bothExperts) rows.push(["expert", "both, told apart by key names"]);
  for (const note of lora.notes) rows.push(["note", note]);
  for (const text of counted(lora.others)) rows.push(["not applied", `${text} tensors`]);
  const strays = [
    ...lora.unmatched.map(({ name, why }) => `${name} (${why})`),
    ...lora.refused.flatMap(({ names, why }) => names.map((name) => `${name} (${why})`)),
  ];
  if (strays.length > 0) rows.push(["unmatched", shorten(strays, all)]);
  return rows;
}

const ownRows = ({ what, facts }: NonNullable<InspectedFile["own"]>): Rows => [
  ["what", what],
  ...facts.map(([label, text]): Rows[number] => [label, text]),
];

function rowsOf(report: InspectedFile, all: boolean): Rows {
  const total = Object.values(report.dtypes).reduce((sum, count) => sum + count, 0);
  const rows: Rows = [];
  for (const network of report.networks) rows.push(...networkRows(network, all));
  if (report.lora) rows.push(...loraRows(report.lora, all));
  for (const failure of report.failures) rows.push(["problem", failure]);
  if (report.own) rows.push(...ownRows(report.own));
  if (report.networks.length === 0 && !report.lora && !report.own && report.failures.length === 0) {
    rows.push(["what", "not a Wan network or LoRA that Kinora knows"]);
  }
  rows.push([
    "file",
    `${report.format}, ${report.tensors} tensors, ${formatCount(total)} values, ${formatBytes(report.bytes)}`,
  ]);
  const dtypes = Object.entries(report.dtypes).sort((a, b) => b[1] - a[1]);
  rows.push(["dtypes", dtypes.map(([dtype, count]) => `${dtype} ${formatCount(count)}`).join(", ")]);
  const looked = { all: "all checked", sample: "a sample checked", none: "" }[report.scan];
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

function described(file: ResultOf<"inspect-model">["files"][number], all: boolean): string {
  if ("error" in file) {
    const { code, message, hint } = file.error;
    return print(file.name, [["error", `${code}: ${message}`], ...(hint ? ([["hint", hint]] satisfies Rows) : [])]);
  }
  if (!("format" in file)) return print(file.name, ownRows(file.own));
  const names = file.names?.map(({ name, dtype, shape }) => `    ${oneLine(name)} ${dtype} [${shape}]`) ?? [];
  return [print(file.name, rowsOf(file, all)), ...names].join("\n");
}

async function run(values: Values<typeof options>, positionals: string[], out: Printer): Promise<number> {
  const [path] = positionals;
  if (path === undefined || positionals.length > 1) {
    throw new KinoraError("cli.bad-arguments", "give one file or folder", { hint: "kinora models inspect FILE|DIR" });
  }
  const scan = values.scan === undefined ? undefined : parseChoice("--scan", values.scan, ["all", "sample", "none"]);
  let [scanned, started] = ["", 0];
  const result = await perform(out, "inspect-model", { path, scan, names: values.names }, (event) => {
    if (event.path !== scanned) [scanned, started] = [event.path, Date.now()];
    if (Date.now() - started < QUIET_MS) return;
    const share = Math.floor((event.bytesDone / event.bytesTotal) * 100);
    out.progress(`checking values: ${share} %${timeLeft(started, event.bytesDone, event.bytesTotal)}`);
  });
  out.answer(result, () => result.files.map((file) => described(file, values.names)).join("\n"));
  return result.files.some((file) => "error" in file) ? 1 : 0;
}

export const modelsInspect = command({
  name: "models inspect",
  usage: "FILE|DIR",
  details: `
Recognises Wan's transformers, autoencoders, text and vision encoders and LoRAs by key names and shapes, in the layouts
of the official repositories, ComfyUI, diffusers, transformers, kohya/musubi and DiffSynth; safetensors (also sharded)
and PyTorch checkpoints (never executing a pickle). It also recognises Kinora's own files: training states, cached latents and
texts, saved latents, manifests.`,
  options,
  run,
});
