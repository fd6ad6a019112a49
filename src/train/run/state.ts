// The state of a run on disk: one file for each expert's weights and optimizer, and state.json that names the current
// ones. state.json is replaced in one piece, last: a kill at any moment leaves the state before or after, never a mix.
import { existsSync } from "node:fs";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { KinoraError } from "../../base/errors.ts";
import { toFloat32 } from "../../base/float-formats.ts";
import { makeFolder, writeFileAtomic } from "../../io/atomic.ts";
import { SafetensorsFile } from "../../io/safetensors.ts";
import { writeSafetensors } from "../../io/safetensors-writer.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { ExpertModel } from "./expert-model.ts";

const expertName = z.enum(["high", "low"]);

const expertState = z.strictObject({
  /** Within the run's folder. */
  file: z.string(),
  /** What its optimizer counts; `step` is how many steps this expert has trained. */
  numbers: z.intersection(z.object({ step: z.int() }), z.record(z.string(), z.number())),
});

const runStateSchema = z.strictObject({
  kind: z.literal("kinora.train-state"),
  version: z.literal(2),
  /** Steps done; everything else is a function of this number and the configuration. */
  step: z.int(),
  /** What must not change between a run and its continuation, by setting. */
  fixed: z.record(z.string(), z.string()),
  /** Of each expert that has trained. */
  smoothedLoss: z.partialRecord(expertName, z.number()),
  /** Unix seconds of the first start; seconds at work over all sessions. */
  startedAt: z.number(),
  seconds: z.number(),
  sessionId: z.int(),
  experts: z.partialRecord(expertName, expertState),
  /** The steps that each expert had trained when its held-out loss was last computed. */
  judged: z.partialRecord(expertName, z.int()),
  /** Experts whose held-out loss was due when they were not in memory: it is computed when their turn comes. */
  toJudge: z.array(expertName),
  /** The previews of this very step are not made yet. */
  toPreview: z.boolean(),
  /** Files of steps and epochs that this run wrote and that are still wanted, by save, the oldest first. */
  outputs: z.array(z.array(z.string())),
  finished: z.boolean(),
});
export type RunState = z.infer<typeof runStateSchema>;
export type SavedExpert = z.infer<typeof expertState>;

/** The state of a run that has not begun. */
export function freshState(fixed: Record<string, string>): RunState {
  const startedAt = Date.now() / 1000;
  return {
    kind: "kinora.train-state",
    version: 2,
    step: 0,
    fixed,
    smoothedLoss: {},
    startedAt,
    seconds: 0,
    sessionId: Math.floor(startedAt * 1000) % 2 ** 31,
    experts: {},
    judged: {},
    toJudge: [],
    toPreview: false,
    outputs: [],
    finished: false,
  };
}

const PARAMETER = "parameter/";
const OPTIMIZER = "optimizer/";
/** Within the run's folder. */
export const stateFolder = "state";
const fileName = "state.json";

/** The state to go on from; undefined for a fresh folder. Throws `train.bad-state`. */
export async function readState(output: string): Promise<RunState | undefined> {
  const path = join(output, fileName);
  if (!existsSync(path)) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, "utf8"));
  } catch (cause) {
    throw new KinoraError("train.bad-state", `${path} cannot be read`, { cause, hint: "choose another output" });
  }
  const parsed = runStateSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new KinoraError("train.bad-state", `${path} is no state of this version of Kinora`, {
    actual: parsed.error.issues[0]?.path.join("."),
    hint: "choose another output, or go on with the version that wrote it",
  });
}

/** Replaces the state, then removes files of older ones. Throws `io.*`; the state before is then still whole. */
export async function writeState(output: string, state: RunState): Promise<void> {
  await writeFileAtomic(join(output, fileName), `${JSON.stringify(state, null, 2)}\n`);
  const current = new Set(Object.values(state.experts).map(({ file }) => file));
  for (const name of await readdir(join(output, stateFolder)).catch(() => [])) {
    const file = `${stateFolder}/${name}`;
    if (/^(?:high|low)-\d+\.safetensors$/.test(name) && !current.has(file))
      await rm(join(output, file), { force: true });
  }
}

/** Saves what trains in an expert after `step` steps of the run. */
export async function saveExpert(
  output: string,
  { expert, training }: ExpertModel,
  step: number,
): Promise<SavedExpert> {
  const { parameters, optimizer } = training!;
  const { tensors, numbers } = optimizer.state();
  const file = `${stateFolder}/${expert}-${String(step).padStart(8, "0")}.safetensors`;
  await makeFolder(join(output, stateFolder));
  const entries = (prefix: string, tensors: ReadonlyMap<string, Tensor>) =>
    [...tensors].map(([name, tensor]) => ({
      name: prefix + name,
      dtype: tensor.dtype,
      shape: tensor.shape,
      bytes: () => tensor.readBytes(),
    }));
  await writeSafetensors(join(output, file), [...entries(PARAMETER, parameters), ...entries(OPTIMIZER, tensors)], {
    kind: "kinora.train-expert",
    expert,
  });
  return { file, numbers: { ...numbers, step: optimizer.step } };
}

/** Puts a saved expert's values into a model that was set up alike. Throws `train.bad-state`, `io.*`. */
export function restoreExpert(output: string, { training }: ExpertModel, saved: SavedExpert): void {
  const { parameters, optimizer } = training!;
  const path = join(output, saved.file);
  using file = SafetensorsFile.open(path);
  const restore = (prefix: string, tensors: ReadonlyMap<string, Tensor>) => {
    for (const [name, tensor] of tensors) {
      const key = prefix + name;
      const stored = file.has(key) ? file.info(key) : undefined;
      if (stored?.dtype !== tensor.dtype || String(stored.shape) !== String(tensor.shape)) {
        throw new KinoraError("train.bad-state", `${path} does not fit this run: ${name}`, {
          expected: `${tensor.dtype} [${tensor.shape}]`,
          actual: stored ? `${stored.dtype} [${stored.shape}]` : "no such tensor",
        });
      }
      tensor.writeBytes(file.bytes(key));
    }
  };
  restore(PARAMETER, parameters);
  restore(OPTIMIZER, optimizer.state().tensors);
  optimizer.restore(saved.numbers);
}

/** The trained values of a saved expert, read one by one while the file is mapped. */
export class SavedParameters implements Disposable {
  readonly #file: SafetensorsFile;
  readonly names: readonly string[];

  constructor(output: string, saved: SavedExpert) {
    this.#file = SafetensorsFile.open(join(output, saved.file));
    this.names = this.#file.names
      .filter((name) => name.startsWith(PARAMETER))
      .map((name) => name.slice(PARAMETER.length));
  }

  shape(name: string): readonly number[] {
    return this.#file.info(PARAMETER + name).shape;
  }

  values(name: string): Float32Array {
    const values = toFloat32(this.#file.bytes(PARAMETER + name), "f32");
    this.#file.discard(PARAMETER + name);
    return values;
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}
