// How every time of the benchmarks is taken: each contender once untimed, then all of them in turn, round after round, so
// that other work on the machine hits all alike. Figures are medians with their least and most; what is compared are the
// ratios of medians of one run.
import { loadavg } from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import { KinoraError } from "../src/base/errors.ts";

/** One turn. Gives seconds where it takes its own time (another process), else the call is timed. */
export type Contender = (() => number | Promise<number>) | (() => void) | (() => Promise<void>);

export const FEWEST_ROUNDS = 5;

/** Milliseconds before a turn, for the threads of the last one to fall asleep. */
const PAUSE = 20;

/** Seconds of one contender's turns. */
export class Times {
  readonly seconds: readonly number[];
  /** Middle, least and most; the mean of the two in the middle where their number is even. */
  readonly median: number;
  readonly least: number;
  readonly most: number;

  constructor(seconds: readonly number[]) {
    const sorted = seconds.toSorted((a, b) => a - b);
    const half = sorted.length / 2;
    this.seconds = seconds;
    this.median = (sorted[Math.ceil(half) - 1]! + sorted[Math.floor(half)]!) / 2;
    this.least = sorted[0]!;
    this.most = sorted.at(-1)!;
  }

  /** `1.23 s (1.20–1.31)`, or in milliseconds. */
  toString(): string {
    const [unit, scale] = this.median < 0.1 ? ["ms", 1000] : ["s", 1];
    const [median, least, most] = [this.median, this.least, this.most].map((value) => digits(value * scale));
    return `${median} ${unit} (${least}–${most})`;
  }
}

const digits = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));

export interface Ratio {
  /** Of the medians. */
  ratio: number;
  /** The least and the most of any round. */
  least: number;
  most: number;
}

/** How many times as long `a` took as `b`, rounds side by side. */
export function ratioOf(a: Times, b: Times): Ratio {
  const each = a.seconds.map((seconds, round) => seconds / b.seconds[round]!);
  return { ratio: a.median / b.median, least: Math.min(...each), most: Math.max(...each) };
}

/** `1.52 (1.47–1.60)` */
export const formatRatio = ({ ratio, least, most }: Ratio): string =>
  `${ratio.toFixed(2)} (${least.toFixed(2)}–${most.toFixed(2)})`;

/** A warm-up of each contender, then `rounds` rounds of all of them, in the order given. */
export async function interleaved<Name extends string>(
  contenders: Readonly<Record<Name, Contender>>,
  rounds: number,
): Promise<Record<Name, Times>> {
  const entries = Object.entries(contenders) as [Name, Contender][];
  const seconds = new Map<Name, number[]>(entries.map(([name]) => [name, []]));
  for (const [, turn] of entries) await turn();
  for (let round = 0; round < rounds; round++) {
    for (const [name, turn] of entries) {
      await pause(PAUSE);
      const started = performance.now();
      const own = await turn();
      seconds.get(name)!.push(own ?? (performance.now() - started) / 1000);
    }
  }
  return Object.fromEntries([...seconds].map(([name, each]) => [name, new Times(each)])) as Record<Name, Times>;
}

/** What `--rounds` says. Throws `bench.rounds` for fewer than `fewest`. */
export function parseRounds(text: string | undefined, fewest = FEWEST_ROUNDS): number {
  const rounds = Number(text ?? FEWEST_ROUNDS);
  if (Number.isInteger(rounds) && rounds >= fewest) return rounds;
  throw new KinoraError("bench.rounds", "a median needs rounds", {
    expected: `--rounds with a whole number, ${fewest} or more`,
    actual: `${text}`,
  });
}

/** `load 0.4`: processes that wanted a core in the last minute, the bench's own threads among them. */
export const load = (): string => `load ${loadavg()[0]!.toFixed(1)}`;
