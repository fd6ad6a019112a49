// The one reader for text that people write: captions, prompts, configurations, JSONL, templates. Whatever editor saved
// it, it is read rightly or refused by name. What programs write is read by json-file.ts.
import { naming, readPlainFile } from "../files.ts";
import { decodeText, type Text } from "./decode.ts";

export type { Text } from "./decode.ts";

/** More than any caption, prompt file or configuration has. */
export const MOST_TEXT_BYTES = 16 << 20;

/**
 * Reads a text file whole.
 * @param most bytes beyond which it is refused
 * @throws KinoraError naming the file: `io.not-found`, `io.no-permission`, `io.not-a-file` (a folder, pipe or device),
 *   `io.too-large`, and as `decodeText`.
 */
export async function readText(path: string, most = MOST_TEXT_BYTES): Promise<Text> {
  const bytes = await readPlainFile(path, most);
  return naming(path, () => decodeText(bytes));
}

/** A notice of `readText` with the file's name, for whoever reads it. */
export const noticeOf = (name: string, { notice }: Text): string[] =>
  notice === undefined ? [] : [`${name} ${notice}`];
