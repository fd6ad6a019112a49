// One model in several files, held together by an index (`*.index.json` with a weight_map). The index decides: a tensor is
// where it says, and any disagreement with the shards is an error that names it.
import { basename, dirname, join } from "node:path";
import { KinoraError } from "../base/errors.ts";
import type { Address } from "../ffi/host-memory.ts";
import { fileOrFolder, inFile, readPlainFileSync } from "./files.ts";
import { type TensorFormat, type TensorInfo, type TensorSource, unknownTensor } from "./named-tensors.ts";
import { type JsonObject, parseStrictJson } from "./strict-json.ts";

const MAX_INDEX_BYTES = 100_000_000;

const AGAIN = "download the index and its shards again into one folder";

/** The most names an error lists one by one. */
const LISTED = 5;

function list(names: readonly string[]): string {
  const more = names.length - LISTED;
  return names.slice(0, LISTED).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

/** The shard of every tensor, as the index file says. Throws `shards.bad-index`. */
export function readIndex(path: string): Map<string, string> {
  const { kind, size } = fileOrFolder(path);
  if (kind === "folder" || size === 0 || size > MAX_INDEX_BYTES) {
    throw new KinoraError("shards.bad-index", `${path} is not a shard index`, {
      actual: `${size} bytes`,
      hint: AGAIN,
    });
  }
  const bytes = readPlainFileSync(path, MAX_INDEX_BYTES);
  let index: JsonObject;
  try {
    index = parseStrictJson(bytes, "shards.bad-index");
  } catch (error) {
    throw inFile(error, path);
  }
  const map = index.get("weight_map");
  if (!(map instanceof Map)) throw new KinoraError("shards.bad-index", `${path} has no weight_map`, { hint: AGAIN });
  const shards = new Map<string, string>();
  for (const [name, file] of map as JsonObject) {
    // A path that leads out of the folder would read what the user never pointed at.
    if (typeof file !== "string" || file !== basename(file) || file === ".." || file === "." || file.includes("\\")) {
      throw new KinoraError("shards.bad-index", `${path} places ${name.slice(0, 200)} outside its folder`, {
        actual: JSON.stringify(file).slice(0, 200),
        hint: AGAIN,
      });
    }
    shards.set(name, file);
  }
  return shards;
}

export class ShardedSource implements TensorSource {
  readonly path: string;
  readonly format: TensorFormat;
  readonly names: readonly string[];
  /** Of all shards; where they differ, the first one's. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly #sources: readonly TensorSource[];
  readonly #where: ReadonlyMap<string, TensorSource>;

  private constructor(path: string, shards: ReadonlyMap<string, string>, sources: ReadonlyMap<string, TensorSource>) {
    this.path = path;
    this.#sources = [...sources.values()];
    this.format = this.#sources[0]?.format === "torch zip" ? "torch zip (sharded)" : "safetensors (sharded)";
    const missing = [...shards].filter(([name, file]) => !sources.get(file)!.has(name));
    if (missing.length > 0) {
      throw new KinoraError("shards.disagree", `${path} lists tensors in the wrong shards`, {
        actual: list(missing.map(([name, file]) => `${name} in ${file}`)),
        hint: "the shards and the index come from different versions; download them all again",
      });
    }
    const extra = [...sources].flatMap(([file, source]) =>
      source.names.filter((name) => shards.get(name) !== file).map((name) => `${name} in ${file}`),
    );
    if (extra.length > 0) {
      throw new KinoraError("shards.disagree", `shards of ${path} hold tensors that the index does not list there`, {
        actual: list(extra),
        hint: "the shards and the index come from different versions; download them all again",
      });
    }
    this.names = this.#sources.flatMap((source) => source.names);
    this.#where = new Map(this.#sources.flatMap((source) => source.names.map((name) => [name, source] as const)));
    this.metadata = Object.assign(
      Object.create(null),
      ...[...this.#sources].reverse().map((source) => source.metadata),
    );
  }

  /**
   * Opens every shard that the index names. Throws `shards.missing`, listing them all, `shards.disagree`, and whatever
   * opening a shard throws.
   * @param open how one shard is opened
   */
  static open(path: string, open: (path: string) => TensorSource): ShardedSource {
    const shards = readIndex(path);
    const folder = dirname(path);
    const files = [...new Set(shards.values())].sort();
    const missing = files.filter((file) => {
      try {
        return fileOrFolder(join(folder, file)).kind !== "file";
      } catch {
        return true;
      }
    });
    if (missing.length > 0) {
      throw new KinoraError("shards.missing", `${path} lists shards that do not exist`, {
        expected: `${files.length} shards`,
        actual: `without ${list(missing)}`,
        hint: "download the missing files into the same folder",
      });
    }
    const sources = new Map<string, TensorSource>();
    try {
      for (const file of files) sources.set(file, open(join(folder, file)));
      return new ShardedSource(path, shards, sources);
    } catch (error) {
      for (const source of sources.values()) source[Symbol.dispose]();
      throw error;
    }
  }

  has(name: string): boolean {
    return this.#where.has(name);
  }

  info(name: string): TensorInfo {
    return this.#shard(name).info(name);
  }

  bytes(name: string): Uint8Array {
    return this.#shard(name).bytes(name);
  }

  address(name: string): Address | undefined {
    return this.#shard(name).address(name);
  }

  readAhead(name: string): void {
    this.#shard(name).readAhead(name);
  }

  discard(name: string): void {
    this.#shard(name).discard(name);
  }

  #shard(name: string): TensorSource {
    const source = this.#where.get(name);
    if (!source) throw unknownTensor(this.path, name, this.names);
    return source;
  }

  [Symbol.dispose](): void {
    for (const source of this.#sources) source[Symbol.dispose]();
  }
}
