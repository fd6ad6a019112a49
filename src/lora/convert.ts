// A LoRA file in another tool's names, doing exactly what it did.
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { KinoraError } from "../base/errors.ts";
import type { Expert } from "../models/wan/recognize.ts";
import { TENSOR_TABLE_HASH } from "./checksum.ts";
import { formatHasAlpha, type LoraFormat } from "./key-formats.ts";
import { type ParsedLora, parseLora } from "./parse.ts";
import { checkExcluded, openLora, readLoraFile, sourceOf } from "./read.ts";
import { type RecognizedLora, recognizeLora } from "./recognize.ts";
import { EXPERT_METADATA, type LoraDType, writeLora } from "./write.ts";

/** How a LoRA is written anew. */
export interface ConvertOptions {
  format: LoraFormat;
  /** Default: the file's own, where it is a float format of 16 or 32 bits. */
  dtype?: LoraDType;
  /** Replace a file at `out`. */
  overwrite?: boolean;
  /** Patterns of official module names: what they match is left out. */
  exclude?: readonly string[];
  /** Of a file that holds both, the one to write; of another, what it is for. */
  expert?: Expert;
}

/** What a conversion came to. */
export interface Converted {
  modules: number;
  /** How many of the file's were left out. */
  excluded: number;
  from: readonly LoraFormat[];
  dtype: LoraDType;
  /** The scale α/rank was multiplied into the matrices, because the format has no α. */
  folded: boolean;
  notes: readonly string[];
}

/** Metadata that speaks of one file's bytes, names or α, and is wrong for another. */
const ofTheFile = [
  ...["sshs_model_hash", "sshs_legacy_hash", "lora_adapter_metadata", "lora_alpha", "network_alpha"],
  ...[TENSOR_TABLE_HASH, EXPERT_METADATA],
];

/**
 * Writes `path` to `out` in another format. The result acts identically: values stay as they are or are kept in float32
 * where a scale had to be multiplied in; only a `dtype` that is asked for rounds.
 * @throws KinoraError `lora.*` (nothing is left out in silence), `lora.exists`, `io.*`.
 */
export async function convertLora(path: string, out: string, options: ConvertOptions): Promise<Converted> {
  if (resolve(path) === resolve(out)) {
    throw new KinoraError("lora.exists", "a LoRA cannot be converted onto itself", {
      hint: "choose another `out`",
    });
  }
  if (existsSync(out) && !options.overwrite) {
    throw new KinoraError("lora.exists", `${out} already exists`, {
      hint: "choose another `out`, or set `overwrite`",
    });
  }
  const { recognized, parsed, ownDtype } = inspectSource(path);
  if (recognized.bothExperts && options.expert === undefined) {
    throw new KinoraError("lora.both-experts", `${path} contains a LoRA for each expert`, {
      expected: "one at a time: other tools load them from two files",
      hint: "convert it with `expert` high and again with `expert` low",
    });
  }
  const { format, exclude, expert = recognized.expert } = options;
  const reading = { exclude, ...(recognized.bothExperts ? { expert } : {}) };
  checkExcluded([parsed], exclude);
  const { adapters, formats, metadata, notes } = readLoraFile(path, reading);
  const dtype = options.dtype ?? ownDtype;
  const kept = Object.fromEntries(Object.entries(metadata).filter(([key]) => !ofTheFile.includes(key)));
  await writeLora(out, adapters, { format, dtype, exact: options.dtype === undefined, metadata: kept, expert });
  const all = recognized.modules.filter(
    (entry) => entry.expert === undefined || entry.expert === reading.expert || !recognized.bothExperts,
  );
  return {
    modules: adapters.length,
    excluded: all.length - adapters.length,
    from: formats,
    dtype,
    folded:
      !formatHasAlpha[format] && adapters.some((values) => values.kind === "lora" && values.alpha !== values.rank),
    notes,
  };
}

function inspectSource(path: string): { recognized: RecognizedLora; parsed: ParsedLora; ownDtype: LoraDType } {
  using source = openLora(path);
  const recognized = recognizeLora(source);
  const [first] = recognized.modules;
  const dtype = first && source.info(first.tensors[0]!).dtype;
  return {
    recognized,
    parsed: parseLora(sourceOf(source)),
    ownDtype: dtype === "bf16" || dtype === "f16" ? dtype : "f32",
  };
}
