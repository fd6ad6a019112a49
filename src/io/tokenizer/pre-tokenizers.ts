// The pre-tokenizers a unigram tokenizer.json may name: how normalised text is cut into words.
// https://github.com/huggingface/tokenizers/tree/3ba8ad0061a885baf052bbb7bbd22857e73e0c4e/tokenizers/src/pre_tokenizers
import { z } from "zod";
import { KinoraError } from "../../base/errors.ts";
import { ANOTHER_TOKENIZER } from "./hint.ts";

/** A stretch of text; `first` when it stands at the very start of the input. */
export interface Stretch {
  text: string;
  first: boolean;
}

export type PreTokenizer = (stretch: Stretch) => string[];
type Step = (stretch: Stretch) => Stretch[];

const MAX_DEPTH = 16;

const specSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("Sequence"), pretokenizers: z.array(z.unknown()) }),
  z.object({ type: z.literal("WhitespaceSplit") }),
  z.object({
    type: z.literal("Metaspace"),
    replacement: z.string().refine((text) => [...text].length === 1, "not a single character"),
    // Files spell the same setting in two ways, some in both.
    add_prefix_space: z.boolean().nullish(),
    prepend_scheme: z.enum(["always", "first", "never"]).nullish(),
    split: z.boolean().nullish(),
  }),
]);

/** Builds the `pre_tokenizer` of a tokenizer.json (null: none). Throws `tokenizer.unsupported` or `.malformed`. */
export function buildPreTokenizer(value: unknown): PreTokenizer {
  const step = buildStep(value, 0);
  return (stretch) => step(stretch).map(({ text }) => text);
}

function buildStep(value: unknown, depth: number): Step {
  if (value === null || value === undefined) return (stretch) => [stretch];
  const parsed = specSchema.safeParse(value);
  if (!parsed.success || depth > MAX_DEPTH) {
    const type = z.looseObject({ type: z.string() }).safeParse(value).data?.type;
    throw new KinoraError("tokenizer.unsupported", "the tokenizer.json has a pre-tokenizer that cannot be built", {
      expected: "Metaspace, WhitespaceSplit or a Sequence of them",
      actual: type ?? "one without a type",
      hint: ANOTHER_TOKENIZER,
    });
  }
  const spec = parsed.data;
  switch (spec.type) {
    case "Sequence": {
      const steps = spec.pretokenizers.map((step) => buildStep(step, depth + 1));
      return (stretch) => steps.reduce((stretches, step) => stretches.flatMap(step), [stretch]);
    }
    case "WhitespaceSplit":
      return ({ text, first }) =>
        Array.from(text.matchAll(/\P{White_Space}+/gu), (match) => ({
          text: match[0],
          first: first && match.index === 0,
        }));
    case "Metaspace": {
      if (spec.add_prefix_space === false && (spec.prepend_scheme ?? "always") !== "never") {
        throw new KinoraError("tokenizer.malformed", "the Metaspace settings contradict each other", {
          expected: 'prepend_scheme "never" where add_prefix_space is false',
          actual: String(spec.prepend_scheme),
          hint: ANOTHER_TOKENIZER,
        });
      }
      return metaspace(spec.replacement, spec.prepend_scheme ?? "always", spec.split ?? true);
    }
  }
}

function metaspace(symbol: string, scheme: "always" | "first" | "never", split: boolean): Step {
  return ({ text, first }) => {
    let word = text.replaceAll(" ", symbol);
    const wanted = scheme === "always" || (scheme === "first" && first);
    if (wanted && word !== "" && !word.startsWith(symbol)) word = symbol + word;
    if (!split) return word === "" ? [] : [{ text: word, first }];
    const stretches: Stretch[] = [];
    for (let start = 0; start < word.length; ) {
      // Every word begins with its symbol, so the next one is where the symbol stands next.
      const next = word.indexOf(symbol, start + 1);
      const end = next < 0 ? word.length : next;
      stretches.push({ text: word.slice(start, end), first: first && start === 0 });
      start = end;
    }
    return stretches;
  };
}
