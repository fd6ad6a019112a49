// The state of a run on disk. state/ holds a file for each expert's weights and optimizer, kept/ those of earlier states that
// are kept and a record of each; state.json is the newest record, replaced in one piece and last: a kill at any moment leaves
// the state before or after, never a mix. Nothing read back is trusted: records carry their own hash and those of their
// files, and name files of this folder alone.
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { isKinoraError, KinoraError } from "../../base/errors.ts";
import { finished } from "../../base/generators.ts";
import { makeFolder, replaceFile, writeError, writeFileAtomic } from "../../io/atomic.ts";
import type { HashCache } from "../../io/content-hash.ts";
import { insideFolder } from "../../io/inside.ts";
import { readBack } from "../../io/read-back.ts";
import { type DataEvent, hashing } from "./data.ts";
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
export function freshState(fixed: Record<string, string>, toPreview: boolean, fixedTime?: number): RunState {
  const startedAt = fixedTime ?? Date.now() / 1000;
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

/** Within the run's folder: records of all states that are kept, and the files of all but the newest. */
export const keptFolder = "kept";
const keptRecord = /^(\d{8,16})\.json$/;
const recordName = (step: number): string => `${stepName(step)}.json`;

/** The newest state; that after `step` steps, where it is kept. */
const recordPath = (output: string, step?: number): string =>
  step === undefined ? join(output, "state.json") : join(output, keptFolder, recordName(step));

/** The names of a state's files, without their folder. */
const fileNames = ({ experts }: RunState): string[] => Object.values(experts).map(({ file }) => basename(file));

/** What a record says, its files not looked at; a reason where it cannot be trusted. */
async function readRecord(output: string, step?: number): Promise<RunState | { why: string } | undefined> {
  const path = recordPath(output, step);
  const found = await readBack(path, z.looseObject({ sha256: z.string() }));
  if (found.state === "missing") return undefined;
  if (found.state === "damaged") return { why: found.why };
  const { sha256, ...rest } = found.value;
  const parsed = recordSchema.safeParse(found.value);
  if (!parsed.success) return { why: "is not a training state of this version of Kinora" };
  if (recordHash(rest) !== sha256) return { why: "has changed since it was written" };
  const { kind: _kind, version: _version, sha256: _hash, ...state } = parsed.data;
  try {
    const files = Object.values(state.experts).map(({ file }) => file);
    const places = [...state.outputs.flat(), ...files, ...fileNames(state).map((name) => `${keptFolder}/${name}`)];
    for (const file of places) insideFolder(output, file, { code: "train.bad-state", file: path });
  } catch (error) {
    if (!isKinoraError(error)) throw error;
    return { why: error.message };
  }
  return state;
}

/** The settings a run's newest state was trained with, by name; undefined where there is none that can be trusted. */
export async function readRunFacts(output: string): Promise<Record<string, string> | undefined> {
  const record = await readRecord(output);
  return record === undefined || "why" in record ? undefined : record.fixed;
}

/** What is wrong with an expert's file; undefined where it is what was written. */
async function* fileFault(
  output: string,
  { file, sha256 }: SavedExpert,
  hashes: HashCache,
  signal?: AbortSignal,
): AsyncGenerator<DataEvent, string | undefined> {
  const place = join(output, file);
  const kept = join(output, keptFolder, basename(file));
  try {
    const hash = yield* hashing(hashes, existsSync(place) ? place : kept, signal, "anew");
    return hash === sha256 ? undefined : `${file} is damaged: its SHA-256 does not match`;
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
  for (const step of keptSteps(await ownNames(join(output, keptFolder)))) {
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
  const other = "choose another output to start over";
  return new KinoraError("train.bad-state", `the state of the run in ${output} cannot be used: ${what}`, {
    hint:
      step === undefined
        ? other
        : `the state after step ${step} is intact: \`from\` ${step} resumes from it; or ${other}`,
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
    throw await badState(output, `no state was saved after step ${from}`, hashes);
  }
  const name = from === undefined ? "state.json" : `the record of step ${from}`;
  if ("why" in record) throw await badState(output, `${name} ${record.why}`, hashes);
  return record;
}

/**
 * Reads every file of a state and holds it to its hash; all are where the record says then. Throws `train.bad-state` as
 * {@link readState} does.
 */
export async function* checkState(
  output: string,
  state: RunState,
  hashes: HashCache,
  signal?: AbortSignal,
): AsyncGenerator<DataEvent> {
  for (const saved of Object.values(state.experts)) {
    const fault = yield* fileFault(output, saved, hashes, signal);
    if (fault !== undefined) throw await badState(output, fault, hashes, state.step);
    // A kept state, or a run that was killed while it went back to one.
    const place = join(output, saved.file);
    if (existsSync(place)) continue;
    await makeFolder(join(output, stateFolder));
    await replaceFile(join(output, keptFolder, basename(place)), place).catch((error: unknown) => {
      throw writeError(error, place);
    });
  }
}

/** Names in a folder of the run that this file writes. */
const ownNames = async (folder: string): Promise<string[]> =>
  (await readdir(folder).catch(() => [])).filter((name) => keptRecord.test(name) || expertFile.test(name));

/**
 * Puts every file where it belongs and removes what no state needs: the current state's in state/, those of `keep - 1`
 * earlier ones in kept/.
 */
async function arrange(output: string, state: RunState, keep: number): Promise<void> {
  const [now, before] = [join(output, stateFolder), join(output, keptFolder)];
  const current = new Set(fileNames(state));
  const records = new Set([recordName(state.step)]);
  const earlier = new Set<string>();
  // A state beyond this one is of a course that was given up.
  const steps = keptSteps(await ownNames(before)).filter((step) => step < state.step);
  for (const step of steps.slice(0, keep - 1)) {
    const record = await readRecord(output, step);
    if (!record || "why" in record) continue;
    records.add(recordName(step));
    for (const name of fileNames(record)) earlier.add(name);
  }
  for (const name of await ownNames(before)) {
    if (current.has(name) && !existsSync(join(now, name))) await replaceFile(join(before, name), join(now, name));
    else if (!records.has(name) && !earlier.has(name)) await rm(join(before, name), { force: true });
  }
  for (const name of await ownNames(now)) {
    if (current.has(name)) continue;
    if (earlier.has(name)) await replaceFile(join(now, name), join(before, name));
    else await rm(join(now, name), { force: true });
  }
}

/** Replaces the state; `keep` are kept, this one included. Throws `io.*`; the state before is then still whole. */
export async function writeState(output: string, state: RunState, keep: number): Promise<void> {
  const record = recordOf(state);
  await makeFolder(join(output, keptFolder));
  await writeFileAtomic(recordPath(output, state.step), record);
  await writeFileAtomic(recordPath(output), record);
  await arrange(output, state, keep).catch((error: unknown) => {
    throw writeError(error, join(output, keptFolder));
  });
}
