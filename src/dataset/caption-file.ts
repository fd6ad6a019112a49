// Caption files as they are read everywhere: whole, trimmed, in whatever encoding they were saved.
import { isKinoraError } from "../base/errors.ts";
import { readText, type Text } from "../io/text/read.ts";

/** No caption has this many bytes. */
const MOST_BYTES = 1 << 20;

/** The trimmed text of a caption file, "" where it is blank; undefined where there is none. Throws `io.*`, `text.*`. */
export async function readCaptionFile(path: string): Promise<Text | undefined> {
  try {
    const { text, ...more } = await readText(path, MOST_BYTES);
    return { text: text.trim(), ...more };
  } catch (error) {
    if (isKinoraError(error, "io.not-found")) return undefined;
    throw error;
  }
}
