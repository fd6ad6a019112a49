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
  /** Keep a matrix in float32 where `dtype` would change its values. */
  exact?: boolean;
  metadata?: Readonly<Record<string, string>>;
  /** Diffusers keeps the low-noise expert's LoRA under another name. */
  expert?: "high" | "low" | undefined;
}

export interface LoraTensor {
  name: string;
  dtype: LoraDType;
  shape: readonly number[];
  /** Made anew at each call, so that one tensor is in memory at a time. */
  bytes: () => Uint8Array;
}

/** scale·values in `dtype`; with `exact`, in float32 where `dtype` does not have them. */
function matrix(values: () => Float32Array, scale: number, dtype: LoraDType, exact: boolean) {
  const scaled = () => (scale === 1 ? values() : values().map((value) => value * scale));
  const kept = exact && dtype !== "f32" && !survives(scaled(), dtype) ? "f32" : dtype;
  return { dtype: kept, bytes: () => fromFloat32(scaled(), kept) };
}

/** True where `dtype` has every one of the values. */
function survives(values: Float32Array, dtype: LoraDType): boolean {
  const rounded = toFloat32(fromFloat32(values, dtype), dtype);
  return values.every((value, i) => Object.is(value, rounded[i]));
}

/** The tensors of a LoRA file. Where a format has no α, the scale α/rank is multiplied into the up matrices. */
export function loraTensors(
  adapters: readonly AdapterValues[],
  { format, dtype, expert, exact = false }: Omit<LoraWriteOptions, "metadata">,
): LoraTensor[] {
  const hasAlpha = formatHasAlpha[format];
  return adapters.flatMap((adapter) => {
    const { module, rank, inputs, outputs, alpha } = adapter;
    const names = loraNames(format, module, expert);
    const tensors: LoraTensor[] = [
      { name: names.down, shape: [rank, inputs], ...matrix(() => adapter.down, 1, dtype, exact) },
      {
        name: names.up,
        shape: [outputs, rank],
        ...matrix(() => adapter.up, hasAlpha ? 1 : alpha / rank, dtype, exact),
      },
    ];
    if (names.alpha !== undefined) {
      // Kept in float32: a narrow format may not have it.
      tensors.push({
        name: names.alpha,
        dtype: "f32",
        shape: [],
        bytes: () => fromFloat32(Float32Array.of(alpha), "f32"),
      });
    }
    return tensors;
  });
}

/**
 * Writes a LoRA file, whole or not at all, with kohya's hashes. Each matrix is asked for twice or more, and none is kept.
 * Throws `io.*`, `lora.unknown-module`.
 */
export async function writeLora(
  path: string,
  adapters: readonly AdapterValues[],
  options: LoraWriteOptions,
): Promise<void> {
  const tensors = loraTensors(adapters, options);
  const { metadata = {} } = options;
  await writeSafetensors(path, tensors, { ...metadata, ...kohyaHashes(tensors, metadata) });
}
