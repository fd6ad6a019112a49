// How the versions of a store fare: generations and their errors, speed and memory beside the version they replaced, what
// people think of the films, and which versions need a look, with why. A sum over records and logs; nothing is decided here.
import type { UseRecord } from "../protocol/registry.ts";
import { type Address, formatAddress } from "./address.ts";
import { monthOf, readRecords } from "./records.ts";
import type { Registry } from "./registry.ts";
import { type NameState, statusOf, type VersionStatus } from "./state.ts";

/** A version and how it fared. */
export interface ReviewedVersion {
  address: string;
  version: string;
  status: VersionStatus;
  generations: number;
  errors: number;
  /** Medians over the generations that did not fail. */
  seconds?: number | undefined;
  peakBytes?: number | undefined;
  /** Seconds of a step and a million pixels, the median: what sizes and steps do not change much. */
  cost?: number | undefined;
  feedback: { good: number; bad: number };
  /** Of feedback and errors, against the month before. */
  trend?: "better" | "worse" | "same" | undefined;
  /** Why it needs a look, a sentence each; empty where it does not. */
  concerns: string[];
}

/** Fewer generations or verdicts than these say nothing. */
const LEAST = { generations: 10, verdicts: 5, unused: 1 };
/** Shares beyond which a version needs a look, and how much slower than the current version one may be. */
const MOST = { errors: 0.05, bad: 0.4, cost: 1.25 };

interface Counts {
  generations: number;
  errors: number;
  good: number;
  bad: number;
}

/** Every version that is in use or had any use in a month (`2026-11`). Throws what reading the store throws. */
export async function reviewStore(registry: Registry, month: string): Promise<ReviewedVersion[]> {
  const now = await recordsByVersion(registry, month);
  const before = await recordsByVersion(registry, previousMonth(month));
  const reviewed: ReviewedVersion[] = [];
  for await (const address of registry.names()) {
    const state = await registry.state(address);
    reviewed.push(...reviewName(address, state, month, now, before));
  }
  return reviewed;
}

function reviewName(
  address: Address,
  state: NameState,
  month: string,
  now: ReadonlyMap<string, UseRecord[]>,
  before: ReadonlyMap<string, UseRecord[]>,
): ReviewedVersion[] {
  const name = formatAddress(address);
  const rows: ReviewedVersion[] = [];
  for (const version of state.versions.values()) {
    const key = `${name}@${version.version}`;
    const records = now.get(key) ?? [];
    const status = statusOf(state, version);
    const counts = countsOf(state, version.version, month, records);
    const used = counts.generations + counts.good + counts.bad > 0;
    if (!used && status !== "current" && status !== "trial") continue;
    const last = countsOf(state, version.version, previousMonth(month), before.get(key) ?? []);
    const done = records.filter(({ error }) => error === undefined);
    rows.push({
      ...{ address: name, version: version.version, status },
      ...{ generations: counts.generations, errors: counts.errors },
      seconds: median(done.flatMap(({ seconds }) => seconds ?? [])),
      peakBytes: median(done.flatMap(({ peakBytes }) => peakBytes ?? [])),
      cost: median(done.flatMap(costOf)),
      feedback: { good: counts.good, bad: counts.bad },
      trend: trendOf(last, counts),
      concerns: [],
    });
  }
  const current = rows.find(({ status }) => status === "current");
  for (const row of rows) row.concerns.push(...concernsOf(row, current));
  return rows;
}

async function recordsByVersion(registry: Registry, month: string): Promise<Map<string, UseRecord[]>> {
  const found = new Map<string, UseRecord[]>();
  for await (const record of readRecords(registry.storage, month)) {
    const key = `${record.address}@${record.version}`;
    const list = found.get(key);
    if (list) list.push(record);
    else found.set(key, [record]);
  }
  return found;
}

function countsOf({ events }: NameState, version: string, month: string, records: readonly UseRecord[]): Counts {
  const verdicts = events.flatMap(({ at, what }) =>
    what.type === "feedback" && what.version === version && monthOf(at) === month ? [what.verdict] : [],
  );
  const good = verdicts.filter((verdict) => verdict === "good").length;
  const errors = records.filter(({ error }) => error !== undefined).length;
  return { generations: records.length, errors, good, bad: verdicts.length - good };
}

function costOf({ seconds, steps, width, height, frames }: UseRecord): number | [] {
  return seconds === undefined ? [] : seconds / ((steps * width * height * frames) / 1e6);
}

/** By the share of errors, and where that is the same, of bad verdicts; undefined where either month has too few. */
function trendOf(before: Counts, now: Counts): ReviewedVersion["trend"] {
  const shares = ({ generations, errors, good, bad }: Counts) => [
    generations >= LEAST.generations ? errors / generations : undefined,
    good + bad >= LEAST.verdicts ? bad / (good + bad) : undefined,
  ];
  const [was, is] = [shares(before), shares(now)];
  const changes = is.flatMap((share, i) => (share === undefined || was[i] === undefined ? [] : [share - was[i]]));
  if (changes.length === 0) return undefined;
  const change = changes.find((value) => Math.abs(value) >= 0.02);
  return change === undefined ? "same" : change < 0 ? "better" : "worse";
}

function concernsOf(row: ReviewedVersion, current: ReviewedVersion | undefined): string[] {
  const { generations, errors, feedback, cost, status, trend } = row;
  const concerns: string[] = [];
  const say = (share: number) => `${Math.round(100 * share)} %`;
  if (generations >= LEAST.generations && errors / generations > MOST.errors)
    concerns.push(`${say(errors / generations)} of generations fail: roll back, or test it again`);
  const verdicts = feedback.good + feedback.bad;
  if (verdicts >= LEAST.verdicts && feedback.bad / verdicts > MOST.bad)
    concerns.push(`${say(feedback.bad / verdicts)} of ${verdicts} verdicts are bad: retrain, or roll back`);
  if (row !== current && cost !== undefined && current?.cost && cost > MOST.cost * current.cost)
    concerns.push(`it is ${(cost / current.cost).toFixed(2)} times as slow as the current version`);
  if (status === "deprecated" && generations > 0)
    concerns.push(`deprecated, and used ${generations} times: move its users to another version`);
  if (status === "current" && generations < LEAST.unused) concerns.push("not used in this month: retire it?");
  if (trend === "worse") concerns.push("worse than in the month before");
  return concerns;
}

export function previousMonth(month: string): string {
  const [year, number] = month.split("-").map(Number) as [number, number];
  return monthOf(new Date(Date.UTC(year, number - 2, 1)));
}

function median(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

/** The text form that Prometheus reads. */
export function prometheusText(rows: readonly ReviewedVersion[]): string {
  const quoted = (text: string) => text.replace(/[\\"\n]/g, (c) => (c === "\n" ? "\\n" : `\\${c}`));
  const metrics: [name: string, type: string, help: string, of: (row: ReviewedVersion) => number | undefined][] = [
    ["generations", "gauge", "Generations in the month.", ({ generations }) => generations],
    ["errors", "gauge", "Generations that failed in the month.", ({ errors }) => errors],
    ["seconds", "gauge", "Median seconds of a generation.", ({ seconds }) => seconds],
    ["peak_bytes", "gauge", "Median peak memory of a generation.", ({ peakBytes }) => peakBytes],
    ["feedback_good", "gauge", "Good verdicts in the month.", ({ feedback }) => feedback.good],
    ["feedback_bad", "gauge", "Bad verdicts in the month.", ({ feedback }) => feedback.bad],
  ];
  const lines = metrics.flatMap(([name, type, help, of]) => [
    `# HELP kinora_lora_${name} ${help}`,
    `# TYPE kinora_lora_${name} ${type}`,
    ...rows.flatMap((row) => {
      const value = of(row);
      const labels = `lora="${quoted(row.address)}",version="${row.version}",status="${row.status}"`;
      return value === undefined ? [] : [`kinora_lora_${name}{${labels}} ${value}`];
    }),
  ]);
  return `${lines.join("\n")}\n`;
}
