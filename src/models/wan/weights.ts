// A weight file in any layout, seen under the official parameter names: which tensors make up each parameter, what does
// not fit, and a reader that hands the parameters to the models.
import type { BlockFormat } from "../../base/block-format.ts";
import { bytesOf, type DType, dtypes } from "../../base/dtype.ts";
import { KinoraError } from "../../base/errors.ts";
import { nearestName } from "../../base/nearest.ts";
import { elementCount } from "../../base/shape.ts";
import type { TensorSource } from "../../io/tensor-source.ts";
import type { StoredWeight } from "../../nn/stored-weight.ts";
import type { WeightReader } from "../../nn/weights.ts";
import { isFilledUp, type Quantization, QuantizationMarks, storedWeight } from "./quantized-weights.ts";
import { type Component, findComponents, nameTable, type OfficialPlace, type WanKind } from "./weight-names.ts";
import type { Shapes } from "./weight-shapes.ts";

/** One official parameter, and where a file has it. */
export interface LogicalTensor {
  /** The official name. */
  readonly name: string;
  /** As stored, before any scale. */
  readonly dtype: DType;
  readonly blocks: BlockFormat | undefined;
  /** The shape the parts have together; the official one may only add or drop dimensions of 1. */
  readonly shape: readonly number[];
  /** The tensors of the file that make it up, stacked along the first axis; almost always one. */
  readonly parts: readonly string[];
  /** The file has the matrix the other way round; `shape` is already the right one. */
  readonly transposed: boolean;
  /** The shape of its scales. */
  readonly scale: readonly number[] | undefined;
  readonly quantization: Quantization;
}

export interface WeightMap {
  readonly component: Component;
  readonly tensors: ReadonlyMap<string, LogicalTensor>;
  /** Tensors of this network's prefix that are no parameter of it; the name as in the file. */
  readonly unexpected: readonly string[];
  /** Tensors left out on purpose, and why. */
  readonly ignored: readonly { name: string; why: string }[];
}

/** Tensors that come along with a network in some layouts and are no part of what Kinora runs; names without prefix. */
const companions: readonly { kind: WanKind; pattern: RegExp; why: string }[] = [
  { kind: "text-encoder", pattern: /^spiece_model$/, why: "the tokenizer, kept beside the encoder by ComfyUI" },
  { kind: "text-encoder", pattern: /^encoder\.embed_tokens\.weight$/, why: "the same table as shared.weight" },
  { kind: "text-encoder", pattern: /^(?:decoder|lm_head|dec|output)\./, why: "the decoder of the full T5 model" },
  { kind: "text-encoder", pattern: /^logit_scale$/, why: "left over from CLIP" },
  { kind: "clip-vision", pattern: /^(?:textual|text_model|text_projection)\./, why: "CLIP's text half" },
  { kind: "clip-vision", pattern: /^log(?:it)?_scale$/, why: "CLIP's training temperature" },
  { kind: "clip-vision", pattern: /\.position_ids$/, why: "a constant table" },
];

/**
 * Parameters a model may lack: Wan takes CLIP's features before its last block, so what follows is not needed.
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/animate/clip.py#L279-L300
 */
const optional = /^visual\.(?:head$|post_norm\.)/;

/** The prefixes in front of a component's siblings, e.g. `vae.` beside `model.diffusion_model.`. */
function ownNames(source: TensorSource, component: Component): string[] {
  const others = findComponents(source.names).filter((other) => other.prefix !== component.prefix);
  const { prefix } = component;
  return source.names.filter(
    (name) =>
      name.startsWith(prefix) &&
      !others.some((other) => other.prefix.startsWith(prefix) && name.startsWith(other.prefix)),
  );
}

/**
 * Finds every official parameter of `component` in a file. Nothing is compared yet: see {@link compareWeights}.
 * Throws `weights.unsupported-quantization` and `weights.bad-quantization`.
 */
export function mapWeights(source: TensorSource, component: Component): WeightMap {
  const { prefix, layout, kind } = component;
  const names = ownNames(source, component);
  const table = nameTable(
    kind,
    layout,
    names.map((name) => name.slice(prefix.length)),
  );
  const marks = new QuantizationMarks(source, prefix);
  const ignored: { name: string; why: string }[] = [];
  const unexpected: string[] = [];
  const parts = new Map<string, { sources: string[]; count: number; transposed: boolean }>();
  const outside = new Set(source.names);
  // A T5 file may have only this one of the two names of its token table.
  const embedded = "encoder.embed_tokens.weight";
  const soleTable = kind === "text-encoder" && !source.has(`${prefix}shared.weight`) ? embedded : undefined;
  const placeOf = (bare: string): OfficialPlace | undefined => {
    if (bare === soleTable) return { name: "token_embedding.weight" };
    return table ? table.toOfficial(bare) : { name: bare };
  };
  for (const name of names) {
    outside.delete(name);
    const role = marks.roleOf(name);
    if (role === "activation") ignored.push({ name, why: "a scale of activations, which Kinora does not quantise" });
    if (role) continue;
    const bare = name.slice(prefix.length);
    const companion = companions.find((row) => row.kind === kind && row.pattern.test(bare));
    if (companion && bare !== soleTable) {
      ignored.push({ name, why: companion.why });
      continue;
    }
    const place = placeOf(bare);
    if (!place) {
      unexpected.push(name);
      continue;
    }
    const { index, count } = place.part ?? { index: 0, count: 1 };
    const entry = parts.get(place.name) ?? { sources: [], count, transposed: place.transposed === true };
    if (entry.sources[index] !== undefined) unexpected.push(name);
    else entry.sources[index] = name;
    parts.set(place.name, entry);
  }
  for (const name of outside) ignored.push({ name, why: "not part of this network" });
  const tensors = new Map<string, LogicalTensor>();
  for (const [name, { sources, count, transposed }] of parts) {
    const present = sources.filter((source) => source !== undefined);
    if (present.length === count) tensors.set(name, logicalTensor(source, marks, name, present, transposed));
    else unexpected.push(...present);
  }
  return { component, tensors, unexpected, ignored };
}

function logicalTensor(
  source: TensorSource,
  marks: QuantizationMarks,
  name: string,
  parts: readonly string[],
  transposed: boolean,
): LogicalTensor {
  const first = source.info(parts[0]!);
  const quantization = marks.of(parts[0]!);
  const { dtype, blocks, scale, shape: stored } = quantization;
  const common = { name, dtype, blocks, parts, transposed, scale, quantization };
  if (parts.length === 1 && !transposed) return { ...common, shape: stored };
  const rest = first.shape.slice(1);
  const uneven = parts.find((part) => {
    const { dtype, shape, blocks } = source.info(part);
    const other = marks.of(part);
    const alike = dtype === first.dtype && blocks === first.blocks && String(shape.slice(1)) === String(rest);
    // Blocks lie along the rows.
    return !alike || other.scale !== undefined || other.blocks !== blocks || (transposed && blocks !== undefined);
  });
  if (uneven !== undefined) {
    throw new KinoraError("weights.bad-parts", `the parts of ${name} do not fit together`, {
      expected: `plain tensors of ${first.dtype} [n, ${rest}]`,
      actual: `${uneven} [${source.info(uneven).shape}]`,
      hint: "get the checkpoint again from its source",
    });
  }
  const rows = parts.reduce((sum, part) => sum + (source.info(part).shape[0] ?? 1), 0);
  const shape = transposed ? [...first.shape].reverse() : [rows, ...rest];
  return { ...common, shape };
}

export interface WeightProblems {
  readonly missing: readonly { name: string; nearest?: string }[];
  readonly unexpected: readonly { name: string; nearest?: string }[];
  readonly wrongShape: readonly { name: string; expected: readonly number[]; actual: readonly number[] }[];
  readonly wrongDtype: readonly { name: string; dtype: DType }[];
}

/** True where two shapes hold the same values in the same order and differ only as tools write them. */
function sameUpToOnes(expected: readonly number[], actual: readonly number[]): boolean {
  const bare = (shape: readonly number[]) => shape.filter((size) => size !== 1).join();
  if (bare(expected) === bare(actual)) return true;
  // A patch convolution kept as the Linear it is.
  return (
    actual.length === 2 &&
    expected.length > 2 &&
    actual[0] === expected[0] &&
    elementCount(actual) === elementCount(expected)
  );
}

/** The most names an error lists one by one, and looks for a nearest match for. */
const LISTED = 20;
/** Among more names than any model has, looking for the nearest would take too long. */
const NEAREST_AMONG = 5000;

/** Compares what a file has with what a model needs. Nothing is skipped: every difference is in the answer. */
export function compareWeights(expected: Shapes, found: Pick<WeightMap, "tensors" | "unexpected">): WeightProblems {
  const missing = [...expected.keys()].filter((name) => !found.tensors.has(name) && !optional.test(name));
  const extra = [...found.tensors.values()].filter(({ name }) => !expected.has(name)).flatMap(({ parts }) => parts);
  const unexpected = [...found.unexpected, ...extra];
  const wrongShape: { name: string; expected: readonly number[]; actual: readonly number[] }[] = [];
  const wrongDtype: { name: string; dtype: DType }[] = [];
  for (const [name, shape] of expected) {
    const tensor = found.tensors.get(name);
    if (!tensor) continue;
    if (!sameUpToOnes(shape, tensor.shape) && !isFilledUp(shape, tensor.quantization))
      wrongShape.push({ name, expected: shape, actual: tensor.shape });
    if (!dtypes[tensor.dtype].floating && !tensor.blocks && !(tensor.dtype === "i8" && tensor.scale)) {
      wrongDtype.push({ name, dtype: tensor.dtype });
    }
  }
  const withNearest = (names: readonly string[], others: readonly string[]) =>
    names.map((name, i) => {
      const nearest = i < LISTED && others.length <= NEAREST_AMONG ? nearestName(name, others) : undefined;
      return nearest === undefined ? { name } : { name, nearest };
    });
  return {
    missing: withNearest(missing, unexpected),
    unexpected: withNearest(unexpected, missing),
    wrongShape,
    wrongDtype,
  };
}

export function isComplete(problems: WeightProblems): boolean {
  return Object.values(problems).every((list) => list.length === 0);
}

function listed<T>(what: string, items: readonly T[], text: (item: T) => string): string[] {
  if (items.length === 0) return [];
  const more = items.length - LISTED;
  const names = items.slice(0, LISTED).map(text).join(", ");
  return [`${items.length} ${what}: ${names}${more > 0 ? ` and ${more} more` : ""}`];
}

/** Throws `weights.mismatch`, naming what is missing, unexpected, or of the wrong shape or dtype. */
export function checkWeights(expected: Shapes, found: Pick<WeightMap, "tensors" | "unexpected">, path: string): void {
  const problems = compareWeights(expected, found);
  if (isComplete(problems)) return;
  const near = ({ name, nearest }: { name: string; nearest?: string }) =>
    nearest ? `${name} (nearest: ${nearest})` : name;
  const lines = [
    ...listed("missing", problems.missing, near),
    ...listed("unexpected", problems.unexpected, near),
    ...listed(
      "of the wrong shape",
      problems.wrongShape,
      (row) => `${row.name} [${row.actual}] instead of [${row.expected}]`,
    ),
    ...listed("in a dtype that weights cannot have", problems.wrongDtype, (row) => `${row.name} ${row.dtype}`),
  ];
  throw new KinoraError("weights.mismatch", `${path} does not fit the model; ${lines.join("; ")}`, {
    hint: "kinora models inspect FILE identifies it and lists every name",
  });
}

/** The bytes of a parameter in its official shape, joined of its parts or turned. */
function logicalBytes(source: TensorSource, { parts, transposed, dtype, shape }: LogicalTensor): Uint8Array {
  const joined = Buffer.concat(parts.map((part) => source.bytes(part)));
  if (!transposed) return joined;
  const width = bytesOf(dtype);
  const [rows, columns] = shape as [number, number];
  const turned = new Uint8Array(joined.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const from = (column * rows + row) * width;
      turned.set(joined.subarray(from, from + width), (row * columns + column) * width);
    }
  }
  return turned;
}

/**
 * The parameters of one network in a file, under their official names and shapes, for a model to be built from.
 * Closing the reader does not close the file: mapped weights need it for as long as the model lives.
 * Throws `weights.mismatch` (see {@link checkWeights}).
 */
export function readWeights(source: TensorSource, component: Component, expected: Shapes): WeightReader {
  const found = mapWeights(source, component);
  checkWeights(expected, found, source.path);
  return {
    names: () => found.tensors.keys(),
    find(name): StoredWeight | undefined {
      const tensor = found.tensors.get(name);
      if (!tensor) return undefined;
      const { dtype, blocks, parts, transposed, quantization } = tensor;
      const shape = expected.get(name) ?? tensor.shape;
      if (parts.length === 1 && !transposed) return storedWeight(source, parts[0]!, quantization, shape);
      return {
        dtype,
        blocks,
        shape,
        bytes: () => logicalBytes(source, tensor),
        readAhead() {
          for (const part of parts) source.readAhead(part);
        },
        discard() {
          for (const part of parts) source.discard(part);
        },
      };
    },
    [Symbol.dispose]() {},
  };
}
