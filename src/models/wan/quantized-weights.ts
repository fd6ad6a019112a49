// The marks by which files say that a weight is quantised: ComfyUI's scaled fp8 (old and new), musubi's fp8 blocks, int8.
// What the marks mean, not the arithmetic: value = stored · scale.
// ComfyUI: comfy/utils.py convert_old_quants, QUANTIZATION.md; musubi-tuner: modules/fp8_optimization_utils.py.
import type { DType } from "../../base/dtype.ts";
import { KinoraError } from "../../base/errors.ts";
import { toFloat32 } from "../../base/float-formats.ts";
import { elementCount } from "../../base/shape.ts";
import type { TensorSource } from "../../io/tensor-source.ts";

/** The scale of a quantised weight, in the shape that its granularity has: [1], [N, 1] or [N, K/b, 1]. */
export interface WeightScale {
  /** The tensor that holds it. */
  readonly source: string;
  readonly shape: readonly number[];
}

export interface Quantization {
  /** What the stored numbers are; differs from the file's dtype where fp8 hides in bytes. */
  readonly dtype: DType;
  readonly scale: WeightScale | undefined;
}

const scaleSuffixes = [".scale_weight", ".weight_scale"];

/** Tensors beside a quantised weight that say nothing about its values. */
const activationSuffixes = [".scale_input", ".input_scale"];

/** Parts of formats that Kinora does not read: a second scale, rotated or packed weights. */
const foreignSuffixes = [".weight_scale_2", ".pre_quant_scale", ".weight_scale_inv", ".weight_zero_point"];

const formats: Record<string, DType> = {
  float8_e4m3fn: "f8e4m3",
  float8_e5m2: "f8e5m2",
  int8_tensorwise: "i8",
};

interface LayerConfig {
  format: string;
  rotated: boolean;
}

function layerConfig(layer: string, text: string): LayerConfig {
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch (cause) {
    throw new KinoraError("weights.bad-quantization", `the quantisation mark of ${layer} is no JSON`, { cause });
  }
  const fields = typeof config === "string" ? { format: config } : ((config ?? {}) as Record<string, unknown>);
  const format = fields.format;
  if (typeof format !== "string") {
    throw new KinoraError("weights.bad-quantization", `the quantisation mark of ${layer} names no format`);
  }
  return { format, rotated: fields.convrot === true };
}

/** The layers that the file's metadata says are quantised, if it does. */
function layersOfMetadata(metadata: Readonly<Record<string, string>>): Map<string, LayerConfig> {
  const text = metadata._quantization_metadata;
  if (text === undefined) return new Map();
  let layers: unknown;
  try {
    layers = (JSON.parse(text) as { layers?: unknown } | null)?.layers;
  } catch (cause) {
    throw new KinoraError("weights.bad-quantization", "the file's _quantization_metadata is no JSON", { cause });
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
  });
}

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
    if (name === `${this.#prefix}scaled_fp8`) return "weight";
    const belongs = (suffix: string) =>
      name.endsWith(suffix) && this.#source.has(`${name.slice(0, -suffix.length)}.weight`);
    if (activationSuffixes.some(belongs)) return "activation";
    return [...scaleSuffixes, ...foreignSuffixes, ".comfy_quant"].some(belongs) ? "weight" : undefined;
  }

  /**
   * How a weight is stored. Throws `weights.unsupported-quantization`, naming the format, and `weights.bad-quantization`.
   * @param weight the tensor's name in the file, prefix included
   */
  of(weight: string): Quantization {
    const { dtype, shape } = this.#source.info(weight);
    if (!weight.endsWith(".weight")) return { dtype, scale: undefined };
    const layer = weight.slice(0, -".weight".length);
    const config = this.#config(layer);
    const refuse = (format: string): never => {
      throw new KinoraError(
        "weights.unsupported-quantization",
        `${weight} is quantised as ${format}, which Kinora does not read`,
        {
          hint: "use the fp8 scaled, fp16 or bf16 file of the same model",
        },
      );
    };
    const foreign = foreignSuffixes.find((suffix) => this.#source.has(layer + suffix));
    if (config && (config.rotated || !Object.hasOwn(formats, config.format))) {
      return refuse(config.rotated ? `rotated ${config.format}` : config.format);
    }
    if (foreign) return refuse(`something with ${foreign.slice(1)}`);
    const stored = config && dtype === "u8" ? formats[config.format]! : dtype;
    const suffix = scaleSuffixes.find((ending) => this.#source.has(layer + ending));
    if (suffix === undefined) return { dtype: stored, scale: undefined };
    const source = layer + suffix;
    return { dtype: stored, scale: { source, shape: scaleShape(weight, shape, this.#source.info(source).shape) } };
  }

  #config(layer: string): LayerConfig | undefined {
    const mark = `${layer}.comfy_quant`;
    if (this.#source.has(mark)) return layerConfig(layer, new TextDecoder().decode(this.#source.bytes(mark)));
    return this.#layers.get(layer) ?? this.#layers.get(layer.slice(this.#prefix.length));
  }
}

/** A scale's values in float32, row-major in the scale's shape. */
export function scaleValues(source: TensorSource, scale: WeightScale): Float32Array {
  return toFloat32(source.bytes(scale.source), source.info(scale.source).dtype);
}
