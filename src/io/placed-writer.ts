// Writes a file of a header and named pieces of data whose places are known, piece by piece, and puts it in place only when
// it is whole. The formats: safetensors-writer.ts, gguf-writer.ts.
import { createHash } from "node:crypto";
import { type FileHandle, open, statfs, unlink } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { KinoraError } from "../base/errors.ts";
import { partialPath, replaceFile, syncFolder, writeError } from "./atomic.ts";
import { unknownTensor } from "./named-tensors.ts";

/** A piece of the data, and where it lies behind the header. */
export interface Placed {
  readonly name: string;
  readonly start: number;
  readonly end: number;
}

/** One write call stays below what the slowest systems take at once. */
const WRITE_BYTES = 1 << 28;

const asWriteError = (error: unknown, path: string): KinoraError =>
  error instanceof KinoraError ? error : writeError(error, path);

/**
 * ```ts
 * await using writer = await PlacedWriter.begin(path, header, placed);
 * for (const { name } of placed) await writer.write(name, bytesOf(name));
 * await writer.finish();
 * ```
 * Disposing an unfinished writer removes the temporary file and leaves what stood at `path` untouched.
 */
export class PlacedWriter {
  readonly path: string;
  /** The size of the finished file. */
  readonly size: number;
  readonly #temporary: string;
  readonly #file: FileHandle;
  readonly #dataStart: number;
  readonly #tensors: ReadonlyMap<string, Placed>;
  readonly #written = new Map<string, number>();
  /** Of all that was written, which must come in the order of the file; undefined where nobody asks. */
  readonly #sum: { hash: ReturnType<typeof createHash>; next: number } | undefined;
  #open = true;

  private constructor(
    path: string,
    temporary: string,
    file: FileHandle,
    dataStart: number,
    tensors: readonly Placed[],
    hashed: boolean,
  ) {
    this.path = path;
    this.#sum = hashed ? { hash: createHash("sha256"), next: 0 } : undefined;
    this.#temporary = temporary;
    this.#file = file;
    this.#dataStart = dataStart;
    this.#tensors = new Map(tensors.map((tensor) => [tensor.name, tensor]));
    this.size = dataStart + (tensors.at(-1)?.end ?? 0);
  }

  /** In the order of the file. */
  get names(): string[] {
    return [...this.#tensors.keys()];
  }

  /**
   * Opens a temporary file beside `path` and writes `header`, which is everything before the data. With `hashed`, tensors
   * must be written in the order of the file, and `hash` tells the file's SHA-256 when it is finished.
   * Throws `io.disk-full` before writing anything when the disk has no room for the whole file.
   */
  static async begin(
    path: string,
    header: Uint8Array,
    tensors: readonly Placed[],
    { hashed = false }: { hashed?: boolean } = {},
  ): Promise<PlacedWriter> {
    const folder = dirname(path);
    const temporary = partialPath(path);
    let file: FileHandle;
    const size = header.length + (tensors.at(-1)?.end ?? 0);
    try {
      const { bavail, bsize } = await statfs(folder);
      if (bavail * bsize < size) {
        throw new KinoraError("io.disk-full", `${folder} has not enough free space for ${basename(path)}`, {
          expected: `${size} bytes`,
          actual: `${bavail * bsize} free`,
          hint: "free some space or choose another disk",
        });
      }
      file = await open(temporary, "wx");
    } catch (error) {
      throw asWriteError(error, path);
    }
    const writer = new PlacedWriter(path, temporary, file, header.length, tensors, hashed);
    await writer.#put(header, 0);
    return writer;
  }

  /**
   * Writes the next bytes of a tensor; a large one may come in several pieces, tensors in any order.
   * Throws `safetensors.wrong-size` when they are more than the tensor has; any failure removes the temporary file.
   */
  async write(name: string, bytes: Uint8Array): Promise<void> {
    const tensor = this.#tensors.get(name);
    if (!tensor) throw await this.#abandon(unknownTensor(this.path, name, [...this.#tensors.keys()]));
    const done = this.#written.get(name) ?? 0;
    if (done + bytes.length > tensor.end - tensor.start) {
      const error = new KinoraError("safetensors.wrong-size", `too much data for tensor ${name}`, {
        expected: `${tensor.end - tensor.start} bytes`,
        actual: `${done + bytes.length}`,
      });
      throw await this.#abandon(error);
    }
    this.#written.set(name, done + bytes.length);
    await this.#put(bytes, this.#dataStart + tensor.start + done);
  }

  /** Flushes the file to the disk and moves it to `path`. Throws `safetensors.incomplete` when a tensor lacks data. */
  async finish(): Promise<void> {
    for (const { name, start, end } of this.#tensors.values()) {
      const done = this.#written.get(name) ?? 0;
      if (done === end - start) continue;
      const error = new KinoraError("safetensors.incomplete", `tensor ${name} was not written completely`, {
        expected: `${end - start} bytes`,
        actual: `${done}`,
      });
      throw await this.#abandon(error);
    }
    try {
      await this.#file.sync();
      await this.#close();
      await replaceFile(this.#temporary, this.path);
    } catch (error) {
      throw await this.#abandon(asWriteError(error, this.path));
    }
    await syncFolder(dirname(this.path));
  }

  /** SHA-256 of the whole file in hexadecimal; only of a hashed and finished one. */
  hash(): string {
    return this.#sum!.hash.digest("hex");
  }

  async #put(bytes: Uint8Array, position: number): Promise<void> {
    if (this.#sum) {
      if (position !== this.#sum.next) throw await this.#abandon(new Error("a hashed file must be written in order"));
      this.#sum.hash.update(bytes);
      this.#sum.next += bytes.length;
    }
    try {
      for (let at = 0; at < bytes.length; ) {
        const length = Math.min(WRITE_BYTES, bytes.length - at);
        at += (await this.#file.write(bytes, at, length, position + at)).bytesWritten;
      }
    } catch (error) {
      throw await this.#abandon(asWriteError(error, this.path));
    }
  }

  async #close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await this.#file.close();
  }

  /** Removes the temporary file; gives back `error`, which is what the caller should hear of. */
  async #abandon<E>(error: E): Promise<E> {
    await this.#close().catch(() => {});
    await unlink(this.#temporary).catch(() => {});
    return error;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#open) await this.#abandon(undefined);
  }
}
