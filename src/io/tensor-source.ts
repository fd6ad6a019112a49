// Opens weights by what they are: a safetensors file, a torch checkpoint, a GGUF file, an index of shards, or a folder with one of these.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { isKinoraError, KinoraError } from "../base/errors.ts";
import { fileError, fileOrFolder } from "./files.ts";
import { GgufFile } from "./gguf.ts";
import type { TensorSource } from "./named-tensors.ts";
import { SafetensorsFile } from "./safetensors.ts";
import { readIndex, ShardedSource } from "./sharded.ts";
import { sniff } from "./sniff.ts";
import { TorchZipFile } from "./torch-zip.ts";

export { type TensorFormat, type TensorInfo, type TensorSource, tensorBytes } from "./named-tensors.ts";

const isIndex = (name: string): boolean => name.endsWith(".index.json");
const isWeights = (name: string): boolean => /\.(?:safetensors|sft|pth|pt|bin|ckpt|gguf)$/i.test(name);

function openFile(path: string): TensorSource {
  switch (sniff(path)) {
    case "safetensors":
      return SafetensorsFile.open(path);
    case "gguf":
      return GgufFile.open(path);
    case "torch zip":
      return TorchZipFile.open(path);
  }
}

function readFolder(folder: string): { files: string[]; folders: string[] } {
  try {
    const entries = readdirSync(folder, { withFileTypes: true }).filter((entry) => !entry.name.startsWith("."));
    const folders = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
    // What is neither (a link, say) is settled by opening it.
    const files = entries.filter((entry) => !entry.isDirectory()).map((entry) => entry.name);
    return { files: files.sort(), folders: folders.sort() };
  } catch (error) {
    throw fileError(error, folder);
  }
}

const isShard = (name: string): boolean => /-\d+-of-\d+\./.test(name);

/** The files that an index covers; of a broken index, everything that looks like a shard. */
function coveredBy(index: string, files: readonly string[]): Iterable<string> {
  try {
    return readIndex(index).values();
  } catch (error) {
    // Opening the index itself tells what is wrong with it.
    if (isKinoraError(error)) return files.filter(isShard);
    throw error;
  }
}

/** The models of a folder itself: its indexes, and the weight files that no index covers. */
function modelsIn(folder: string, files: readonly string[]): string[] {
  const indexes = files.filter(isIndex);
  const covered = new Set(indexes.flatMap((index) => [...coveredBy(join(folder, index), files)]));
  return [...indexes, ...files.filter((file) => isWeights(file) && !covered.has(file))];
}

/**
 * The paths of all models in a folder, its subfolders included, in order; each can be given to {@link openTensorSource}.
 * @param depth how many levels of subfolders to search
 */
export function findModels(folder: string, depth = 2): string[] {
  const { files, folders } = readFolder(folder);
  const found = modelsIn(folder, files).map((file) => join(folder, file));
  if (depth > 0) for (const name of folders) found.push(...findModels(join(folder, name), depth - 1));
  return found;
}

function openFolder(folder: string): TensorSource {
  const { files, folders } = readFolder(folder);
  const models = modelsIn(folder, files);
  const [only] = models;
  if (only !== undefined && models.length === 1) return openTensorSource(join(folder, only));
  const shards = models.filter(isShard);
  if (shards.length > 1) {
    throw new KinoraError("shards.no-index", `${folder} has shards without their index`, {
      expected: "a .index.json next to them",
      actual: shards.slice(0, 3).join(", "),
      hint: "download the index too; without it a missing shard would go unnoticed",
    });
  }
  if (models.length > 1) {
    throw new KinoraError("io.ambiguous-folder", `${folder} contains several models`, {
      actual: models.join(", "),
      hint: "give the one you mean",
    });
  }
  throw new KinoraError("io.no-weights", `${folder} contains no weights`, {
    expected: "a .safetensors or .gguf file, an index of shards, or a .pth file",
    hint: folders.length > 0 ? `it has the folders ${folders.join(", ")}` : "name the file or folder of a checkpoint",
  });
}

/**
 * Opens a weight file, an index of shards, or a folder that holds exactly one of these.
 * Throws coded errors that name the file and what is wrong: `io.*`, `shards.*`, `safetensors.*`, `gguf.*`, `zip.*`, `torch-zip.*`.
 */
export function openTensorSource(path: string): TensorSource {
  if (fileOrFolder(path).kind === "folder") return openFolder(path);
  return isIndex(path) ? ShardedSource.open(path, openFile) : openFile(path);
}
