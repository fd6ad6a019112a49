// `kinora dataset sizes`: prints every size near a source's shape with its tokens, cost and memory.
import { KinoraError } from "../../base/errors.ts";
import { finished } from "../../base/generators.ts";
import { formatInteger, formatPercent } from "../../base/units.ts";
import { clipLengths, type NearSize, sizesNear } from "../../dataset/sizes.ts";
import { latentSize } from "../../models/wan/geometry.ts";
import { type WanModel, wanModels } from "../../models/wan/params.ts";
import { findModel } from "../../protocol/model-media.ts";
import { planLoraStep } from "../../train/plan/lora-step.ts";
import { type CountedSize, type StepCost, stepCosts } from "../../train/plan/step-costs.ts";
import { command } from "../command.ts";
import { parseChoice, parseNumber, parseSize, parseWholeNumber } from "../parse.ts";
import { timeLeft } from "../progress.ts";
import type { Printer } from "../terminal.ts";

const cards = [16, 24, 40, 80] as const;
/** What the driver, its libraries and the display take of a card. */
const RESERVED = 1e9;

const usualMinSide = 128;
/** Beyond this listing all sizes takes longer than anybody waits. */
const mostTokens = 1_000_000;
const mostSizes = 300_000;

interface Row {
  width: number;
  height: number;
  frames: number;
  tokens: number;
  /** Share of the source cut away. */
  cropped: number;
  /** Arithmetic of a step, times that of the model's usual clip. */
  relativeCost: number;
  stepFlops: number;
  peakBytes: number;
  cards: { gigabytes: number; fits: boolean; spareBytes: number }[];
}

export const datasetSizes = command({
  name: "dataset sizes",
  usage: "--source W*H --model MODEL [--max-tokens N]",
  options: {
    source: { type: "string", value: "W*H", help: "size of the clips or pictures, e.g. 1920x1040" },
    model: { type: "string", value: "MODEL", help: `one of ${Object.keys(wanModels).join(", ")}` },
    "max-tokens": { type: "string", value: "N", help: "leave out what is longer (default: the model's largest clip)" },
    frames: { type: "string", value: "F,F,…", help: "only these lengths, each 4n+1 (default: all up to the model's)" },
    tolerance: { type: "string", value: "PERCENT", help: "how far the aspect may be off", default: "1" },
    "min-side": {
      type: "string",
      value: "PIXELS",
      help: `the shorter side is at least this (default: ${usualMinSide}, or the model's own where that is shorter)`,
    },
    rank: { type: "string", value: "N", help: "of the LoRA that trains", default: "32" },
    dtype: { type: "string", value: "bf16|fp8|f32", help: "what the frozen weights are held in", default: "bf16" },
    summary: { type: "boolean", help: "leave out the list: only the longest clip of each size on each card" },
  },
  details: `
Memory is the planner's peak of a LoRA step with batch 1 and gradient checkpointing: transformer (one expert, where
there are two), LoRA, optimizer, activations. Text encoder and autoencoder are not needed while training from a cache.
The card columns say what is left on a card of that many GB, or is missing (−), after 1 GB for the driver. fp8 is the
trainer's base = "fp8". Sizes are never larger than the source; "cut" is the share of it that the crop takes away.

Examples:
  kinora dataset sizes --source 1920x1040 --model t2v-A14B --summary
  kinora dataset sizes --source 1920x1040 --model t2v-A14B --frames 1,21,45 --max-tokens 20000 --dtype fp8`,
  async run(values, positionals, out) {
    if (values.source === undefined || values.model === undefined || positionals.length > 0)
      throw new KinoraError("cli.missing-option", "dataset sizes needs --source and --model", {
        hint: "kinora dataset sizes --source 1920x1040 --model t2v-A14B",
      });
    const source = parseSize(values.source);
    const model: WanModel = wanModels[findModel(values.model)];
    const usual = latentSize(model, model.defaults).tokens;
    const maxTokens =
      values["max-tokens"] === undefined ? usual : parseWholeNumber("--max-tokens", values["max-tokens"]);
    if (maxTokens > mostTokens)
      throw new KinoraError("cli.bad-arguments", "--max-tokens is more than anything trains", {
        expected: `at most ${mostTokens}`,
        actual: String(maxTokens),
      });
    const rank = parseWholeNumber("--rank", values.rank);
    const dtype = parseChoice("--dtype", values.dtype, ["bf16", "fp8", "f32"]);
    const step = model.vae.stride[2] * model.dit.patchSize[2];
    const sizes = sizesNear(source, {
      step,
      tolerance: parsePercent(values.tolerance),
      minSide:
        values["min-side"] === undefined
          ? Math.min(usualMinSide, model.defaults.width, model.defaults.height)
          : parseWholeNumber("--min-side", values["min-side"]),
      // A single frame has a token a step each way.
      mostArea: maxTokens * step * step,
    });
    const lengths = values.frames === undefined ? clipLengths(model.defaults.frames) : parseLengths(values.frames);
    if (sizes.length * lengths.length > mostSizes)
      throw new KinoraError("dataset.too-many-sizes", "there are too many sizes near this shape to list", {
        expected: `at most ${formatInteger(mostSizes)}`,
        actual: formatInteger(sizes.length * lengths.length),
        hint: "lower --tolerance or --max-tokens, or name lengths with --frames",
      });
    const candidates = sizes.flatMap((size) =>
      lengths.flatMap((frames) => {
        const { tokens } = latentSize(model, { ...size, frames });
        return tokens <= maxTokens ? [{ size: { ...size, frames }, tokens }] : [];
      }),
    );
    if (candidates.length === 0)
      throw new KinoraError("dataset.no-size", `no size of ${model.name} near ${source.width}x${source.height}`, {
        actual: `${sizes.length} sizes within ${values.tolerance} % of the shape, none of at most ${maxTokens} tokens`,
        hint: sizes.length === 0 ? "raise --tolerance or lower --min-side" : "raise --max-tokens",
      });
    const cost = await planned([{ size: model.defaults, tokens: usual }, ...candidates], model, { rank, dtype }, out);
    const reference = cost(usual).flops;
    const rows = candidates.map(({ size, tokens }) => rowOf(size, tokens, cost(tokens), reference));
    const header = { source, model: model.name, step, maxTokens, rank, dtype, usual: usualText(model) };
    const lines = () => [
      ...(values.summary ? [] : [...list(rows), ""]),
      ...longest(rows),
      "",
      ...ending(header, rows, values.summary),
    ];
    out.answer({ ...header, sizes: rows }, () => lines().join("\n"));
    return 0;
  },
});

async function planned(
  sizes: readonly CountedSize[],
  model: WanModel,
  { rank, dtype }: { rank: number; dtype: "bf16" | "fp8" | "f32" },
  out: Printer,
): Promise<(tokens: number) => StepCost> {
  const run = stepCosts(sizes, (size) =>
    planLoraStep(model, size, {
      dtype: dtype === "f32" ? "f32" : "bf16",
      fp8: dtype === "fp8",
      rank,
      recompute: true,
    }),
  );
  const started = Date.now();
  return finished(run, ({ planned: done, of }) =>
    out.progress(`planning training steps: ${done} of ${of}${timeLeft(started, done, of)}`),
  );
}

function rowOf(
  { width, height, frames, crop }: NearSize & { frames: number },
  tokens: number,
  cost: StepCost,
  reference: number,
): Row {
  return {
    width,
    height,
    frames,
    tokens,
    cropped: Math.max(0, crop.lost),
    relativeCost: cost.flops / reference,
    stepFlops: cost.flops,
    peakBytes: Math.round(cost.peak),
    cards: cards.map((gigabytes) => {
      // A "24 GB" card has 24 · 2^30 bytes.
      const spareBytes = Math.round(gigabytes * 2 ** 30 - RESERVED - cost.peak);
      return { gigabytes, fits: spareBytes >= 0, spareBytes };
    }),
  };
}

function parsePercent(text: string): number {
  const value = parseNumber("--tolerance", text);
  if (value >= 0 && value <= 100) return value / 100;
  throw new KinoraError("cli.bad-number", "--tolerance is wrong", {
    expected: "per cent, 0 to 100",
    actual: text,
    hint: "e.g. --tolerance 5",
  });
}

function parseLengths(text: string): number[] {
  const lengths = text.split(",").map((part) => parseWholeNumber("--frames", part));
  const wrong = lengths.find((frames) => frames % 4 !== 1);
  if (wrong === undefined) return [...new Set(lengths)].sort((a, b) => a - b);
  const below = wrong - ((wrong + 3) % 4);
  throw new KinoraError("size.frames", `--frames: ${wrong} is not 4n+1`, {
    hint: `use ${below < 1 ? "" : `${below} or `}${below + 4}`,
  });
}

const usualText = ({ defaults }: WanModel): string => `${defaults.width}x${defaults.height}x${defaults.frames}`;
const signed = (bytes: number): string => `${bytes < 0 ? "−" : ""}${Math.abs(bytes / 1e9).toFixed(1)}`;

/** Cells in columns: the first flush left, numbers flush right. */
function columns(lines: readonly (readonly string[])[]): string[] {
  const widths = lines[0]!.map((_, i) => Math.max(...lines.map((line) => line[i]!.length)));
  return lines.map((line) =>
    line.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  "),
  );
}

/** Every size with every length. */
function list(rows: readonly Row[]): string[] {
  const lines = [["size", "cut", "tokens", "cost", "memory", ...cards.map((gigabytes) => `${gigabytes} GB`)]];
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
  const lines = [["most frames", "cut", "by tokens", "cost", ...cards.map((gigabytes) => `${gigabytes} GB`)]];
  for (const [name, lengths] of sizes) {
    const most = lengths.at(-1)!;
    lines.push([
      name,
      formatPercent(most.cropped),
      String(most.frames),
      most.relativeCost.toPrecision(3),
      ...cards.map((_, i) => String(lengths.findLast((row) => row.cards[i]!.fits)?.frames ?? "–")),
    ]);
  }
  return columns(lines);
}

/** What a card takes at most, and how to read the tables. */
function ending(
  {
    model,
    source,
    usual,
    rank,
    dtype,
    maxTokens,
  }: {
    model: string;
    source: { width: number; height: number };
    usual: string;
    rank: number;
    dtype: string;
    maxTokens: number;
  },
  rows: readonly Row[],
  summary: boolean,
): string[] {
  const least = Math.min(...rows.map((row) => row.peakBytes));
  const lines = cards.map((gigabytes, i) => {
    const fitting = rows.filter((row) => row.cards[i]!.fits);
    const best = fitting.reduce<Row | undefined>(
      (most, row) => (most && most.tokens >= row.tokens ? most : row),
      undefined,
    );
    if (best)
      return `${gigabytes} GB: the most is ${best.width}x${best.height}x${best.frames} (${formatInteger(best.tokens)} tokens)`;
    const other = dtype === "fp8" ? "" : "; --dtype fp8 needs less";
    return `${gigabytes} GB: none fits as it is, the least needs ${(least / 1e9).toFixed(1)} GB${other}`;
  });
  const count = `${rows.length} sizes of ${model} near ${source.width}x${source.height}, of at most ${formatInteger(maxTokens)} tokens.`;
  const cost = `cost: a LoRA step (rank ${rank}, ${dtype}) against one of ${usual}`;
  const listed = "in the list the card columns are the GB left, or missing (−); --summary leaves the list out";
  return [...lines, "", count, summary ? cost : `${cost}; ${listed}`];
}
