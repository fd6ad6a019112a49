// The files a run leaves: LoRAs that other tools read, or whole transformers; one for each expert, named alike.
import { join } from "node:path";
import { fromFloat32 } from "../../base/float-formats.ts";
import { elementCount } from "../../base/shape.ts";
import { writeSafetensors } from "../../io/safetensors-writer.ts";
import { type AdapterValues, trainableKinds } from "../../lora/adapters/table.ts";
import { keyFormats } from "../../lora/key-formats.ts";
import { writeLora } from "../../lora/write.ts";
import type { Expert } from "../../models/wan/recognize.ts";
import type { TrainSettings } from "../config/settings.ts";
import { metadataOf, type RunFacts } from "./output-metadata.ts";
import { type SavedExpert, SavedParameters } from "./saved-expert.ts";
import type { RunState } from "./state.ts";

/** When a file is written: kohya's names tell it. */
export type OutputMoment = { at: "step"; step: number } | { at: "epoch"; epoch: number } | { at: "end" };

/** `{name}`, `{name}-step{step:08d}` or `{name}-{epoch:06d}`; experts are told in the name as they are in checkpoints. */
export function outputName(name: string, expert: Expert, experts: boolean, moment: OutputMoment): string {
  const stem = experts ? `${name}_${expert}_noise` : name;
  switch (moment.at) {
    case "step":
      return `${stem}-step${String(moment.step).padStart(8, "0")}.safetensors`;
    case "epoch":
      return `${stem}-${String(moment.epoch).padStart(6, "0")}.safetensors`;
    case "end":
      return `${stem}.safetensors`;
  }
}

/** Adapters from their saved parameters, e.g. `<module>.down`, which are read each time they are asked for. */
function adaptersOf(saved: SavedParameters, lora: TrainSettings["lora"]): AdapterValues[] {
  const kind = trainableKinds[lora.kind];
  const first = `.${kind.trained[0]}`;
  const modules = saved.names.filter((name) => name.endsWith(first)).map((name) => name.slice(0, -first.length));
  return modules.map((module) =>
    kind.fromTrained(module, lora.alpha, (part) => {
      const name = `${module}.${part}`;
      return { shape: saved.shape(name), values: () => saved.values(name) };
    }),
  );
}

/** The files of a run that is finished. */
export const finalFiles = (settings: TrainSettings, { experts }: Pick<RunState, "experts">): string[] =>
  settings.experts.train
    .filter((expert) => experts[expert])
    .map((expert) => outputName(settings.name, expert, settings.boundary !== undefined, { at: "end" }));

/** Writes the files of a moment, one for each expert that has trained; returns their names in the run's folder. */
export async function writeOutputs(
  settings: TrainSettings,
  experts: Partial<Record<Expert, SavedExpert>>,
  moment: OutputMoment,
  facts: RunFacts,
): Promise<string[]> {
  const written: string[] = [];
  for (const expert of settings.experts.train) {
    const saved = experts[expert];
    if (!saved) continue;
    const file = outputName(settings.name, expert, settings.boundary !== undefined, moment);
    const path = join(settings.output, file);
    const metadata = metadataOf(settings, expert, facts);
    using parameters = new SavedParameters(settings.output, saved);
    if (settings.kind === "lora") {
      const { keys, dtype } = settings.save;
      const adapters = adaptersOf(parameters, settings.lora);
      const whose = settings.boundary === undefined ? {} : { expert };
      await writeLora(path, adapters, { format: keyFormats[keys], dtype, metadata, ...whose });
    } else await writeTransformer(path, parameters, settings.save.dtype, metadata);
    written.push(file);
  }
  return written;
}

/** Every parameter under its official name; one is in memory at a time. */
async function writeTransformer(
  path: string,
  parameters: SavedParameters,
  dtype: "f32" | "bf16" | "f16",
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const tensors = parameters.names.map((name) => ({
    name,
    dtype,
    shape: parameters.shape(name),
    bytes: () => fromFloat32(parameters.values(name), dtype),
  }));
  const count = tensors.reduce((sum, { shape }) => sum + elementCount(shape), 0);
  await writeSafetensors(path, tensors, { ...metadata, "modelspec.architecture": "wan2.1", parameters: String(count) });
}
