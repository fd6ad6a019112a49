// Reads a sentencepiece `.model` file (unigram models) and tokenizes as the sentencepiece library does.
// Messages and field numbers: https://github.com/google/sentencepiece/blob/273449044caa593c2fd7eb7550cb3ab2cff93f1a/src/sentencepiece_model.proto
import { KinoraError } from "../../base/errors.ts";
import { Charsmap } from "./charsmap.ts";
import { ANOTHER_TOKENIZER } from "./hint.ts";
import { PieceTrie } from "./piece-trie.ts";
import { ProtobufReader } from "./protobuf.ts";
import type { TokenizerModel } from "./tokenizer.ts";
import { Unigram } from "./unigram.ts";

/** U+2581, which stands for a space inside pieces. */
const SPACE_SYMBOL = "\u2581";

const UNIGRAM_MODEL = 1;
const modelTypeNames: Record<number, string> = { 1: "unigram", 2: "bpe", 3: "word", 4: "char" };

/** `ModelProto.SentencePiece.Type`. */
export const pieceTypes = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

export interface Piece {
  text: string;
  score: number;
  type: number;
}

interface TrainerSpec {
  modelType: number;
  treatWhitespaceAsSuffix: boolean;
  byteFallback: boolean;
  bosPiece: string;
  eosPiece: string;
  padPiece: string;
}

interface NormalizerSpec {
  charsmap: Charsmap | undefined;
  addDummyPrefix: boolean;
  removeExtraWhitespaces: boolean;
  escapeWhitespaces: boolean;
}

export interface ModelFile {
  pieces: Piece[];
  trainer: TrainerSpec;
  normalizer: NormalizerSpec;
}

function malformed(message: string): KinoraError {
  return new KinoraError("tokenizer.malformed", `the sentencepiece model is broken: ${message}`, {
    hint: ANOTHER_TOKENIZER,
  });
}

/** Throws `protobuf.malformed`, `tokenizer.malformed` or `tokenizer.unsupported`. */
export const parseSentencepiece = (bytes: Uint8Array): TokenizerModel => sentencepieceTokenizer(readModelFile(bytes));

/** A model whose parts were read. Throws `tokenizer.malformed` and `tokenizer.unsupported`. */
export function sentencepieceTokenizer(file: ModelFile): TokenizerModel {
  if (file.trainer.modelType !== UNIGRAM_MODEL) {
    throw new KinoraError("tokenizer.unsupported", "this sentencepiece model is not a unigram model", {
      expected: "unigram",
      actual: modelTypeNames[file.trainer.modelType] ?? `type ${file.trainer.modelType}`,
      hint: "Wan's text encoder uses the tokenizer of google/umt5-xxl (spiece.model).",
    });
  }
  const { pieces } = file;
  const index = indexPieces(file);
  const scores = pieceScores(pieces);
  const unigram = new Unigram({
    trie: index.matchable,
    scores: scores.values,
    minScore: scores.min,
    unknownId: index.unknown,
    precision: "float32",
  });
  const controlId = (text: string): number | undefined => {
    const id = index.reserved.get(text);
    return id !== undefined && pieces[id]!.type === pieceTypes.control ? id : undefined;
  };
  const eos = controlId(file.trainer.eosPiece);
  if (eos === undefined) throw malformed(`it has no end-of-sequence piece ${JSON.stringify(file.trainer.eosPiece)}`);
  const encoder = new TextEncoder();

  return {
    format: "sentencepiece",
    vocabularySize: pieces.length,
    special: {
      pad: controlId(file.trainer.padPiece),
      eos,
      bos: controlId(file.trainer.bosPiece),
      unk: index.unknown,
    },
    prefix: [],
    suffix: [eos],
    tokenize(text) {
      const normalized = normalize(text, file, index.userDefined);
      const ids: number[] = [];
      let afterUnknown = false;
      for (const { id, start, end } of unigram.segment(normalized)) {
        const unknown = id === index.unknown;
        if (unknown && file.trainer.byteFallback) {
          for (const byte of encoder.encode(normalized.slice(start, end))) ids.push(index.bytes[byte]!);
        } else if (!(unknown && afterUnknown)) {
          // A run of unknown characters is one unknown token.
          ids.push(id);
        }
        afterUnknown = unknown;
      }
      return ids;
    },
  };
}

function readModelFile(bytes: Uint8Array): ModelFile {
  const pieces: Piece[] = [];
  let trainer = readTrainerSpec(new Uint8Array());
  let normalizer = readNormalizerSpec(new Uint8Array());
  const reader = new ProtobufReader(bytes);
  for (let field = reader.next(); field !== undefined; field = reader.next()) {
    if (field === 1) pieces.push(readPiece(reader.readBytes()));
    else if (field === 2) trainer = readTrainerSpec(reader.readBytes());
    else if (field === 3) normalizer = readNormalizerSpec(reader.readBytes());
    else reader.skip();
  }
  return { pieces, trainer, normalizer };
}

function readPiece(bytes: Uint8Array): Piece {
  const piece: Piece = { text: "", score: 0, type: pieceTypes.normal };
  const reader = new ProtobufReader(bytes);
  for (let field = reader.next(); field !== undefined; field = reader.next()) {
    if (field === 1) piece.text = reader.readString();
    else if (field === 2) piece.score = reader.readFloat();
    else if (field === 3) piece.type = reader.readInt32();
    else reader.skip();
  }
  return piece;
}

function readTrainerSpec(bytes: Uint8Array): TrainerSpec {
  const spec = { modelType: UNIGRAM_MODEL, treatWhitespaceAsSuffix: false, byteFallback: false };
  let [bosPiece, eosPiece, padPiece] = ["", "", ""];
  const reader = new ProtobufReader(bytes);
  for (let field = reader.next(); field !== undefined; field = reader.next()) {
    if (field === 3) spec.modelType = reader.readInt32();
    else if (field === 24) spec.treatWhitespaceAsSuffix = reader.readBool();
    else if (field === 35) spec.byteFallback = reader.readBool();
    else if (field === 46) bosPiece = reader.readString();
    else if (field === 47) eosPiece = reader.readString();
    else if (field === 48) padPiece = reader.readString();
    else reader.skip();
  }
  return { ...spec, bosPiece: bosPiece || "<s>", eosPiece: eosPiece || "</s>", padPiece: padPiece || "<pad>" };
}

function readNormalizerSpec(bytes: Uint8Array): NormalizerSpec {
  const spec: NormalizerSpec = {
    charsmap: undefined,
    addDummyPrefix: true,
    removeExtraWhitespaces: true,
    escapeWhitespaces: true,
  };
  const reader = new ProtobufReader(bytes);
  for (let field = reader.next(); field !== undefined; field = reader.next()) {
    if (field === 2) {
      const blob = reader.readBytes();
      spec.charsmap = blob.length === 0 ? undefined : new Charsmap(blob);
    } else if (field === 3) spec.addDummyPrefix = reader.readBool();
    else if (field === 4) spec.removeExtraWhitespaces = reader.readBool();
    else if (field === 5) spec.escapeWhitespaces = reader.readBool();
    else reader.skip();
  }
  return spec;
}

interface PieceIndex {
  /** Pieces that text can match. */
  matchable: PieceTrie;
  /** Pieces that normalisation leaves alone. */
  userDefined: PieceTrie | undefined;
  /** Control, unknown and byte pieces by name: no text matches these. */
  reserved: Map<string, number>;
  unknown: number;
  /** Piece ids of the bytes 0 to 255, where the model falls back to bytes. */
  bytes: Int32Array;
}

function indexPieces({ pieces, trainer }: ModelFile): PieceIndex {
  const matchable = new PieceTrie();
  const seen = new Set<string>();
  const reserved = new Map<string, number>();
  const bytes = new Int32Array(256).fill(-1);
  let userDefined: PieceTrie | undefined;
  let unknown = -1;
  pieces.forEach(({ text, type }, id) => {
    if (text === "") throw malformed(`piece ${id} is empty`);
    const textual = type === pieceTypes.normal || type === pieceTypes.userDefined || type === pieceTypes.unused;
    if (textual ? seen.has(text) : reserved.has(text)) throw malformed(`piece ${JSON.stringify(text)} appears twice`);
    if (textual) seen.add(text);
    else reserved.set(text, id);
    if (type === pieceTypes.normal || type === pieceTypes.userDefined) matchable.set(text, id);
    if (type === pieceTypes.userDefined) {
      userDefined ??= new PieceTrie();
      userDefined.set(text, id);
    }
    if (type === pieceTypes.unknown) {
      if (unknown >= 0) throw malformed("it has two unknown pieces");
      unknown = id;
    }
    if (type === pieceTypes.byte) {
      const value = /^<0x([0-9A-F]{2})>$/.exec(text)?.[1];
      if (value === undefined) throw malformed(`byte piece ${JSON.stringify(text)} is not named <0x00> to <0xFF>`);
      bytes[Number.parseInt(value, 16)] = id;
    }
  });
  if (seen.size === 0) throw malformed("it has no pieces");
  if (unknown < 0) throw malformed("it has no unknown piece");
  if (trainer.byteFallback && bytes.includes(-1)) throw malformed("it falls back to bytes but lacks some byte pieces");
  return { matchable, userDefined, reserved, unknown, bytes };
}

function pieceScores(pieces: readonly Piece[]): { values: Float64Array; min: number } {
  let min = 3.4028234663852886e38; // FLT_MAX and FLT_MIN are the library's starting points.
  let max = 1.1754943508222875e-38;
  pieces.forEach(({ score, type }, id) => {
    if (!Number.isFinite(score)) throw malformed(`the score of piece ${id} is ${score}`);
    if (type !== pieceTypes.normal) return;
    min = Math.min(min, score);
    max = Math.max(max, score);
  });
  // A user-defined piece always wins: it scores as the best piece for each of its bytes.
  const values = Float64Array.from(pieces, ({ text, score, type }) =>
    type === pieceTypes.userDefined ? Math.fround(Buffer.byteLength(text) * max) - 0.1 : score,
  );
  return { values, min };
}

/** https://github.com/google/sentencepiece/blob/273449044caa593c2fd7eb7550cb3ab2cff93f1a/src/normalizer.cc#L69 */
function normalize(text: string, { normalizer, trainer }: ModelFile, userDefined: PieceTrie | undefined): string {
  const { charsmap, addDummyPrefix, removeExtraWhitespaces, escapeWhitespaces } = normalizer;
  const space = escapeWhitespaces ? SPACE_SYMBOL : " ";
  const out: string[] = [];
  let afterSpace = removeExtraWhitespaces;
  let empty = true;
  for (let i = 0; i < text.length; ) {
    let end = userDefined?.longestMatch(text, i)?.end;
    let piece: string;
    if (end !== undefined) {
      piece = text.slice(i, end);
    } else {
      const rule = charsmap?.match(text, i, text.length, "longest");
      end = rule?.end ?? i + (text.codePointAt(i)! > 0xffff ? 2 : 1);
      piece = rule?.replacement ?? text.slice(i, end);
    }
    i = end;
    // Leading spaces vanish before the text counts as non-empty at all.
    if (empty && removeExtraWhitespaces && piece === " ") continue;
    empty = false;
    if (afterSpace) piece = piece.replace(/^ +/, "");
    if (piece !== "") {
      out.push(escapeWhitespaces ? piece.replaceAll(" ", SPACE_SYMBOL) : piece);
      afterSpace = piece.endsWith(" ");
    }
    if (!removeExtraWhitespaces) afterSpace = false;
  }
  if (empty) return "";
  const asSuffix = trainer.treatWhitespaceAsSuffix;
  let result = (addDummyPrefix && !asSuffix ? space : "") + out.join("");
  if (removeExtraWhitespaces) {
    let end = result.length;
    while (result.endsWith(space, end) && end > 0) end--;
    result = result.slice(0, end);
  }
  return addDummyPrefix && asSuffix ? result + space : result;
}
