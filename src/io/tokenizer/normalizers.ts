// The normalisers a unigram tokenizer.json may name, each as a function from text to text.
// https://github.com/huggingface/tokenizers/tree/3ba8ad0061a885baf052bbb7bbd22857e73e0c4e/tokenizers/src/normalizers
import { z } from "zod";
import { KinoraError } from "../../base/errors.ts";
import { Charsmap } from "./charsmap.ts";
import { graphemeEnds } from "./graphemes.ts";
import { ANOTHER_TOKENIZER } from "./hint.ts";

export type Normalizer = (text: string) => string;

/** Real files nest one level; a bound keeps a hostile one off the stack. */
const MAX_DEPTH = 16;

const specSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("Sequence"), normalizers: z.array(z.unknown()) }),
  z.object({ type: z.literal("Precompiled"), precompiled_charsmap: z.base64().nullish() }),
  z.object({ type: z.literal("Strip"), strip_left: z.boolean(), strip_right: z.boolean() }),
  z.object({
    type: z.literal("Replace"),
    pattern: z.union([z.object({ String: z.string().min(1) }), z.object({ Regex: z.string().min(1) })]),
    content: z.string(),
  }),
  z.object({ type: z.literal("Prepend"), prepend: z.string() }),
  z.object({ type: z.literal("Lowercase") }),
  z.object({ type: z.enum(["NFC", "NFD", "NFKC", "NFKD"]) }),
]);

/** Builds the `normalizer` of a tokenizer.json (null: none). Throws `tokenizer.unsupported` or `tokenizer.malformed`. */
export function buildNormalizer(value: unknown, depth = 0): Normalizer {
  if (value === null || value === undefined) return (text) => text;
  const parsed = specSchema.safeParse(value);
  if (!parsed.success || depth > MAX_DEPTH) {
    const type = z.looseObject({ type: z.string() }).safeParse(value).data?.type;
    throw new KinoraError("tokenizer.unsupported", "the tokenizer.json has a normalizer that cannot be built", {
      actual: type ?? "one without a type",
      hint: "Use the tokenizer that belongs to the text encoder (google/umt5-xxl).",
    });
  }
  const spec = parsed.data;
  switch (spec.type) {
    case "Sequence": {
      const steps = spec.normalizers.map((step) => buildNormalizer(step, depth + 1));
      return (text) => steps.reduce((current, step) => step(current), text);
    }
    case "Precompiled": {
      if (!spec.precompiled_charsmap) return (text) => text;
      const charsmap = new Charsmap(Buffer.from(spec.precompiled_charsmap, "base64"));
      return (text) => applyCharsmap(text, charsmap);
    }
    case "Strip":
      return (text) => {
        const left = spec.strip_left ? text.replace(/^\p{White_Space}+/u, "") : text;
        return spec.strip_right ? trimRight(left) : left;
      };
    case "Replace": {
      const { pattern, content } = spec;
      if ("String" in pattern) return (text) => text.replaceAll(pattern.String, () => content);
      const regex = compilePattern(pattern.Regex);
      return (text) => text.replace(regex, () => content);
    }
    case "Prepend":
      return (text) => (text === "" ? text : spec.prepend + text);
    case "Lowercase":
      return (text) => text.toLowerCase();
    default:
      return (text) => text.normalize(spec.type);
  }
}

/** Without a regular expression: `\s+$` backtracks over every run of spaces. */
function trimRight(text: string): string {
  let end = text.length;
  while (end > 0 && /\p{White_Space}/u.test(text[end - 1]!)) end--;
  return text.slice(0, end);
}

/**
 * Applies a precompiled character map as the Rust library does: to whole graphemes of up to five bytes first, of which
 * it takes the shortest rule and drops the rest, then to single characters. (sentencepiece takes the longest rule.)
 */
function applyCharsmap(text: string, charsmap: Charsmap): string {
  const out: string[] = [];
  const rule = (start: number, end: number): string | undefined =>
    charsmap.match(text, start, end, "shortest")?.replacement;
  let start = 0;
  for (const end of graphemeEnds(text)) {
    const whole = end - start < 6 && Buffer.byteLength(text.slice(start, end)) < 6 ? rule(start, end) : undefined;
    if (whole !== undefined) {
      out.push(whole);
    } else {
      for (let at = start; at < end; ) {
        const next = at + (text.codePointAt(at)! > 0xffff ? 2 : 1);
        out.push(rule(at, next) ?? text.slice(at, next));
        at = next;
      }
    }
    start = end;
  }
  return out.join("");
}

/**
 * Compiles a pattern written for Oniguruma. Only what means the same in both and cannot run away is taken: no groups,
 * anchors or dots, at most one repetition (real files have ` {2,}` and the like).
 */
function compilePattern(source: string): RegExp {
  const bare = source.replace(/\\[^\d\w]|\\[sSdD]/g, "x").replace(/\[[^\]]*\]/g, "x");
  const repetitions = bare.match(/[*+?]|\{\d+(?:,\d*)?\}/g) ?? [];
  try {
    if (/[()\\[\]^$.]/.test(bare) || repetitions.length > 1) throw new SyntaxError("too involved");
    return new RegExp(source.replaceAll("\\s", "\\p{White_Space}").replaceAll("\\S", "\\P{White_Space}"), "gu");
  } catch (cause) {
    throw new KinoraError("tokenizer.unsupported", `the tokenizer.json replaces by pattern ${JSON.stringify(source)}`, {
      expected: "a plain pattern without groups, anchors or dots and with at most one repetition",
      cause,
      hint: ANOTHER_TOKENIZER,
    });
  }
}
