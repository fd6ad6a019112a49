// Writes safetensors files, tensor by tensor; in place only when whole. Their bytes are those the Rust library would write
// (order of metadata keys apart).
import { PlacedWriter } from "./placed-writer.ts";
import { encodeHeader, placeTensors, type TensorSpec } from "./safetensors-header.ts";

/** Writes safetensors files. */
export const SafetensorsWriter = {
  /** Opens a file for its tensors: see {@link PlacedWriter.begin}. */
  create(
    path: string,
    specs: Iterable<TensorSpec>,
    metadata: Readonly<Record<string, string>> = {},
    options: { hashed?: boolean } = {},
  ): Promise<PlacedWriter> {
    const tensors = placeTensors(specs);
    return PlacedWriter.begin(path, encodeHeader(tensors, metadata), tensors, options);
  },
};
export type SafetensorsWriter = PlacedWriter;

/** A tensor to write; `bytes` may be a function, called when its turn comes, so that one tensor is held at a time. */
export interface WritableTensor extends TensorSpec {
  readonly bytes: Uint8Array | (() => Uint8Array | Promise<Uint8Array>);
}

async function writeAll(
  path: string,
  tensors: Iterable<WritableTensor>,
  metadata: Readonly<Record<string, string>>,
  hashed: boolean,
): Promise<SafetensorsWriter> {
  const all = [...tensors];
  const byName = new Map(all.map((tensor) => [tensor.name, tensor]));
  await using writer = await SafetensorsWriter.create(path, all, metadata, { hashed });
  for (const name of writer.names) {
    const { bytes } = byName.get(name)!;
    await writer.write(name, typeof bytes === "function" ? await bytes() : bytes);
  }
  await writer.finish();
  return writer;
}

/** Writes a whole file in the order of its data. Throws as {@link SafetensorsWriter} does. */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<WritableTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  await writeAll(path, tensors, metadata, false);
}

/** The same; returns the SHA-256 of the file in hexadecimal, computed while it is written. */
export async function writeHashedSafetensors(
  path: string,
  tensors: Iterable<WritableTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<string> {
  return (await writeAll(path, tensors, metadata, true)).hash();
}
