// What trains in an expert, on disk: its parameters and its optimizer's state in one safetensors file of the state folder.
// Which file is whose, and its hash: state.ts.
import { join } from "node:path";
import { z } from "zod";
import { KinoraError } from "../../base/errors.ts";
import { toFloat32 } from "../../base/float-formats.ts";
import { makeFolder } from "../../io/atomic.ts";
import { SafetensorsFile } from "../../io/safetensors.ts";
import { writeHashedSafetensors } from "../../io/safetensors-writer.ts";
import { openScope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { ExpertModel } from "./expert-model.ts";

/** Within the run's folder. */
export const stateFolder = "state";
const PARAMETER = "parameter/";
const OPTIMIZER = "optimizer/";
/** Values to write into files where they are not those that train. */
const SHOWN = "shown/";

/** How a step stands in names of files. */
export const stepName = (step: number): string => String(step).padStart(8, "0");

/** The name of an expert's file in the state folder. */
export const expertFile = /^(?:high|low)-\d{8,16}\.safetensors$/;

export const savedExpertSchema = z.strictObject({
  /** Within the run's folder, with a forward slash. */
  file: z.string().refine((file) => file.startsWith(`${stateFolder}/`) && expertFile.test(file.slice(6)), {
    error: `a file of ${stateFolder}/`,
  }),
  /** SHA-256 of the file. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  /** What its optimizer counts; `step` is how many steps this expert has trained. */
  numbers: z.intersection(z.object({ step: z.int().min(0) }), z.record(z.string(), z.number())),
});
export type SavedExpert = z.infer<typeof savedExpertSchema>;

/** Saves what trains in an expert after `step` steps of the run; the file is there whole or not at all. Throws `io.*`. */
export async function saveExpert(
  output: string,
  { expert, dit, training }: ExpertModel,
  step: number,
): Promise<SavedExpert> {
  const { parameters, optimizer } = training!;
  const { tensors, numbers } = optimizer.state();
  using _scope = openScope(dit.device);
  const shown = optimizer.shown?.() ?? new Map<string, Tensor>();
  const file = `${stateFolder}/${expert}-${stepName(step)}.safetensors`;
  await makeFolder(join(output, stateFolder));
  const entries = (prefix: string, all: ReadonlyMap<string, Tensor>) =>
    [...all].map(([name, tensor]) => ({
      name: prefix + name,
      dtype: tensor.dtype,
      shape: tensor.shape,
      bytes: () => tensor.readBytes(),
    }));
  const sha256 = await writeHashedSafetensors(
    join(output, file),
    [...entries(PARAMETER, parameters), ...entries(OPTIMIZER, tensors), ...entries(SHOWN, shown)],
    { kind: "kinora.train-expert", expert },
  );
  return { file, sha256, numbers: { ...numbers, step: optimizer.step } };
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
          hint: "it may have been written by another version of Kinora: choose another output, or use that version",
        });
      }
      tensor.writeBytes(file.bytes(key));
    }
  };
  restore(PARAMETER, parameters);
  restore(OPTIMIZER, optimizer.state().tensors);
  optimizer.restore(saved.numbers);
}

/** The values of a saved expert that go into files, read one by one while the file is mapped. */
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
    const key = this.#file.has(SHOWN + name) ? SHOWN + name : PARAMETER + name;
    const values = toFloat32(this.#file.bytes(key), "f32");
    this.#file.discard(key);
    return values;
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}
