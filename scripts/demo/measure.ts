// The demo's fourth stage: the analyser looks at every video as a file, and what it saw is held against the goals.

import { timeLeft } from "../../src/cli/progress.ts";
import { writeFileAtomic } from "../../src/io/atomic.ts";
import { type AttributeTally, type Score, scoreVideo, tally } from "../tiny/analyser/score.ts";
import { readClip } from "../tiny/clips.ts";
import { type Variant, type VideoPair, variants } from "./generate.ts";
import { demoFiles } from "./settings.ts";
import type { Stage } from "./stage.ts";

export interface MeasuredPair extends VideoPair {
  scores: Record<Variant, Score>;
}

export interface Goal {
  what: string;
  wanted: string;
  got: string;
  met: boolean;
}

export interface Measures {
  pairs: MeasuredPair[];
  goals: Goal[];
  seconds: number;
}

export type TallyName = keyof ReturnType<typeof tally>;

/** What the LoRA has to keep, and by how many points it may be worse than the model without it. */
const KEPT = ["color", "shape", "motion"] as const satisfies readonly TallyName[];
const MARGIN = 5;
const STYLE = { below: 10, above: 90 } as const;

/** Measures both videos of every pair, and keeps the figures beside them. */
export async function measureVideos({ settings, out, signal }: Stage, pairs: readonly VideoPair[]): Promise<Measures> {
  const started = Date.now();
  const measured: MeasuredPair[] = [];
  for (const [i, pair] of pairs.entries()) {
    signal.throwIfAborted();
    measured.push({ ...pair, scores: await measurePair(pair) });
    const done = variants.length * (i + 1);
    out.progress(
      `video ${done} of ${variants.length * pairs.length} measured${timeLeft(started, i + 1, pairs.length)}`,
    );
  }
  const goals = goalsOf(measured.map(({ scores }) => scores));
  await writeFileAtomic(demoFiles(settings.folder).measures, `${JSON.stringify(figures(measured, goals), null, 2)}\n`);
  return { pairs: measured, goals, seconds: (Date.now() - started) / 1000 };
}

/** What both videos of a pair show, against what the prompt says. Throws `media.*`. */
export async function measurePair(pair: Omit<VideoPair, "recipe">): Promise<Record<Variant, Score>> {
  const score = async (variant: Variant) => scoreVideo(await readClip(pair[variant]), pair.prompt.says);
  return { without: await score("without"), with: await score("with") };
}

/** Per cent of the videos; 0 where there are none. */
export const percent = ({ right, of }: AttributeTally): number => (of === 0 ? 0 : (100 * right) / of);

/** The bar: the style from under 10 % to over 90 % of the videos, colour, shape and motion kept. */
export function goalsOf(scores: readonly Record<Variant, Score>[]): Goal[] {
  const [without, withLora] = variants.map((variant) => tally(scores.map((both) => both[variant])));
  const style = { without: percent(without!["style: neon"]), with: percent(withLora!["style: neon"]) };
  return [
    {
      what: "the style without the LoRA",
      wanted: `under ${STYLE.below} %`,
      got: `${style.without.toFixed(1)} %`,
      met: style.without < STYLE.below,
    },
    {
      what: "the style with the LoRA",
      wanted: `over ${STYLE.above} %`,
      got: `${style.with.toFixed(1)} %`,
      met: style.with > STYLE.above,
    },
    ...KEPT.map((name) => {
      const change = percent(withLora![name]) - percent(without![name]);
      return {
        what: `${name} kept`,
        wanted: `at most ${MARGIN} points lost`,
        got: points(change),
        // A share is a fraction of whole videos: its rounding must not decide.
        met: change >= -MARGIN - 1e-9,
      };
    }),
  ];
}

/** "+2.5 points". */
export function points(change: number): string {
  const sign = change === 0 ? "±" : change < 0 ? "−" : "+";
  return `${sign}${Math.abs(change).toFixed(1)} points`;
}

/** What is kept as JSON: every reading, by video. */
function figures(pairs: readonly MeasuredPair[], goals: readonly Goal[]): unknown {
  return {
    goals,
    tally: Object.fromEntries(variants.map((variant) => [variant, tally(pairs.map(({ scores }) => scores[variant]))])),
    videos: pairs.map(({ prompt, scores }) => ({
      prompt: prompt.text,
      seed: String(prompt.seed),
      says: prompt.says,
      ...Object.fromEntries(
        variants.map((variant) => [variant, { right: scores[variant].right, seen: scores[variant].analysis }]),
      ),
    })),
  };
}
