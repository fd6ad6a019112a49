// Opens files so that whatever is wrong with one reads the same everywhere: coded, and naming the file.
import { closeSync, constants, fstatSync, openSync, readFileSync, type Stats, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { KinoraError } from "../base/errors.ts";
import { FileMap } from "../ffi/host-memory.ts";

/** What goes wrong while reading; failures of writing are atomic.ts's. */
const codes: Record<string, readonly [code: string, what: string, hint: string]> = {
  ENOENT: ["io.not-found", "there is no such file or folder", "check the path"],
  ENOTDIR: ["io.not-found", "there is no such file or folder", "check the path"],
  EACCES: ["io.no-permission", "permission was denied", "you have no permission to read it"],
  EPERM: ["io.no-permission", "permission was denied", "you have no permission to read it"],
  ENAMETOOLONG: ["io.bad-path", "the name is too long", "choose a shorter one"],
  // A socket.
  ENXIO: ["io.not-a-file", "it is not a regular file", "name a file"],
};

/** The coded error for a failure of the file system; other errors come back as they are. */
export function fileError(error: unknown, path: string): unknown {
  if (!(error instanceof Error) || !("code" in error) || error instanceof KinoraError) return error;
  const [code, what, hint] = codes[String(error.code)] ?? ["io.failed", error.message, "check the disk for errors"];
  return new KinoraError(code, `${path}: ${what}`, { hint, cause: error });
}

/** What stands at `path`. Throws `io.not-found`, or `io.not-a-file` for a device, pipe or socket. */
export function fileOrFolder(path: string): { kind: "file" | "folder"; size: number } {
  let stat: ReturnType<typeof statSync>;
  try {
    stat = statSync(path);
  } catch (error) {
    throw fileError(error, path);
  }
  if (stat.isDirectory()) return { kind: "folder", size: 0 };
  // Opening a pipe would wait for its writer for ever.
  if (!stat.isFile())
    throw new KinoraError("io.not-a-file", `${path} is neither a file nor a folder`, { hint: "give a regular file" });
  return { kind: "file", size: stat.size };
}

/** Maps a whole file. Throws `io.*`. */
export function mapFile(path: string): FileMap {
  const { kind, size } = fileOrFolder(path);
  if (kind === "folder") throw new KinoraError("io.not-a-file", `${path} is a folder`, { hint: "name a file in it" });
  if (size === 0) throw new KinoraError("io.empty-file", `${path} is empty`, { hint: "download the file again" });
  try {
    return new FileMap(path);
  } catch (error) {
    throw fileError(error, path);
  }
}

const DAMAGED = "the file is damaged, truncated or of another kind: get it again from its source";

/** The same error with the file's path in front of its message, for checks that know bytes but not files. */
export function inFile(error: unknown, path: string): unknown {
  if (!(error instanceof KinoraError)) return error;
  const { code, message, expected, actual, hint } = error;
  const detail = `${expected === undefined ? "" : `; expected ${expected}`}${actual === undefined ? "" : `; got ${actual}`}`;
  const what = message.slice(0, message.length - detail.length);
  return new KinoraError(code, `${path}: ${what}`, { expected, actual, hint: hint ?? DAMAGED, cause: error });
}

/** Runs `work`, which must not outlive the call; its coded errors name the file. */
export function naming<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw inFile(error, path);
  }
}

// A pipe is opened without waiting for its other end, and then refused. Windows has no such flag, and no pipes among its files.
const readOnly = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

function checkPlain(found: Stats, path: string, limit: number): void {
  if (!found.isFile())
    throw new KinoraError("io.not-a-file", `${path} is ${found.isDirectory() ? "a folder" : "a pipe or a device"}`, {
      hint: "give a regular file",
    });
  if (found.size > limit)
    throw new KinoraError("io.too-large", `${path} is too large`, {
      expected: `at most ${limit} bytes`,
      actual: `${found.size}`,
      hint: "it is damaged, or not a file of this kind",
    });
}

/**
 * A whole file, of at most `limit` bytes. A pipe or device is refused without waiting for its other end.
 * Throws `io.not-found`, `io.no-permission`, `io.not-a-file`, `io.too-large`.
 */
export async function readPlainFile(path: string, limit: number): Promise<Buffer> {
  try {
    await using file = await open(path, readOnly);
    checkPlain(await file.stat(), path, limit);
    return await file.readFile();
  } catch (error) {
    throw fileError(error, path);
  }
}

/** The same without waiting, for what is small. */
export function readPlainFileSync(path: string, limit: number): Buffer {
  let file: number | undefined;
  try {
    file = openSync(path, readOnly);
    checkPlain(fstatSync(file), path, limit);
    return readFileSync(file);
  } catch (error) {
    throw fileError(error, path);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}
