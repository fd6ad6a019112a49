// Writes tokenizer files as tests need them: sentencepiece models, their character maps, and tokenizer.json.

const utf8 = new TextEncoder();

/** A precompiled character map with these rules, in sentencepiece's format: a double array and its replacements. */
export function charsmapBlob(rules: Readonly<Record<string, string>>): Uint8Array {
  const keys = Object.keys(rules).map((key) => ({ bytes: [...utf8.encode(key)], text: rules[key]! }));
  const replacements: number[] = [];
  // One value per replacement: where it starts among the NUL-terminated strings.
  const values = keys.map(({ text }) => {
    const start = replacements.length;
    replacements.push(...utf8.encode(text), 0);
    return start;
  });
  const units = new Uint32Array(1 << 16);
  const used = new Uint8Array(units.length);
  used[0] = 1;
  const place = (position: number, depth: number, members: number[]): void => {
    const groups = new Map<number, number[]>();
    let value: number | undefined;
    for (const index of members) {
      const label = keys[index]!.bytes[depth];
      if (label === undefined) value = values[index];
      else groups.set(label, [...(groups.get(label) ?? []), index]);
    }
    const labels = [...groups.keys(), ...(value === undefined ? [] : [0])];
    let base = 1;
    while (labels.some((label) => used[base ^ label])) base++;
    units[position]! |= ((position ^ base) << 10) | (value === undefined ? 0 : 0x100);
    for (const label of labels) used[base ^ label] = 1;
    if (value !== undefined) units[base] = (0x80000000 | value) >>> 0;
    for (const label of groups.keys()) units[base ^ label] = label;
    for (const [label, group] of groups) place(base ^ label, depth + 1, group);
  };
  place(0, 0, [...keys.keys()]);
  const size = used.lastIndexOf(1) + 256;
  const blob = new Uint8Array(4 + size * 4 + replacements.length);
  new DataView(blob.buffer).setUint32(0, size * 4, true);
  blob.set(new Uint8Array(units.buffer, 0, size * 4), 4);
  blob.set(replacements, 4 + size * 4);
  return blob;
}

export const pieceTypes = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

export type PieceRow = readonly [text: string, score: number, type?: keyof typeof pieceTypes];

export interface SentencepieceOptions {
  pieces: readonly PieceRow[];
  charsmap?: Uint8Array;
  modelType?: number;
  byteFallback?: boolean;
  whitespaceAsSuffix?: boolean;
  dummyPrefix?: boolean;
  removeExtraWhitespaces?: boolean;
  escapeWhitespaces?: boolean;
}

/** A sentencepiece `.model` file. */
export function sentencepieceModel(options: SentencepieceOptions): Uint8Array {
  const pieces = options.pieces.map(([text, score, type = "normal"]) => {
    const bits = Buffer.alloc(4);
    bits.writeFloatLE(score);
    return field(1, message(field(1, utf8.encode(text)), [(2 << 3) | 5, ...bits], flag(3, pieceTypes[type])));
  });
  const trainer = message(
    flag(3, options.modelType ?? 1),
    flag(24, options.whitespaceAsSuffix),
    flag(35, options.byteFallback),
  );
  const normalizer = message(
    options.charsmap ? field(2, options.charsmap) : [],
    flag(3, options.dummyPrefix ?? true),
    flag(4, options.removeExtraWhitespaces ?? true),
    flag(5, options.escapeWhitespaces ?? true),
  );
  return joined([...pieces, field(2, trainer), field(3, normalizer)]);
}

type Bytes = ArrayLike<number>;

function message(...parts: readonly Bytes[]): Uint8Array {
  return joined(parts);
}

function joined(parts: readonly Bytes[]): Uint8Array {
  return Buffer.concat(parts.map((part) => Uint8Array.from(part)));
}

function field(number: number, content: Bytes): Bytes {
  return [...varint((number << 3) | 2), ...varint(content.length), ...Array.from(content)];
}

function flag(number: number, value: number | boolean | undefined): Bytes {
  return value === undefined ? [] : [...varint(number << 3), ...varint(Number(value))];
}

function varint(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(value >>> 7)];
}

/** A tokenizer.json for a unigram model; `overrides` replaces whole top-level entries. */
export function huggingfaceTokenizer(
  pieces: readonly PieceRow[],
  overrides: Readonly<Record<string, unknown>> = {},
): Record<string, unknown> {
  const idOf = (text: string): number => pieces.findIndex(([piece]) => piece === text);
  return {
    version: "1.0",
    added_tokens: ["<pad>", "</s>", "<unk>"].map((content) => addedToken(idOf(content), content)),
    normalizer: null,
    pre_tokenizer: { type: "Metaspace", replacement: "▁", add_prefix_space: true },
    post_processor: {
      type: "TemplateProcessing",
      single: [{ Sequence: { id: "A", type_id: 0 } }, { SpecialToken: { id: "</s>", type_id: 0 } }],
      pair: [],
      special_tokens: { "</s>": { id: "</s>", ids: [idOf("</s>")], tokens: ["</s>"] } },
    },
    decoder: null,
    model: { type: "Unigram", unk_id: idOf("<unk>"), vocab: pieces.map(([text, score]) => [text, score]) },
    ...overrides,
  };
}

export function addedToken(id: number, content: string, more: Readonly<Record<string, boolean>> = {}): object {
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  return { id, content, ...flags, ...more };
}
