// Preview prompts in musubi's text form: one a line, `#` for comments, options after ` --`.
// https://github.com/kohya-ss/musubi-tuner/blob/30c658c/src/musubi_tuner/training/sampling_prompts.py
import { dirname, extname, resolve } from "node:path";
import { KinoraError } from "../../base/errors.ts";
import { DiskNames } from "../../io/disk-names.ts";
import { noticeOf, readText } from "../../io/text/read.ts";
import { type SamplerName, samplerSchema } from "../../protocol/recipe.ts";

/** One line; what is absent comes from the model. */
export interface SamplePrompt {
  prompt: string;
  width?: number;
  height?: number;
  /** 4n + 1. */
  frames?: number;
  seed?: bigint;
  steps?: number;
  sampler?: SamplerName;
  /** CFG scale of both experts. */
  guidance?: number;
  shift?: number;
  negative?: string;
  /** Absolute. */
  image?: string;
}

export interface PromptFile {
  prompts: SamplePrompt[];
  /** What was changed or has no effect, for the person. */
  notes: string[];
}

/** What may stand behind an option. */
interface ValueKind {
  pattern: Pick<RegExp, "test">;
  /** In words. */
  needs: string;
  /** What an option without a value means, where musubi takes it for none at all. */
  withoutValue?: string;
}

const whole: ValueKind = { pattern: /^\d+$/, needs: "a whole number" };
const decimal: ValueKind = { pattern: /^\d+(?:\.\d*)?$|^\.\d+$/, needs: "a number" };
const words: ValueKind = { pattern: /./, needs: "a text" };
const samplers: readonly SamplerName[] = samplerSchema.options;
const sampler: ValueKind = {
  pattern: { test: (text) => samplers.some((name) => name === text) },
  needs: `a sampler (${samplers.join(", ")})`,
};
const file: ValueKind = { pattern: /./, needs: "a picture's path" };

interface LineContext {
  note(text: string): void;
  /** Where relative paths begin. */
  base: string;
}

interface PromptOption extends ValueKind {
  read(value: string, context: LineContext): Partial<SamplePrompt>;
}

function flooredFrames(asked: number, { note }: LineContext): Partial<SamplePrompt> {
  const frames = asked - ((asked - 1) % 4);
  if (frames !== asked) note(`${asked} frames is not 4n + 1: using ${frames}`);
  return { frames };
}

/** An option that musubi reads and Wan has no use for. */
const unused = (kind: ValueKind, why: string): PromptOption => ({
  ...kind,
  read(_value, { note }) {
    note(why);
    return {};
  },
});

const options: Readonly<Record<string, PromptOption>> = {
  w: { ...whole, read: (value) => ({ width: Number(value) }) },
  h: { ...whole, read: (value) => ({ height: Number(value) }) },
  f: { ...whole, read: (value, context) => flooredFrames(Math.max(1, Number(value)), context) },
  d: { ...whole, read: (value) => ({ seed: BigInt(value) }) },
  s: { ...whole, read: (value) => ({ steps: Math.max(1, Math.min(1000, Number(value))) }) },
  ss: { ...sampler, read: (value) => ({ sampler: value as SamplerName }) },
  l: { ...decimal, read: (value) => ({ guidance: Number(value) }) },
  fs: { ...decimal, read: (value) => ({ shift: Number(value) }) },
  n: { ...words, withoutValue: "the default negative prompt is used", read: (value) => ({ negative: value }) },
  i: { ...file, read: (value, { base }) => ({ image: resolve(base, value) }) },
  ei: unused(file, "--ei (an end picture) is for FLF2V and is not used"),
  g: unused(decimal, "--g (embedded guidance) has no effect on Wan; CFG is --l"),
};

/** Pictures are looked for beside the file. `where` names it in errors. */
export function parsePrompts(content: string, where: string, base: string): PromptFile {
  const notes: string[] = [];
  const prompts: SamplePrompt[] = [];
  for (const [index, raw] of content.split("\n").entries()) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) continue;
    const place = `${where}, line ${index + 1}`;
    const [text, ...parts] = line.split(" --");
    const prompt: SamplePrompt = { prompt: text!.trim() };
    for (const part of parts) {
      const [, name = "", value = ""] = /^(\w+)\s+(.+)$/s.exec(part.trim()) ?? [undefined, part.trim()];
      const option = Object.hasOwn(options, name.toLowerCase()) ? options[name.toLowerCase()] : undefined;
      const note = (word: string) => void notes.push(`${place}: ${word}`);
      if (option?.withoutValue !== undefined && value === "") {
        note(`--${name} has no value: ${option.withoutValue}`);
        continue;
      }
      if (!option?.pattern.test(value.trim())) {
        throw new KinoraError("prompts.bad-option", `${place}: --${part.trim()} is not understood`, {
          expected: Object.entries(options)
            .map(([known, { needs }]) => `--${known} with ${needs}`)
            .join(", "),
          hint: option
            ? `--${name.toLowerCase()} needs ${option.needs}`
            : "a space and two dashes start an option; use a single dash within a prompt",
        });
      }
      Object.assign(prompt, option.read(value.trim(), { note, base }));
    }
    prompts.push(prompt);
  }
  if (prompts.length === 0)
    throw new KinoraError("prompts.empty", `${where} contains no prompt`, {
      hint: "one prompt per line, e.g. a red circle on a blue background --w 832 --h 480; lines with # are comments",
    });
  return { prompts, notes };
}

/** Throws `io.*`, `text.*`, `prompts.*`. */
export async function readPromptFile(path: string): Promise<PromptFile> {
  const ending = extname(path).toLowerCase();
  if (ending === ".toml" || ending === ".json") {
    throw new KinoraError("prompts.wrong-format", `prompts are read from text, not from ${ending}: ${path}`, {
      hint: "write a .txt with one prompt per line, followed by its options, e.g. a cat --w 832 --h 480 --d 42",
    });
  }
  const read = await readText(path);
  const { prompts, notes } = parsePrompts(read.text, path, dirname(path));
  const names = new DiskNames();
  for (const prompt of prompts) if (prompt.image !== undefined) prompt.image = await names.spelled(prompt.image);
  return { prompts, notes: [...noticeOf(path, read), ...notes] };
}
