// A checksum inside a safetensors file, over its tensors and its metadata: a flipped bit is found when it is read back.
// Other programs see one more metadata key and nothing else.
import { createHash } from "node:crypto";
import type { TensorInfo } from "./named-tensors.ts";
import type { SafetensorsFile } from "./safetensors.ts";

const KEY = "kinora.checksum";

interface NamedBytes extends TensorInfo {
  readonly name: string;
  readonly bytes: Uint8Array;
}

type Metadata = Readonly<Record<string, string>>;

/** SHA-256 of everything that a reader could be misled by, whatever its order in the file. */
function checksum(tensors: Iterable<NamedBytes>, metadata: Metadata): string {
  const sum = createHash("sha256");
  const byName = <T>(entries: [string, T][]) => entries.sort(([a], [b]) => (a < b ? -1 : 1));
  const texts = byName(Object.entries(metadata)).filter(([key]) => key !== KEY);
  sum.update(JSON.stringify(texts));
  for (const [name, { dtype, shape, bytes }] of byName([...tensors].map((tensor) => [tensor.name, tensor]))) {
    sum.update(JSON.stringify([name, dtype, shape]));
    sum.update(bytes);
  }
  return sum.digest("hex");
}

/** The metadata to write with these tensors: with their checksum. */
export function withChecksum(tensors: Iterable<NamedBytes>, metadata: Metadata): Record<string, string> {
  return { ...metadata, [KEY]: checksum(tensors, metadata) };
}

/** Whether a file carries a checksum, right or wrong. */
export const hasChecksum = ({ metadata }: Pick<SafetensorsFile, "metadata">): boolean => metadata[KEY] !== undefined;

/** Whether a file is what was written; `absent` where it carries no checksum. Reads every byte of it. */
export function verifyChecksum(file: SafetensorsFile): "right" | "wrong" | "absent" {
  const expected = file.metadata[KEY];
  if (expected === undefined) return "absent";
  const tensors = file.names.map((name) => ({ ...file.info(name), name, bytes: file.bytes(name) }));
  return checksum(tensors, file.metadata) === expected ? "right" : "wrong";
}
