// A LoRA file in another tool's names, doing exactly what it did; and what there is to say about one.
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import type { DType } from "../base/dtype.ts";
import { KinoraError } from "../base/errors.ts";
import { openTensorSource } from "../io/tensor-source.ts";
import { formatHasAlpha, type LoraFormat } from "./key-formats.ts";
import { type LoraFile, readLoraFile } from "./read.ts";
import { type RecognizedLora, recognizeLora } from "./recognize.ts";
import { type LoraDType, writeLora } from "./write.ts";

export interface ConvertOptions {
  format: LoraFormat;
  /** Default: the file's own, where it is a float format of 16 or 32 bits. */
  dtype?: LoraDType;
  /** Replace a file at `out`. */
  overwrite?: boolean;
}

export interface Converted {
  modules: number;
  from: readonly LoraFormat[];
  dtype: LoraDType;
  /** The scale α/rank was multiplied into the matrices, because the format has no α. */
  folded: boolean;
}

/** Metadata that speaks of one file's bytes or of one format's α, and is wrong for another. */
const ofTheFile = ["sshs_model_hash", "sshs_legacy_hash", "lora_adapter_metadata"];

function ownDtype(recognized: RecognizedLora, dtypes: ReadonlyMap<string, DType>): LoraDType {
  const dtype = dtypes.get(recognized.modules[0]?.down ?? "");
  return dtype === "bf16" || dtype === "f16" ? dtype : "f32";
}

/**
 * Writes `path` to `out` in another format. The result acts identically: values stay as they are or are kept in float32
 * where a scale had to be multiplied in; only a `dtype` that is asked for rounds.
 * @throws KinoraError `lora.*` (nothing is left out in silence), `lora.exists`, `io.*`.
 */
export async function convertLora(path: string, out: string, options: ConvertOptions): Promise<Converted> {
  if (resolve(path) === resolve(out)) {
    throw new KinoraError("lora.exists", "a LoRA cannot be converted into its own place", {
      hint: "choose another --out",
    });
  }
  if (existsSync(out) && !options.overwrite) {
    throw new KinoraError("lora.exists", `${out} is there already`, {
      hint: "choose another --out, or --overwrite it",
    });
  }
  const { adapters, formats, metadata } = readLoraFile(path);
  const { recognized, dtypes } = inspectSource(path);
  const dtype = options.dtype ?? ownDtype(recognized, dtypes);
  const kept = Object.fromEntries(Object.entries(metadata).filter(([key]) => !ofTheFile.includes(key)));
  const exact = options.dtype === undefined;
  await writeLora(out, adapters, { format: options.format, dtype, exact, metadata: kept, expert: recognized.expert });
  const folded = !formatHasAlpha[options.format] && adapters.some(({ alpha, rank }) => alpha !== rank);
  return { modules: adapters.length, from: formats, dtype, folded };
}

function inspectSource(path: string): { recognized: RecognizedLora; dtypes: Map<string, DType> } {
  using source = openTensorSource(path);
  return {
    recognized: recognizeLora(source),
    dtypes: new Map(source.names.map((name) => [name, source.info(name).dtype])),
  };
}

export interface LoraDescription {
  path: string;
  recognized: RecognizedLora;
  dtypes: readonly DType[];
  bytes: number;
  /** Modules by what they stand on, e.g. `self_attn`, with how many there are and the mean size of what they add. */
  groups: readonly { name: string; modules: number; strength: number }[];
  /** Modules whose up matrix is all zero: they change nothing. */
  idle: number;
  /** Modules with values that are not finite. */
  broken: readonly string[];
  metadata: Readonly<Record<string, string>>;
}

/** What a LoRA does, from its values. Throws `lora.*`, `io.*`. */
export function describeLora(path: string): LoraDescription {
  const file: LoraFile = readLoraFile(path);
  const { recognized, dtypes } = inspectSource(path);
  const groups = new Map<string, { modules: number; sum: number }>();
  const broken: string[] = [];
  let idle = 0;
  let bytes = 0;
  for (const { module, rank, alpha, down, up } of file.adapters) {
    bytes += 4 * (down.length + up.length);
    const [downSize, upSize] = [norm(down), norm(up)];
    if (!Number.isFinite(downSize + upSize)) broken.push(module);
    if (upSize === 0) idle++;
    const name = /^blocks\.\d+\.(self_attn|cross_attn|ffn)\./.exec(module)?.[1] ?? module.split(".")[0]!;
    const group = groups.get(name) ?? { modules: 0, sum: 0 };
    group.modules++;
    // An upper bound of ‖ΔW‖, per element of the matrices: enough to compare files and groups.
    group.sum += ((alpha / rank) * downSize * upSize) / Math.sqrt(rank);
    groups.set(name, group);
  }
  return {
    path,
    recognized,
    dtypes: [...new Set(dtypes.values())],
    bytes,
    groups: [...groups].map(([name, { modules, sum }]) => ({ name, modules, strength: sum / modules })),
    idle,
    broken,
    metadata: file.metadata,
  };
}

function norm(values: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! ** 2;
  return Math.sqrt(sum);
}
