// LoRA files in every tool's form, from adapter values. Names: key-formats.ts; training's metadata: kohya-metadata.ts.
import { fromFloat32, toFloat32 } from "../base/float-formats.ts";
import { writeSafetensors } from "../io/safetensors-writer.ts";
import type { AdapterValues } from "./attach.ts";
import { formatHasAlpha, type LoraFormat, loraNames } from "./key-formats.ts";
import { kohyaHashes } from "./kohya-metadata.ts";

export type LoraDType = "f32" | "bf16" | "f16";

export interface LoraWriteOptions {
  format: LoraFormat;
  dtype: LoraDType;
  metadata?: Readonly<Record<string, string>>;
  /** Diffusers keeps the low-noise expert's LoRA under another name. */
  expert?: "high" | "low" | undefined;
}

export interface LoraTensor {
  name: string;
  dtype: LoraDType;
  shape: readonly number[];
  bytes: Uint8Array;
}

/** Values in `dtype`; in float32 where rounding would change them beyond what the original values lost already. */
function scaledMatrix(values: Float32Array, scale: number, dtype: LoraDType): { dtype: LoraDType; bytes: Uint8Array } {
  if (scale === 1) return { dtype, bytes: fromFloat32(values, dtype) };
  const scaled = values.map((value) => value * scale);
  const bytes = fromFloat32(scaled, dtype);
  if (dtype === "f32") return { dtype, bytes };
  // A scale that is no power of two gives values the narrow format does not have.
  const kept = toFloat32(bytes, dtype);
  const exact = scaled.every((value, i) => value === kept[i]);
  const wasNarrow = toFloat32(fromFloat32(values, dtype), dtype).every((value, i) => value === values[i]);
  return exact || !wasNarrow ? { dtype, bytes } : { dtype: "f32", bytes: fromFloat32(scaled, "f32") };
}

/** The tensors of a LoRA file. Where a format has no α, the scale α/rank is multiplied into the up matrices. */
export function loraTensors(
  adapters: readonly AdapterValues[],
  { format, dtype, expert }: Pick<LoraWriteOptions, "format" | "dtype" | "expert">,
): LoraTensor[] {
  const hasAlpha = formatHasAlpha[format];
  return adapters.flatMap(({ module, rank, inputs, outputs, alpha, down, up }) => {
    const names = loraNames(format, module, expert);
    const tensors: LoraTensor[] = [
      { name: names.down, dtype, shape: [rank, inputs], bytes: fromFloat32(down, dtype) },
      { name: names.up, shape: [outputs, rank], ...scaledMatrix(up, hasAlpha ? 1 : alpha / rank, dtype) },
    ];
    if (names.alpha !== undefined) {
      // Kept in float32: a narrow format may not have it.
      tensors.push({ name: names.alpha, dtype: "f32", shape: [], bytes: fromFloat32(Float32Array.of(alpha), "f32") });
    }
    return tensors;
  });
}

/** Writes a LoRA file, whole or not at all, with kohya's hashes. Throws `io.*`, `lora.unknown-module`. */
export async function writeLora(
  path: string,
  adapters: readonly AdapterValues[],
  options: LoraWriteOptions,
): Promise<void> {
  const tensors = loraTensors(adapters, options);
  const { metadata = {} } = options;
  await writeSafetensors(path, tensors, { ...metadata, ...kohyaHashes(tensors, metadata) });
}
