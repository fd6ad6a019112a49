// LoRA files in every tool's form, from adapter values. Names: key-formats.ts; training's metadata: kohya-metadata.ts.
import { writeSafetensors } from "../io/safetensors-writer.ts";
import type { Expert } from "../models/wan/recognize.ts";
import { type AdapterValues, tensorsOfValues } from "./adapters/table.ts";
import { TENSOR_TABLE_HASH, tensorTableHash } from "./checksum.ts";
import type { FileTensor, LoraDType } from "./file-tensor.ts";
import type { LoraFormat } from "./key-formats.ts";
import { kohyaHashes } from "./kohya-metadata.ts";

export type { LoraDType } from "./file-tensor.ts";

/** Metadata that says which expert a LoRA is for, which no tool's names do. */
export const EXPERT_METADATA = "kinora.expert";

/** How a LoRA file is written. */
export interface LoraWriteOptions {
  format: LoraFormat;
  dtype: LoraDType;
  /** Keep a matrix in float32 where `dtype` would change its values. */
  exact?: boolean;
  metadata?: Readonly<Record<string, string>>;
  /** Told in the metadata. */
  expert?: Expert | undefined;
}

/** The tensors of a LoRA file. Throws `lora.no-form`, `lora.unknown-module` for what the form cannot hold. */
export function loraTensors(
  adapters: readonly AdapterValues[],
  { format, dtype, exact = false }: Pick<LoraWriteOptions, "format" | "dtype" | "exact">,
): FileTensor[] {
  return adapters.flatMap((adapter) => tensorsOfValues(adapter, format, { dtype, exact }));
}

/**
 * Writes a LoRA file, whole or not at all, with hashes of its data. Each matrix is asked for twice or more, and none is
 * kept. Throws `io.*`, `lora.*`.
 */
export async function writeLora(
  path: string,
  adapters: readonly AdapterValues[],
  options: LoraWriteOptions,
): Promise<void> {
  const tensors = loraTensors(adapters, options);
  const metadata = { ...options.metadata, ...(options.expert ? { [EXPERT_METADATA]: options.expert } : {}) };
  await writeSafetensors(path, tensors, {
    ...metadata,
    ...kohyaHashes(tensors, metadata),
    [TENSOR_TABLE_HASH]: tensorTableHash(tensors),
  });
}
