// JSON that Kinora or another program wrote, read again: it may be missing, cut off, changed by hand or made by someone
// else. What comes back fits its schema; paths in it are still to be checked (inside.ts). Not for files that people write.
import type { ZodType } from "zod";
import { isKinoraError } from "../base/errors.ts";
import { readPlainFile, readPlainFileSync } from "./files.ts";

export type ReadBack<T> =
  | { state: "missing" }
  /** `why` reads behind the file's name: "is no JSON: …". */
  | { state: "damaged"; why: string }
  | { state: "read"; value: T };

/** The largest file that is read without a limit of its own. */
const mostBytes = 512 * 2 ** 20;

/** @throws KinoraError `io.*` where the file is there and may not be read. */
export async function readBack<T>(path: string, schema: ZodType<T>): Promise<ReadBack<T>> {
  let text: string;
  try {
    text = (await readPlainFile(path, mostBytes)).toString("utf8");
  } catch (error) {
    return unread(error);
  }
  return readBackText(text, schema);
}

/** The same without waiting, for what is small: at most `limit` bytes are read. */
export function readBackSync<T>(path: string, schema: ZodType<T>, limit: number): ReadBack<T> {
  let text: string;
  try {
    text = readPlainFileSync(path, limit).toString("utf8");
  } catch (error) {
    return unread(error);
  }
  return readBackText(text, schema);
}

/** What kept a file from being read, where that says something of the file. Throws the rest. */
function unread(error: unknown): ReadBack<never> {
  if (isKinoraError(error, "io.not-found")) return { state: "missing" };
  if (isKinoraError(error, "io.not-a-file")) return { state: "damaged", why: "is not a regular file" };
  if (isKinoraError(error, "io.too-large")) return { state: "damaged", why: "is far too large" };
  throw error;
}

/** The same of a text that was read already. */
export function readBackText<T>(text: string, schema: ZodType<T>): ReadBack<T> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { state: "damaged", why: `is not valid JSON: ${(error as Error).message}` };
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return { state: "read", value: parsed.data };
  const [issue] = parsed.error.issues;
  const place = issue?.path.map(String).join(".");
  return { state: "damaged", why: `is malformed: ${place ? `${place}: ` : ""}${issue?.message}` };
}
