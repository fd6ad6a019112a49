// The state of a run on disk. state/ holds a file for each expert's weights and optimizer and a record of every state that is
// kept; state.json is the newest record, replaced in one piece and last: a kill at any moment leaves the state before or
// after, never a mix. Nothing read back is trusted: records carry their own hash and those of their files, and name files
// of this folder alone.
import { createHash } from "node:crypto";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { isKinoraError, KinoraError } from "../../base/errors.ts";
import { finished, mapped } from "../../base/generators.ts";
import { makeFolder, writeFileAtomic } from "../../io/atomic.ts";
import type { HashCache } from "../../io/content-hash.ts";
import { insideFolder } from "../../io/inside.ts";
import { readBack } from "../../io/read-back.ts";
import type { DataEvent } from "./data.ts";
import { expertFile, type SavedExpert, savedExpertSchema, stateFolder, stepName } from "./saved-expert.ts";

const expertName = z.enum(["high", "low"]);
const count = z.int().min(0);

const recordSchema = z.strictObject({
  kind: z.literal("kinora.train-state"),
  version: z.literal(3),
  /** Steps done; everything else is a function of this number and the configuration. */
  step: count,
  /** What must not change between a run and its continuation, by setting. */
  fixed: z.record(z.string(), z.string()),
  /** Of each expert that has trained. */
  smoothedLoss: z.partialRecord(expertName, z.number()),
  /** Unix seconds of the first start; seconds at work over all sessions. */
  startedAt: z.number(),
  seconds: z.number(),
  sessionId: count,
  experts: z.partialRecord(expertName, savedExpertSchema),
  /** The steps that each expert had trained when its held-out loss was last computed. */
  judged: z.partialRecord(expertName, count),
  /** Experts whose held-out loss was due when they were not in memory: it is computed when their turn comes. */
  toJudge: z.array(expertName),
  /** The previews of this very step are not made yet. */
  toPreview: z.boolean(),
  /** Files of steps and epochs that this run wrote and that are still wanted, by save, the oldest first: names alone. */
  outputs: z.array(z.array(z.string().regex(/^[^/\\]+\.safetensors$/))),
  finished: z.boolean(),
  /** SHA-256 of everything above, as JSON without blanks. */
  sha256: z.string(),
});
export type RunState = Omit<z.infer<typeof recordSchema>, "kind" | "version" | "sha256">;

/** The state of a run that has not begun. */
export function freshState(fixed: Record<string, string>, toPreview: boolean): RunState {
  const startedAt = Date.now() / 1000;
  return {
    step: 0,
    fixed,
    smoothedLoss: {},
    startedAt,
    seconds: 0,
    sessionId: Math.floor(startedAt * 1000) % 2 ** 31,
    experts: {},
    judged: {},
    toJudge: [],
    toPreview,
    outputs: [],
    finished: false,
  };
}

const recordHash = (record: object): string => createHash("sha256").update(JSON.stringify(record)).digest("hex");

function recordOf(state: RunState): string {
  const record = { kind: "kinora.train-state", version: 3, ...state };
  return `${JSON.stringify({ ...record, sha256: recordHash(record) }, null, 2)}\n`;
}

/** The newest state; that after `step` steps, where it is kept. */
const recordPath = (output: string, step?: number): string =>
  step === undefined ? join(output, "state.json") : join(output, stateFolder, `${stepName(step)}.json`);

const keptRecord = /^(\d{8,16})\.json$/;

/** What a record says, its files not looked at; a reason where it cannot be trusted. */
async function readRecord(output: string, step?: number): Promise<RunState | { why: string } | undefined> {
  const path = recordPath(output, step);
  const found = await readBack(path, z.looseObject({ sha256: z.string() }));
  if (found.state === "missing") return undefined;
  if (found.state === "damaged") return { why: found.why };
  const { sha256, ...rest } = found.value;
  const parsed = recordSchema.safeParse(found.value);
  if (!parsed.success) return { why: "is no state of this version of Kinora" };
  if (recordHash(rest) !== sha256) return { why: "is not as it was written" };
  const { kind: _kind, version: _version, sha256: _hash, ...state } = parsed.data;
  try {
    const files = [...state.outputs.flat(), ...Object.values(state.experts).map(({ file }) => file)];
    for (const file of files) insideFolder(output, file, { code: "train.bad-state", file: path });
  } catch (error) {
    if (!isKinoraError(error)) throw error;
    return { why: error.message };
  }
  return state;
}

/** What is wrong with an expert's file; undefined where it is what was written. */
async function* fileFault(
  output: string,
  { file, sha256 }: SavedExpert,
  hashes: HashCache,
): AsyncGenerator<DataEvent, string | undefined> {
  try {
    const hash = yield* mapped(
      hashes.hash(join(output, file), "anew"),
      (progress): DataEvent => ({ type: "hashing", ...progress }),
    );
    return hash === sha256 ? undefined : `${file} is not as it was written: its SHA-256 is another`;
  } catch (error) {
    if (!isKinoraError(error)) throw error;
    return `${file} cannot be read: ${error.message}`;
  }
}

/** Steps of the records that are kept, the newest first. */
const keptSteps = (names: readonly string[]): number[] =>
  names.flatMap((name) => (keptRecord.test(name) ? [Number.parseInt(name, 10)] : [])).sort((a, b) => b - a);

/** The newest kept state that is whole, but for one. */
async function wholeState(output: string, hashes: HashCache, except?: number): Promise<number | undefined> {
  for (const step of keptSteps(await readdir(join(output, stateFolder)).catch(() => []))) {
    const record = step === except ? undefined : await readRecord(output, step);
    if (!record || "why" in record || record.step !== step) continue;
    let whole = true;
    for (const saved of Object.values(record.experts))
      whole &&= (await finished(fileFault(output, saved, hashes))) === undefined;
    if (whole) return step;
  }
  return undefined;
}

async function badState(output: string, what: string, hashes: HashCache, except?: number): Promise<KinoraError> {
  const step = await wholeState(output, hashes, except);
  const other = "choose another output to begin again";
  return new KinoraError("train.bad-state", `the state of the run in ${output} cannot be used: ${what}`, {
    hint:
      step === undefined ? other : `the state after step ${step} is whole: --from ${step} goes on from it; or ${other}`,
  });
}

/**
 * The state to go on from: the newest, or the kept one after `from` steps; undefined for a fresh folder. Its files are
 * checked by {@link checkState}. Throws `train.bad-state`, with the step of a state that is whole where one is kept.
 */
export async function readState(output: string, hashes: HashCache, from?: number): Promise<RunState | undefined> {
  const record = await readRecord(output, from);
  if (record === undefined) {
    if (from === undefined) return undefined;
    throw await badState(output, `no state after step ${from} is kept`, hashes);
  }
  const name = from === undefined ? "state.json" : `the record of step ${from}`;
  if ("why" in record) throw await badState(output, `${name} ${record.why}`, hashes);
  return record;
}

/** Reads every file of a state and holds it to its hash. Throws `train.bad-state` as {@link readState} does. */
export async function* checkState(output: string, state: RunState, hashes: HashCache): AsyncGenerator<DataEvent> {
  for (const saved of Object.values(state.experts)) {
    const fault = yield* fileFault(output, saved, hashes);
    if (fault !== undefined) throw await badState(output, fault, hashes, state.step);
  }
}

/**
 * Replaces the state, then removes what no kept state needs; `keep` counts them all. Throws `io.*`; the state before is then
 * still whole.
 */
export async function writeState(output: string, state: RunState, keep: number): Promise<void> {
  const record = recordOf(state);
  await makeFolder(join(output, stateFolder));
  await writeFileAtomic(recordPath(output, state.step), record);
  await writeFileAtomic(recordPath(output), record);
  const names = await readdir(join(output, stateFolder)).catch(() => []);
  const needed = new Set<string>();
  const need = ({ step, experts }: RunState) => {
    needed.add(`${stepName(step)}.json`);
    for (const { file } of Object.values(experts)) needed.add(file.slice(stateFolder.length + 1));
  };
  need(state);
  // A state beyond this one is of a course that was given up.
  const earlier = keptSteps(names).filter((step) => step < state.step);
  for (const step of earlier.slice(0, keep - 1)) {
    const kept = await readRecord(output, step);
    if (kept && !("why" in kept)) need(kept);
  }
  for (const name of names) {
    if (needed.has(name) || !(keptRecord.test(name) || expertFile.test(name))) continue;
    await rm(join(output, stateFolder, name), { force: true });
  }
}
