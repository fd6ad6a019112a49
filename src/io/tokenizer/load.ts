// Finds and opens a tokenizer file of either kind.
import { open, stat } from "node:fs/promises";
import { join } from "node:path";
import { KinoraError } from "../../base/errors.ts";
import { fileError, inFile } from "../files.ts";
import { ANOTHER_TOKENIZER } from "./hint.ts";
import { parseHuggingface } from "./huggingface.ts";
import { parseSentencepiece } from "./sentencepiece.ts";
import { Tokenizer } from "./tokenizer.ts";

/** umt5-xxl's tokenizer.json has 17 MB. */
const MAX_FILE_BYTES = 256 << 20;

/** What a tokenizer folder may hold, best first: the official pipelines use tokenizer.json when it is there. */
const folderFiles = ["tokenizer.json", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model"] as const;

/**
 * Opens a `tokenizer.json`, a sentencepiece `.model`, or a folder with one of them (such as `google/umt5-xxl`).
 * The content decides what a file is, not its name.
 * Throws `tokenizer.not-found`, `tokenizer.too-large`, `tokenizer.malformed`, `tokenizer.unsupported`,
 * `protobuf.malformed` or `io.*`, each naming the file.
 */
export async function loadTokenizer(path: string): Promise<Tokenizer> {
  const file = await findTokenizerFile(path);
  try {
    return parseTokenizer(await readWhole(file));
  } catch (error) {
    throw inFile(fileError(error, file), file);
  }
}

/** The same from bytes in memory. */
export function parseTokenizer(bytes: Uint8Array): Tokenizer {
  if (bytes.length === 0)
    throw new KinoraError("tokenizer.malformed", "the tokenizer file is empty", { hint: ANOTHER_TOKENIZER });
  // Both may begin with a line feed: it is also the tag of a model's first piece.
  const head = new TextDecoder("latin1").decode(bytes.subarray(0, 64)).replace("\u00ef\u00bb\u00bf", "");
  if (!/^\s*\{\s*["}]/.test(head)) return new Tokenizer(parseSentencepiece(bytes));
  return new Tokenizer(parseHuggingface(parseJson(bytes)));
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new KinoraError("tokenizer.malformed", "the tokenizer file begins like JSON but is not valid JSON", {
      cause,
      hint: ANOTHER_TOKENIZER,
    });
  }
}

/** The file that `loadTokenizer` opens for `path`. Throws `tokenizer.not-found`. */
export async function findTokenizerFile(path: string): Promise<string> {
  const info = await stat(path).catch(() => undefined);
  if (info?.isFile()) return path;
  if (info?.isDirectory()) {
    for (const name of folderFiles) {
      const candidate = join(path, name);
      if ((await stat(candidate).catch(() => undefined))?.isFile()) return candidate;
    }
  }
  throw new KinoraError("tokenizer.not-found", `no tokenizer at ${path}`, {
    expected: `a tokenizer file, or a folder with ${folderFiles.join(", ")}`,
    hint: "Wan's tokenizer is in google/umt5-xxl of an official checkpoint folder.",
  });
}

async function readWhole(path: string): Promise<Uint8Array> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    if (size > MAX_FILE_BYTES) {
      throw new KinoraError("tokenizer.too-large", "too large for a tokenizer", {
        expected: `at most ${MAX_FILE_BYTES} bytes`,
        actual: `${size}`,
        hint: ANOTHER_TOKENIZER,
      });
    }
    return await file.readFile();
  } finally {
    await file.close();
  }
}
