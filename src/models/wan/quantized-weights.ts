// The marks by which files say that a weight is quantised: ComfyUI's scaled fp8 (old and new), mxfp8, nvfp4, int8 and turned
// integers (convrot), musubi's fp8 blocks. How such a weight is read; the arithmetic of blocks is base/comfy-blocks.ts.
// ComfyUI: comfy/utils.py convert_old_quants, QUANTIZATION.md; musubi-tuner: modules/fp8_optimization_utils.py.
import { type BlockFormat, blockBytes } from "../../base/block-format.ts";
import { MXFP8_GROUP, NVFP4_GROUP, nvfp4Blocks, turnedBytes, turnedNibbles } from "../../base/comfy-blocks.ts";
import { bytesOf, type DType, dtypes } from "../../base/dtype.ts";
import { KinoraError } from "../../base/errors.ts";
import { fromFloat32, toFloat32 } from "../../base/float-formats.ts";
import { elementCount, type Shape, sameShape } from "../../base/shape.ts";
import type { TensorSource } from "../../io/tensor-source.ts";
import { type StoredWeight, storedValues } from "../../nn/stored-weight.ts";

/** A weight's data for its true shape. */
type Data = Pick<StoredWeight, "dtype" | "blocks" | "scale"> & {
  /** Where they are not the tensor's own bytes. */
  readonly bytes?: () => Uint8Array;
};

/** How a weight is stored. */
export interface Quantization {
  /** What the stored numbers are; differs from the file's dtype where fp8 hides in bytes. */
  readonly dtype: DType;
  readonly blocks?: BlockFormat | undefined;
  /** What it counts as; with padding, where there is some. */
  readonly shape: Shape;
  /** The shape of its scales: [1], [N, 1] or [N, K/b, 1]. */
  readonly scale?: Shape | undefined;
  /** Rows and columns were filled up to multiples of it. */
  readonly padding?: number;
  /** What it is for its true shape. */
  read(shape: Shape): Data;
}

const scaleSuffixes = [".scale_weight", ".weight_scale"];

/** Tensors beside a quantised weight that say nothing about its values. */
const activationSuffixes = [".scale_input", ".input_scale"];

/** The scale of a whole tensor beside those of its blocks. */
const SECOND_SCALE = ".weight_scale_2";

/** Parts of formats that Kinora does not read. */
const foreignSuffixes = [".pre_quant_scale", ".weight_scale_inv", ".weight_zero_point"];

interface LayerConfig {
  readonly format: string;
  readonly turned: boolean;
  /** Inputs that are turned together. */
  readonly group: number;
}

const DEFAULT_GROUP = 256;

function layerConfig(layer: string, text: string): LayerConfig {
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch (cause) {
    throw new KinoraError("weights.bad-quantization", `the quantisation metadata of ${layer} is not valid JSON`, {
      cause,
      hint: "quantise the checkpoint again, or get it again from its source",
    });
  }
  const fields = typeof config === "string" ? { format: config } : ((config ?? {}) as Record<string, unknown>);
  const { format, convrot_groupsize: group = DEFAULT_GROUP } = fields;
  if (typeof format !== "string") {
    throw new KinoraError("weights.bad-quantization", `the quantisation metadata of ${layer} has no format`, {
      hint: "quantise the checkpoint again, or get it again from its source",
    });
  }
  if (typeof group !== "number" || !groups.has(group)) {
    throw new KinoraError(
      "weights.bad-quantization",
      `the quantisation metadata of ${layer} has an impossible convrot group size`,
      {
        expected: [...groups].join(", "),
        actual: JSON.stringify(group),
        hint: "quantise the checkpoint again, or get it again from its source",
      },
    );
  }
  return { format, turned: fields.convrot === true, group };
}

/** Powers of four. */
const groups: ReadonlySet<number> = new Set([4, 16, 64, 256, 1024, 4096]);

/** The layers that the file's metadata says are quantised, if it does. */
function layersOfMetadata(metadata: Readonly<Record<string, string>>): Map<string, LayerConfig> {
  const text = metadata._quantization_metadata;
  if (text === undefined) return new Map();
  let layers: unknown;
  try {
    layers = (JSON.parse(text) as { layers?: unknown } | null)?.layers;
  } catch (cause) {
    throw new KinoraError("weights.bad-quantization", "the file's _quantization_metadata is not valid JSON", {
      cause,
      hint: "quantise the checkpoint again, or get it again from its source",
    });
  }
  if (typeof layers !== "object" || layers === null) return new Map();
  return new Map(Object.entries(layers).map(([name, config]) => [name, layerConfig(name, JSON.stringify(config))]));
}

/** Brings a scale's shape to one of the three forms, for a weight whose rows and columns are `shape`. */
function scaleShape(weight: string, shape: readonly number[], scale: readonly number[]): readonly number[] {
  const count = elementCount(scale);
  if (count === 1) return [1];
  const [rows, columns] = shape;
  const trimmed = scale.at(-1) === 1 ? scale.slice(0, -1) : scale;
  if (shape.length >= 2 && trimmed[0] === rows) {
    if (trimmed.slice(1).every((size) => size === 1)) return [rows!, 1];
    const blocks = trimmed[1]!;
    if (trimmed.length === 2 && shape.length === 2 && columns! % blocks === 0) return [rows!, blocks, 1];
  }
  throw new KinoraError("weights.bad-quantization", `the scale of ${weight} fits none of its granularities`, {
    expected: `[1], [${rows}, 1] or [${rows}, blocks, 1] for a weight [${shape}]`,
    actual: `[${scale}]`,
    hint: "quantise the checkpoint again, or get it again from its source",
  });
}

/** A weight of a file with what lies beside it. */
interface Layer {
  readonly source: TensorSource;
  /** The tensor's name. */
  readonly weight: string;
  readonly dtype: DType;
  readonly shape: Shape;
  /** The name of the tensor with its scales. */
  readonly scale: string | undefined;
  /** The name of the tensor with the scale of all. */
  readonly second: string | undefined;
  readonly group: number;
}

function bad({ weight }: Layer, what: string, expected: string, actual: string): KinoraError {
  return new KinoraError("weights.bad-quantization", `${weight} ${what}`, {
    expected,
    actual,
    hint: "quantise the checkpoint again, or get it again from its source",
  });
}

const valuesOf = (source: TensorSource, name: string): Float32Array =>
  toFloat32(source.bytes(name), source.info(name).dtype);

/** Values by themselves, times a scale where there is one. */
function scaled(layer: Layer, dtype: DType, blocks?: BlockFormat, shape: Shape = layer.shape): Quantization {
  const { source, scale: name } = layer;
  if (name === undefined) return { dtype, blocks, shape, read: () => ({ dtype, blocks }) };
  const scale = scaleShape(layer.weight, shape, source.info(name).shape);
  // ComfyUI's old files have scales of 1 beside weights that were left as they were.
  const idle = scale.length === 1 && !blocks && isWide(dtype) && valuesOf(source, name)[0] === 1;
  if (idle) return { dtype, shape, read: () => ({ dtype }) };
  return {
    dtype,
    blocks,
    shape,
    scale,
    read: () => ({ dtype, blocks, scale: lazily(scale, () => valuesOf(source, name)) }),
  };
}

const isWide = (dtype: DType): boolean => dtypes[dtype].floating && bytesOf(dtype) > 1;

/** Scales that are made each time they are asked for: those of small blocks are a good part of the weights' own bytes. */
const lazily = (shape: Shape, make: () => Float32Array): NonNullable<StoredWeight["scale"]> => ({
  shape,
  get values() {
    return make();
  },
});

/** Integers turned in groups, `perByte` in a byte. */
function turned(layer: Layer, blocks: BlockFormat, perByte: number): Quantization {
  const shape = [layer.shape[0]!, layer.shape[1]! * perByte];
  if (bytesOf(layer.dtype) !== 1 || layer.shape.length !== 2 || shape[1]! % blocks.elements !== 0) {
    throw bad(
      layer,
      "cannot be rotated",
      `bytes, rows of whole groups of ${layer.group}`,
      `${layer.dtype} [${layer.shape}]`,
    );
  }
  return scaled(layer, "u8", blocks, shape);
}

/** Tiles of the layout in which matrices of scales lie, for the matrix units that read them. */
const TILE = { rows: 128, columns: 4 };

/**
 * Where the scale of a row and a group of its inputs lies among `columns` groups, filled up to whole tiles.
 * https://docs.nvidia.com/cuda/cublas/#d-block-scaling-factors-layout
 */
function swizzled(row: number, column: number, columns: number): number {
  const tile = Math.floor(row / TILE.rows) * Math.ceil(columns / TILE.columns) + Math.floor(column / TILE.columns);
  const inside = (row % 32) * 16 + Math.floor((row % TILE.rows) / 32) * 4 + (column % TILE.columns);
  return tile * TILE.rows * TILE.columns + inside;
}

/** The stored scales of blocks of inputs, a byte each. Throws where they are fewer than the layout has. */
function blockScales(layer: Layer, columns: number): Uint8Array {
  const { source, scale, shape } = layer;
  if (scale === undefined) throw bad(layer, "lacks the scales of its blocks", "weight_scale next to it", "none");
  const up = (size: number, whole: number) => Math.ceil(size / whole) * whole;
  const count = up(shape[0]!, TILE.rows) * up(columns, TILE.columns);
  const info = source.info(scale);
  if (bytesOf(info.dtype) !== 1 || elementCount(info.shape) !== count) {
    throw bad(layer, "has other scales than its shape asks for", `${count} bytes`, `${info.dtype} [${info.shape}]`);
  }
  return source.bytes(scale);
}

/** A matrix whose rows or columns were filled up, cut to its true shape and widened. */
function cutWide(padded: StoredWeight, [rows, columns]: Shape): Data {
  return {
    dtype: "f32",
    bytes() {
      const values = storedValues(padded);
      const cut = new Float32Array(rows! * columns!);
      const width = padded.shape[1]!;
      for (let row = 0; row < rows!; row++)
        cut.set(values.subarray(row * width, row * width + columns!), row * columns!);
      return fromFloat32(cut, "f32");
    },
  };
}

/** fp8 with a power of two for every 32 inputs. */
function mxfp8(layer: Layer): Quantization {
  const { source, weight, shape, dtype: stored } = layer;
  const [, width] = shape as [number, number];
  if (shape.length !== 2 || bytesOf(stored) !== 1 || width % MXFP8_GROUP !== 0) {
    throw bad(layer, "is not mxfp8", `bytes, rows of whole groups of ${MXFP8_GROUP}`, `${stored} [${shape}]`);
  }
  const dtype = "f8e4m3";
  const groupsOf = (columns: number) => columns / MXFP8_GROUP;
  blockScales(layer, groupsOf(width));
  const powers = (rows: number) => {
    const codes = blockScales(layer, groupsOf(width));
    return Float32Array.from({ length: rows * groupsOf(width) }, (_, i) => {
      const code = codes[swizzled(Math.floor(i / groupsOf(width)), i % groupsOf(width), groupsOf(width))]!;
      return code === 255 ? Number.NaN : 2 ** (code - 127);
    });
  };
  const scaleFor = (rows: number) => lazily([rows, groupsOf(width), 1], () => powers(rows));
  return {
    dtype,
    shape,
    scale: [shape[0]!, groupsOf(width), 1],
    padding: 32,
    read([rows, columns]) {
      const bytes = () => source.bytes(weight);
      if (columns !== width) return cutWide({ dtype, shape, bytes, scale: scaleFor(shape[0]!) }, [rows!, columns!]);
      const cut = rows === shape[0] ? {} : { bytes: () => bytes().subarray(0, rows! * width) };
      return { dtype, ...cut, scale: scaleFor(rows!) };
    },
  };
}

/** 4-bit floats with an fp8 scale for every 16 inputs and one for all. */
function nvfp4(layer: Layer): Quantization {
  const { source, weight, second } = layer;
  const [rows, packed] = layer.shape as [number, number];
  const width = 2 * packed;
  if (layer.shape.length !== 2 || bytesOf(layer.dtype) !== 1 || width % NVFP4_GROUP !== 0) {
    throw bad(
      layer,
      "is not nvfp4",
      `bytes, rows of whole groups of ${NVFP4_GROUP}`,
      `${layer.dtype} [${layer.shape}]`,
    );
  }
  if (second === undefined || elementCount(source.info(second).shape) !== 1) {
    throw bad(
      layer,
      "lacks the scale of the whole tensor",
      "one number as weight_scale_2",
      second ? "several" : "none",
    );
  }
  const groupsInRow = width / NVFP4_GROUP;
  blockScales(layer, groupsInRow);
  const dtype = "u8";
  const blocks = nvfp4Blocks;
  const scale = lazily([1], () => valuesOf(source, second));
  /** Scales and codes of the first rows, side by side. */
  const joined = (count: number) => {
    const [codes, scales] = [source.bytes(weight), blockScales(layer, groupsInRow)];
    const half = NVFP4_GROUP / 2;
    const bytes = new Uint8Array(blockBytes(blocks, count * width));
    for (let at = 0, i = 0; at < bytes.length; at += blocks.bytes, i++) {
      bytes[at] = scales[swizzled(Math.floor(i / groupsInRow), i % groupsInRow, groupsInRow)]!;
      bytes.set(codes.subarray(i * half, (i + 1) * half), at + 1);
    }
    return bytes;
  };
  const shape = [rows, width];
  return {
    dtype,
    blocks,
    shape,
    scale: [1],
    padding: 16,
    read([count, columns]) {
      if (columns === width) return { dtype, blocks, scale, bytes: () => joined(count!) };
      return cutWide({ dtype, blocks, scale, shape, bytes: () => joined(rows) }, [count!, columns!]);
    },
  };
}

/** ComfyUI's names of formats. `float8_*` may lie in a file as bytes. */
const formats: Readonly<Record<string, (layer: Layer, config: LayerConfig) => Quantization>> = {
  float8_e4m3fn: (layer) => scaled(layer, layer.dtype === "u8" ? "f8e4m3" : layer.dtype),
  float8_e5m2: (layer) => scaled(layer, layer.dtype === "u8" ? "f8e5m2" : layer.dtype),
  int8_tensorwise: (layer, config) =>
    config.turned
      ? turned(layer, turnedBytes(config.group), 1)
      : scaled(layer, layer.dtype === "u8" ? "i8" : layer.dtype),
  convrot_w4a4: (layer, config) => turned(layer, turnedNibbles(config.group), 2),
  mxfp8,
  nvfp4,
};

/** Reads the marks of one file. */
export class QuantizationMarks {
  readonly #source: TensorSource;
  readonly #prefix: string;
  readonly #layers: ReadonlyMap<string, LayerConfig>;

  /** @param prefix of the network's names; metadata may name layers with or without it */
  constructor(source: TensorSource, prefix: string) {
    this.#source = source;
    this.#prefix = prefix;
    this.#layers = layersOfMetadata(source.metadata);
  }

  /**
   * What a tensor that is no parameter is for: `weight` where it says how a weight of the file is stored, `activation`
   * where it speaks of the layer's inputs, which Kinora does not quantise.
   */
  roleOf(name: string): "weight" | "activation" | undefined {
    if (name === this.#marker) return "weight";
    const belongs = (suffix: string) =>
      name.endsWith(suffix) && this.#source.has(`${name.slice(0, -suffix.length)}.weight`);
    if (activationSuffixes.some(belongs)) return "activation";
    return [...scaleSuffixes, SECOND_SCALE, ...foreignSuffixes, ".comfy_quant"].some(belongs) ? "weight" : undefined;
  }

  /**
   * How a weight is stored. Throws `weights.unsupported-quantization`, naming the format, and `weights.bad-quantization`.
   * @param weight the tensor's name in the file, prefix included
   */
  of(weight: string): Quantization {
    const source = this.#source;
    const { dtype, shape, blocks } = source.info(weight);
    if (!weight.endsWith(".weight")) return { dtype, blocks, shape, read: () => ({ dtype, blocks }) };
    const name = weight.slice(0, -".weight".length);
    const config = this.#config(name);
    const beside = (suffixes: readonly string[]) =>
      suffixes.map((end) => name + end).find((other) => source.has(other));
    const foreign = beside(config?.format === "nvfp4" ? foreignSuffixes : [SECOND_SCALE, ...foreignSuffixes]);
    const format = config && Object.hasOwn(formats, config.format) ? formats[config.format] : undefined;
    if ((config && !format) || foreign) {
      const what = config && !format ? config.format : `something with ${foreign!.slice(name.length + 1)}`;
      throw new KinoraError(
        "weights.unsupported-quantization",
        `${weight} is quantised as ${what}, which Kinora does not support`,
        { expected: Object.keys(formats).join(", "), hint: "use the fp8 scaled, fp16 or bf16 file of the same model" },
      );
    }
    const layer: Layer = {
      source,
      weight,
      dtype,
      shape,
      scale: beside(scaleSuffixes),
      second: beside([SECOND_SCALE]),
      group: config?.group ?? DEFAULT_GROUP,
    };
    if (format) return format(layer, config!);
    return scaled(layer, dtype === "u8" && !blocks ? this.#markedDtype() : dtype, blocks);
  }

  /** What bytes are in a file of the old layout. */
  #markedDtype(): DType {
    if (!this.#source.has(this.#marker)) return "u8";
    return this.#source.info(this.#marker).dtype === "f8e5m2" ? "f8e5m2" : "f8e4m3";
  }

  get #marker(): string {
    return `${this.#prefix}scaled_fp8`;
  }

  #config(layer: string): LayerConfig | undefined {
    const mark = `${layer}.comfy_quant`;
    if (this.#source.has(mark)) return layerConfig(layer, new TextDecoder().decode(this.#source.bytes(mark)));
    return this.#layers.get(layer) ?? this.#layers.get(layer.slice(this.#prefix.length));
  }
}

/** One tensor of a file as a weight of `shape`, which leaves out what it was filled up with. */
export function storedWeight(
  source: TensorSource,
  name: string,
  quantization: Quantization,
  shape: Shape,
): StoredWeight {
  const data = quantization.read(shape);
  const address = data.bytes ? undefined : source.address(name);
  return {
    shape,
    bytes: () => source.bytes(name),
    ...data,
    readAhead: () => source.readAhead(name),
    discard: () => source.discard(name),
    ...(address === undefined ? {} : { address }),
  };
}

/** Whether a stored shape is `expected`, filled up to whole multiples of the padding. */
export const isFilledUp = (expected: Shape, { shape, padding }: Pick<Quantization, "shape" | "padding">): boolean =>
  padding !== undefined &&
  expected.length === 2 &&
  sameShape(
    shape,
    expected.map((size) => Math.ceil(size / padding) * padding),
  );
