// The tokenizer in a GGUF file's metadata: sentencepiece's pieces as llama.cpp lists them. Text encoders bring theirs so.
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer
import { KinoraError } from "../../base/errors.ts";
import type { GgufValue } from "../gguf.ts";
import { Charsmap } from "./charsmap.ts";
import { type ModelFile, type Piece, pieceTypes, sentencepieceTokenizer } from "./sentencepiece.ts";
import { Tokenizer } from "./tokenizer.ts";

type Values = ReadonlyMap<string, GgufValue>;

function malformed(key: string): KinoraError {
  return new KinoraError("tokenizer.malformed", `the tokenizer in the GGUF file is broken at ${key}`);
}

function list<T>(values: Values, key: string, is: (value: unknown) => value is T): readonly T[] {
  const found = values.get(key);
  if (!Array.isArray(found) || !found.every(is)) throw malformed(key);
  return found;
}

const isText = (value: unknown): value is string => typeof value === "string";
const isNumber = (value: unknown): value is number => typeof value === "number";

/** Undefined where the file lists no pieces. Throws `tokenizer.malformed` and `tokenizer.unsupported`. */
export function ggufTokenizer(values: Values): Tokenizer | undefined {
  const key = (name: string) => `tokenizer.ggml.${name}`;
  if (!values.has(key("tokens"))) return undefined;
  const kind = values.get(key("model"));
  if (kind !== "t5") {
    throw new KinoraError("tokenizer.unsupported", "the tokenizer in the GGUF file is not a text encoder's", {
      expected: "t5",
      actual: String(kind),
      hint: "give the tokenizer of google/umt5-xxl",
    });
  }
  const texts = list(values, key("tokens"), isText);
  const scores = list(values, key("scores"), isNumber);
  const types = list(values, key("token_type"), isNumber);
  if (scores.length !== texts.length || types.length !== texts.length) throw malformed(key("scores"));
  const pieces = texts.map((text, i): Piece => ({ text, score: scores[i]!, type: types[i]! }));
  const special = (name: string, usual: string) => {
    const id = values.get(key(name));
    return typeof id === "number" ? (pieces[id]?.text ?? usual) : usual;
  };
  const flag = (name: string) => values.get(key(name)) !== false;
  const charsmap = values.has(key("precompiled_charsmap"))
    ? Uint8Array.from(list(values, key("precompiled_charsmap"), isNumber))
    : new Uint8Array();
  const file: ModelFile = {
    pieces,
    trainer: {
      modelType: 1,
      treatWhitespaceAsSuffix: false,
      byteFallback: types.includes(pieceTypes.byte),
      bosPiece: special("bos_token_id", "<s>"),
      eosPiece: special("eos_token_id", "</s>"),
      padPiece: special("padding_token_id", "<pad>"),
    },
    normalizer: {
      charsmap: charsmap.length > 0 ? new Charsmap(charsmap) : undefined,
      addDummyPrefix: flag("add_space_prefix"),
      removeExtraWhitespaces: flag("remove_extra_whitespaces"),
      escapeWhitespaces: true,
    },
  };
  return new Tokenizer(sentencepieceTokenizer(file));
}
