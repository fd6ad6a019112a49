// A network's weights in another tool's names and number formats, tensor by tensor and rows at a time: what goes where, and
// how far it ends up from its source. Which file formats: the table of targets.
import { extname } from "node:path";
import { type BlockFormat, blockBytes, widenBlocks } from "../../base/block-format.ts";
import { bytesOf, type DType } from "../../base/dtype.ts";
import { KinoraError } from "../../base/errors.ts";
import { fromFloat32, toFloat32 } from "../../base/float-formats.ts";
import { type QuantizedName, quantizers } from "../../base/ggml/quantize.ts";
import { type GgmlFormat, ggmlFormat } from "../../base/ggml/types.ts";
import { elementCount, type Shape } from "../../base/shape.ts";
import { createGguf, type GgufSpec } from "../../io/gguf-writer.ts";
import type { PlacedWriter } from "../../io/placed-writer.ts";
import { SafetensorsWriter } from "../../io/safetensors-writer.ts";
import { openTensorSource } from "../../io/tensor-source.ts";
import { rowsOf, type StoredWeight, storedBytes, storedValues } from "../../nn/stored-weight.ts";
import { type Mix, mixes, mixOf } from "./gguf-mixes.ts";
import { type Recognized, recognize } from "./recognize.ts";
import { type Component, findComponents, tableOfLayout } from "./weight-names.ts";
import { mapWeights, readWeights } from "./weights.ts";

/** Forms beside `gguf:TYPE`. */
const plainForms = ["official", "comfy", "diffusers", "bf16", "f16", "f32", "fp8", "fp8_scaled", "int8"] as const;
type PlainForm = (typeof plainForms)[number];

/** Everything that weights can be converted to. */
export const weightForms: readonly string[] = [...plainForms, ...Object.keys(mixes).map((name) => `gguf:${name}`)];

export type Target = { readonly form: PlainForm } | { readonly form: "gguf"; readonly mix: Mix };

/** Throws `convert.unknown-form`. */
export function parseTarget(text: string): Target {
  const [form, type] = text.split(":");
  if (form === "gguf" && type !== undefined) {
    const mix = mixOf(type);
    if (mix) return { form, mix };
  }
  const plain = plainForms.find((name) => name === text);
  if (plain) return { form: plain };
  throw new KinoraError("convert.unknown-form", `${JSON.stringify(text)} is not a weight format Kinora writes`, {
    expected: weightForms.join(", "),
    hint: "e.g. `to` gguf:Q4_K_M",
  });
}

/** How one parameter is written. */
interface Written {
  /** In the new file. */
  readonly name: string;
  readonly shape: Shape;
  readonly source: StoredWeight;
  readonly dtype: DType;
  readonly blocks?: GgmlFormat | undefined;
  /** 8 bits with a scale for all, or for each row. */
  readonly scaled?: "tensor" | "row" | undefined;
}

/** How far a tensor is from what it was made of. */
export interface ConvertedTensor {
  name: string;
  from: string;
  to: string;
  /** ‖new − old‖ / ‖old‖ */
  error: number;
  /** The largest difference of an element. */
  most: number;
}

export type ConvertEvent = { type: "converting"; name: string; bytesDone: number; bytesTotal: number };

export interface ConvertedModel {
  label: string;
  tensors: ConvertedTensor[];
  bytes: number;
  notes: string[];
}

/** Elements that are widened at once. */
const AT_ONCE = 1 << 22;
const LARGEST_F8 = 448;

const kindNames: Readonly<Record<Recognized["kind"], string>> = {
  dit: "transformer",
  vae21: "2.1 autoencoder",
  vae22: "2.2 autoencoder",
  tae: "tiny autoencoder",
  "text-encoder": "text encoder",
  "clip-vision": "CLIP vision encoder",
};

/** What GGUF files call the architecture. */
const architectures: Partial<Record<Recognized["kind"], string>> = { dit: "wan", "text-encoder": "t5encoder" };

/** Names in the new file, by the official ones. */
function namesFor(target: Target, component: Component, recognized: Recognized): (official: string) => string {
  const { kind } = component;
  const text = kind === "text-encoder";
  const resnets = recognized.kind === "vae21" || recognized.kind === "vae22" ? recognized.config.numResBlocks + 1 : 0;
  const layout =
    target.form === "diffusers"
      ? text || kind === "clip-vision"
        ? "transformers"
        : "diffusers"
      : target.form === "gguf" && text
        ? "llama.cpp"
        : target.form === "comfy" && text
          ? "transformers"
          : "official";
  const table = tableOfLayout(kind, layout, resnets);
  return (official) => {
    const name = table ? table.fromOfficial(official) : official;
    if (name !== undefined) return name;
    throw new KinoraError("convert.no-name", `${official} has no name in the ${layout} layout`);
  };
}

/** The large matrices of the blocks, which 8-bit forms are for. */
const isBlockMatrix = (name: string, shape: Shape): boolean =>
  name.startsWith("blocks.") && name.endsWith(".weight") && shape.length === 2 && !name.includes("pos_embedding");

/** What is stored when nothing is asked for: as it is, or bf16 where that is quantised. */
const plainDtype = ({ dtype, blocks, scale }: StoredWeight): DType =>
  blocks || scale || bytesOf(dtype) < 2 ? "bf16" : dtype;

function formOf(
  target: Target,
  official: string,
  source: StoredWeight,
  order: { values: number },
): Omit<Written, "name" | "shape" | "source"> {
  const own = plainDtype(source);
  const { shape } = source;
  switch (target.form) {
    case "official":
    case "comfy":
    case "diffusers":
      return { dtype: own };
    case "bf16":
    case "f16":
    case "f32":
      return { dtype: target.form };
    case "fp8":
      return { dtype: isBlockMatrix(official, shape) ? "f8e4m3" : own };
    case "fp8_scaled":
      return isBlockMatrix(official, shape) ? { dtype: "f8e4m3", scaled: "tensor" } : { dtype: own };
    case "int8":
      return isBlockMatrix(official, shape) ? { dtype: "i8", scaled: "row" } : { dtype: own };
    case "gguf": {
      // As city96's tools: small things in float32, what is not quantised as it was.
      const small = shape.length === 1 || elementCount(shape) <= 1024 || official.endsWith("modulation");
      if (small) return { dtype: "f32" };
      const { type } = target.mix;
      if (type === "F32" || type === "F16" || type === "BF16") return { dtype: type.toLowerCase() as DType };
      const chosen = target.mix.typeOf(official, shape, order);
      if (chosen === undefined) return { dtype: own };
      const blocks = ggmlFormat(chosen)!;
      return shape[1]! % blocks.elements === 0 ? { dtype: "u8", blocks } : { dtype: "f16" };
    }
  }
}

/** Puts floats into a form and says what they are worth in it. */
interface Encoder {
  encode(values: Float32Array, row: number): { bytes: Uint8Array; back: Float32Array };
}

function encoderOf({ dtype, blocks, scaled, shape }: Written, scales: Float32Array): Encoder {
  if (blocks) {
    const quantize = quantizers[blocks.name as QuantizedName];
    return {
      encode(values) {
        const bytes = new Uint8Array(blockBytes(blocks, values.length));
        for (let from = 0, at = 0; from < values.length; from += blocks.elements, at += blocks.bytes)
          quantize(values, from, bytes, at);
        const back = new Float32Array(values.length);
        widenBlocks(blocks, bytes, back);
        return { bytes, back };
      },
    };
  }
  if (scaled) {
    return {
      encode(values, row) {
        const width = elementCount(shape) / shape[0]!;
        const factor = (i: number) => scales[scaled === "row" ? row + Math.floor(i / width) : 0]!;
        const top = dtype === "i8" ? 127 : LARGEST_F8;
        const ratios = values.map((value, i) => Math.max(-top, Math.min(top, value / factor(i))));
        const bytes =
          dtype === "i8" ? new Uint8Array(Int8Array.from(ratios, halfToEven).buffer) : fromFloat32(ratios, dtype);
        const back = toFloat32(bytes, dtype).map((value, i) => value * factor(i));
        return { bytes, back };
      },
    };
  }
  return {
    encode(values) {
      const within = dtype === "f8e4m3" ? values.map((v) => Math.max(-LARGEST_F8, Math.min(LARGEST_F8, v))) : values;
      const bytes = fromFloat32(within, dtype);
      return { bytes, back: toFloat32(bytes, dtype) };
    },
  };
}

function halfToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

const scaleShape = ({ scaled, shape }: Written): Shape => (scaled === "row" ? [shape[0]!, 1] : []);
const stem = (name: string): string => name.slice(0, -".weight".length);

/** ComfyUI's int8 layers say their format each. */
const INT8_MARK = Buffer.from(JSON.stringify({ format: "int8_tensorwise" }));

/** What stands beside the weights in 8-bit forms. */
function companionsOf(tensors: readonly Written[], target: Target): (GgufSpec & { bytes?: Uint8Array })[] {
  const scaled = tensors.filter((tensor) => tensor.scaled);
  const suffix = target.form === "int8" ? ".weight_scale" : ".scale_weight";
  const scales = scaled.map((tensor) => ({
    name: stem(tensor.name) + suffix,
    dtype: "f32" as const,
    shape: scaleShape(tensor),
  }));
  const marks =
    target.form === "int8"
      ? scaled.map(({ name }) => ({
          name: `${stem(name)}.comfy_quant`,
          dtype: "u8" as const,
          shape: [INT8_MARK.length],
          bytes: INT8_MARK,
        }))
      : target.form === "fp8_scaled"
        ? [{ name: "scaled_fp8", dtype: "f8e4m3" as const, shape: [2], bytes: new Uint8Array(2) }]
        : [];
  return [...scales, ...marks];
}

/** Pieces of a weight that fit in memory, and the row each begins with. */
function* pieces(weight: StoredWeight): Generator<{ row: number; part: StoredWeight }> {
  const { shape, blocks } = weight;
  const rows = shape[0] ?? 1;
  const width = elementCount(shape) / Math.max(1, rows);
  if (shape.length < 2 || (blocks && width % blocks.elements !== 0)) {
    yield { row: 0, part: weight };
    return;
  }
  const count = Math.max(1, Math.floor(AT_ONCE / width));
  for (let row = 0; row < rows; row += count) {
    yield { row, part: rowsOf(weight, row, Math.min(count, rows - row)) };
  }
}

/** The scales of a weight in 8 bits: of its largest magnitudes. */
function scalesOf({ source, scaled, shape, dtype }: Written): Float32Array {
  if (!scaled) return new Float32Array(0);
  const rows = shape[0]!;
  const largest = new Float32Array(scaled === "row" ? rows : 1);
  const width = elementCount(shape) / rows;
  for (const { row, part } of pieces(source)) {
    const values = storedValues(part);
    for (let i = 0; i < values.length; i++) {
      const group = scaled === "row" ? row + Math.floor(i / width) : 0;
      largest[group] = Math.max(largest[group]!, Math.abs(values[i]!));
    }
  }
  return largest.map((value) => (value > 0 ? value / (dtype === "i8" ? 127 : LARGEST_F8) : 1));
}

const described = (dtype: DType, blocks: BlockFormat | undefined): string => blocks?.name ?? dtype;

/**
 * Writes the one network in `path` to `out`. The file stands there only when it is whole; memory holds a few rows at a time.
 * Throws `convert.*`, `weights.*`, `io.*`, and what `signal` says.
 */
export async function* convertModel(
  path: string,
  out: string,
  target: Target,
  signal?: AbortSignal,
): AsyncGenerator<ConvertEvent, ConvertedModel> {
  using source = openTensorSource(path);
  const components = findComponents(source.names);
  const [component] = components;
  if (!component || components.length > 1) {
    throw new KinoraError("convert.not-one-network", `${path} must hold exactly one network to be converted`, {
      actual: components.length > 0 ? components.map(({ kind }) => kindNames[kind]).join(", ") : "none",
      hint: "kinora models inspect FILE shows what a file holds",
    });
  }
  checkEnding(out, target);
  const map = mapWeights(source, component);
  const recognized = recognize(map, path);
  const architecture = architectures[recognized.kind];
  if (target.form === "gguf" && !architecture) {
    throw new KinoraError(
      "convert.no-gguf",
      `GGUF files hold transformers and text encoders, not a ${kindNames[recognized.kind]}`,
    );
  }
  using reader = readWeights(source, component, recognized.expected);
  const rename = namesFor(target, component, recognized);
  const order = { values: 0 };
  const tensors = [...recognized.expected.keys()].flatMap((official): Written[] => {
    const weight = reader.find(official);
    if (!weight) return [];
    return [
      { name: rename(official), shape: weight.shape, source: weight, ...formOf(target, official, weight, order) },
    ];
  });
  const beside = companionsOf(tensors, target);
  await using writer = await openWriter(out, [...tensors, ...beside], target, architecture, source.metadata);
  const bytesTotal = tensors.reduce((sum, tensor) => sum + storedBytes(tensor.source), 0);
  let bytesDone = 0;
  const converted: ConvertedTensor[] = [];
  for (const tensor of tensors) {
    const scales = scalesOf(tensor);
    const encoder = encoderOf(tensor, scales);
    const [differences, squares] = [{ sum: 0, most: 0 }, { sum: 0 }];
    for (const { row, part } of pieces(tensor.source)) {
      signal?.throwIfAborted();
      const values = storedValues(part);
      const { bytes, back } = encoder.encode(values, row);
      for (let i = 0; i < values.length; i++) {
        const difference = Math.abs(back[i]! - values[i]!);
        differences.sum += difference ** 2;
        differences.most = Math.max(differences.most, difference);
        squares.sum += values[i]! ** 2;
      }
      await writer.write(tensor.name, bytes);
      bytesDone += storedBytes(part);
      yield { type: "converting", name: tensor.name, bytesDone, bytesTotal };
    }
    tensor.source.discard?.();
    if (tensor.scaled) {
      const suffix = target.form === "int8" ? ".weight_scale" : ".scale_weight";
      await writer.write(stem(tensor.name) + suffix, fromFloat32(scales, "f32"));
    }
    converted.push({
      name: tensor.name,
      from: described(tensor.source.dtype, tensor.source.blocks),
      to: described(tensor.dtype, tensor.blocks),
      error: squares.sum > 0 ? Math.sqrt(differences.sum / squares.sum) : Math.sqrt(differences.sum),
      most: differences.most,
    });
  }
  for (const { name, bytes } of beside) if (bytes) await writer.write(name, bytes);
  await writer.finish();
  const notes = map.ignored.map(({ name, why }) => `${name} is left out: ${why}`);
  return { label: recognized.label, tensors: converted, bytes: writer.size, notes };
}

function checkEnding(out: string, target: Target): void {
  const wanted = target.form === "gguf" ? ".gguf" : ".safetensors";
  if (extname(out).toLowerCase() === wanted) return;
  throw new KinoraError("convert.ending", `${out} has the wrong ending for this format`, { expected: wanted });
}

function openWriter(
  out: string,
  specs: readonly GgufSpec[],
  target: Target,
  architecture: string | undefined,
  metadata: Readonly<Record<string, string>>,
): Promise<PlacedWriter> {
  if (target.form !== "gguf") {
    // What a file said of its own bytes is not said of others.
    const { _quantization_metadata: _, ...kept } = metadata;
    return SafetensorsWriter.create(out, specs, specs.length > 0 && !("general.architecture" in kept) ? kept : {});
  }
  return createGguf(out, specs, {
    "general.architecture": architecture!,
    "general.quantization_version": 2,
    "general.file_type": target.mix.fileType,
  });
}
