// `kinora dataset sizes`: prints every size near a source's shape with its tokens, cost and memory.
import { KinoraError } from "../../base/errors.ts";
import { formatInteger, formatPercent } from "../../base/units.ts";
import type { ResultOf } from "../../jobs/table.ts";
import { modelNames } from "../../protocol/model-media.ts";
import { command } from "../command.ts";
import { perform } from "../follow.ts";
import { parseChoice, parseNumber, parseSize, parseWholeNumber } from "../parse.ts";
import { timeLeft } from "../progress.ts";

type Sizes = ResultOf<"dataset-sizes">;
type Row = Sizes["sizes"][number];

export const datasetSizes = command({
  name: "dataset sizes",
  usage: "--source W*H --model MODEL [--max-tokens N]",
  options: {
    source: { type: "string", value: "W*H", help: "size of the source, e.g. 1920x1040" },
    model: { type: "string", value: "MODEL", help: `one of ${modelNames.join(", ")}` },
    "max-tokens": { type: "string", value: "N", help: "omit anything longer (default: the model's largest clip)" },
    frames: {
      type: "string",
      value: "F,F,…",
      help: "only these frame counts, each 4n+1 (default: all up to the model's)",
    },
    tolerance: { type: "string", value: "PERCENT", help: "tolerated deviation of the aspect ratio", default: "1" },
    "min-side": {
      type: "string",
      value: "PIXELS",
      help: "minimum length of the shorter side (default: 128, or the model's own minimum)",
    },
    rank: { type: "string", value: "N", help: "LoRA rank", default: "32" },
    dtype: { type: "string", value: "bf16|fp8|f32", help: "dtype of the frozen weights", default: "bf16" },
    summary: { type: "boolean", help: "print only the longest clip of each size for each card" },
  },
  details: `
Memory is the planner's peak of a LoRA step with batch 1 and gradient checkpointing: transformer (one expert, where
there are two), LoRA, optimizer, activations. Text encoder and autoencoder are not loaded while training from a cache.
The card columns show the GB left (or missing, −) on a card of that size, after 1 GB for the driver. fp8 is the
trainer's base = "fp8". Sizes never exceed the source; "cut" is the share of the picture that is cropped away.

Examples:
  kinora dataset sizes --source 1920x1040 --model t2v-A14B --summary
  kinora dataset sizes --source 1920x1040 --model t2v-A14B --frames 1,21,45 --max-tokens 20000 --dtype fp8`,
  async run(values, positionals, out) {
    if (values.source === undefined || values.model === undefined || positionals.length > 0)
      throw new KinoraError("cli.missing-option", "dataset sizes needs --source and --model", {
        hint: "kinora dataset sizes --source 1920x1040 --model t2v-A14B",
      });
    const whole = (option: "max-tokens" | "min-side" | "rank") =>
      values[option] === undefined ? undefined : parseWholeNumber(`--${option}`, values[option]);
    const started = Date.now();
    const request = {
      source: parseSize(values.source),
      model: values.model,
      maxTokens: whole("max-tokens"),
      frames: values.frames?.split(",").map((part) => parseWholeNumber("--frames", part)),
      tolerance: parsePercent(values.tolerance),
      minSide: whole("min-side"),
      rank: whole("rank"),
      dtype: parseChoice("--dtype", values.dtype, ["bf16", "fp8", "f32"]),
    };
    const result = await perform(out, "dataset-sizes", request, ({ done, of }) =>
      out.progress(`planning training steps: ${done} of ${of}${timeLeft(started, done, of)}`),
    );
    const lines = () => [
      ...(values.summary ? [] : [...list(result.sizes), ""]),
      ...longest(result.sizes),
      "",
      ...ending(result, values.summary),
    ];
    out.answer(result, () => lines().join("\n"));
    return 0;
  },
});

function parsePercent(text: string): number {
  const value = parseNumber("--tolerance", text);
  if (value >= 0 && value <= 100) return value / 100;
  throw new KinoraError("cli.bad-number", "--tolerance is invalid", {
    expected: "per cent, 0 to 100",
    actual: text,
    hint: "e.g. --tolerance 5",
  });
}

const signed = (bytes: number): string => `${bytes < 0 ? "−" : ""}${Math.abs(bytes / 1e9).toFixed(1)}`;

/** Cells in columns: the first flush left, numbers flush right. */
function columns(lines: readonly (readonly string[])[]): string[] {
  const widths = lines[0]!.map((_, i) => Math.max(...lines.map((line) => line[i]!.length)));
  return lines.map((line) =>
    line.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  "),
  );
}

const cardNames = ([first]: readonly Row[]): string[] => first!.cards.map(({ gigabytes }) => `${gigabytes} GB`);

/** Every size with every length. */
function list(rows: readonly Row[]): string[] {
  const lines = [["size", "cut", "tokens", "cost", "memory", ...cardNames(rows)]];
  for (const row of rows) {
    lines.push([
      `${row.width}x${row.height}x${row.frames}`,
      formatPercent(row.cropped),
      formatInteger(row.tokens),
      row.relativeCost.toPrecision(3),
      `${(row.peakBytes / 1e9).toFixed(1)} GB`,
      ...row.cards.map(({ spareBytes }) => signed(spareBytes)),
    ]);
  }
  return columns(lines);
}

/** For each width and height the most frames: in all, and on each card. */
function longest(rows: readonly Row[]): string[] {
  const sizes = new Map<string, Row[]>();
  for (const row of rows) {
    const name = `${row.width}x${row.height}`;
    sizes.set(name, [...(sizes.get(name) ?? []), row]);
  }
  const lines = [["most frames", "cut", "by tokens", "cost", ...cardNames(rows)]];
  for (const [name, lengths] of sizes) {
    const most = lengths.at(-1)!;
    lines.push([
      name,
      formatPercent(most.cropped),
      String(most.frames),
      most.relativeCost.toPrecision(3),
      ...most.cards.map((_, i) => String(lengths.findLast((row) => row.cards[i]!.fits)?.frames ?? "–")),
    ]);
  }
  return columns(lines);
}

/** What a card takes at most, and how to read the tables. */
function ending({ model, source, usual, rank, dtype, maxTokens, sizes: rows }: Sizes, summary: boolean): string[] {
  const least = Math.min(...rows.map((row) => row.peakBytes));
  const lines = rows[0]!.cards.map(({ gigabytes }, i) => {
    const fitting = rows.filter((row) => row.cards[i]!.fits);
    const best = fitting.reduce<Row | undefined>(
      (most, row) => (most && most.tokens >= row.tokens ? most : row),
      undefined,
    );
    if (best)
      return `${gigabytes} GB: the most is ${best.width}x${best.height}x${best.frames} (${formatInteger(best.tokens)} tokens)`;
    const other = dtype === "fp8" ? "" : "; --dtype fp8 needs less";
    return `${gigabytes} GB: none fits; the smallest needs ${(least / 1e9).toFixed(1)} GB${other}`;
  });
  const count = `${rows.length} sizes of ${model} near ${source.width}x${source.height}, of at most ${formatInteger(maxTokens)} tokens.`;
  const cost = `cost: a LoRA step (rank ${rank}, ${dtype}) against one of ${usual}`;
  const listed = "the card columns show the GB left, or missing (−); --summary omits the list";
  return [...lines, "", count, summary ? cost : `${cost}; ${listed}`];
}
