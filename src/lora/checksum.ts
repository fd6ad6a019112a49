// Whether a LoRA file's data is what its writer wrote: kohya's `sshs_model_hash` is SHA-256 of it. Converters of other tools
// keep a hash that is no longer true; a file of Kinora's own also carries the hash of its table of tensors, so that a
// changed value can be told from a converted file.
import { createHash } from "node:crypto";
import { KinoraError } from "../base/errors.ts";
import type { TensorSource } from "../io/named-tensors.ts";
import { SafetensorsFile } from "../io/safetensors.ts";
import { placeTensors, type TensorSpec } from "../io/safetensors-header.ts";

/** The metadata of a file that Kinora wrote: SHA-256 of the names, dtypes and shapes of its tensors in order of data. */
export const TENSOR_TABLE_HASH = "kinora.tensors";

export function tensorTableHash(tensors: Iterable<TensorSpec>): string {
  const rows = placeTensors(tensors).map(({ name, dtype, shape }) => JSON.stringify([name, dtype, shape]));
  return createHash("sha256").update(rows.join("\n")).digest("hex");
}

/**
 * Reads all data of a file that carries kohya's hash and compares. Returns a note where another tool's hash is not true.
 * Throws `lora.damaged` for a file of Kinora's own.
 */
export function checkHash(source: TensorSource): string | undefined {
  const told = source.metadata.sshs_model_hash;
  if (told === undefined || !(source instanceof SafetensorsFile)) return undefined;
  const hash = createHash("sha256");
  // In the order of the data, without a hole: the reader has checked that.
  for (const name of source.names) {
    hash.update(source.bytes(name));
    source.discard(name);
  }
  const actual = hash.digest("hex");
  if (actual === told.toLowerCase()) return undefined;
  const table = tensorTableHash(source.names.map((name) => ({ name, ...source.info(name) })));
  if (source.metadata[TENSOR_TABLE_HASH] === table) {
    throw new KinoraError("lora.damaged", `${source.path} has changed since it was written`, {
      expected: `SHA-256 ${told}`,
      actual,
      hint: "get the file again from its source, or save it again from the training state",
    });
  }
  return "the hash in its metadata is not that of its data: it was converted or edited by another tool, or is damaged";
}
