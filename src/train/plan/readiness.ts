// What would stop a run late, told before anything long begins: files of another model, patterns that select nothing.
import { countTargets } from "../../lora/targets.ts";
import { checkAutoencoder, checkTextEncoder, checkTransformer } from "../../models/wan/check-files.ts";
import type { CheckpointRole, CheckpointSearch } from "../../models/wan/checkpoint-files.ts";
import type { TrainSettings } from "../config/settings.ts";

/** The files a run reads. Previews use both experts, also where one trains. */
export function rolesOf({ model, experts }: TrainSettings, { previews }: { previews: boolean }): CheckpointRole[] {
  const all = model.boundary === undefined ? (["low"] as const) : (["high", "low"] as const);
  return [...(previews ? all : experts.train), "vae", "textEncoder", "tokenizer"];
}

/**
 * Reads the headers of the run's files. Returns words about what may not be meant: experts in each other's place, a text
 * encoder of another make.
 * @throws KinoraError `checkpoint.missing`, `checkpoint.wrong-model`, `lora.no-target`, `weights.*`, `vae.statistics`, `io.*`.
 */
export function checkReady(settings: TrainSettings, files: CheckpointSearch, options: { previews: boolean }): string[] {
  const { model, kind, lora, experts } = settings;
  const roles = rolesOf(settings, options);
  files.require(roles);
  const notes: string[] = [];
  for (const role of roles) {
    if (role !== "high" && role !== "low") continue;
    const path = files.file(role);
    const { expert } = checkTransformer(path, model);
    if (model.boundary === undefined || expert === undefined || expert === role) continue;
    const use = experts.train.includes(role) ? "trains" : "runs in previews";
    notes.push(`${path} is named like the ${expert}-noise expert but ${use} as the ${role}-noise one`);
  }
  notes.push(...checkAutoencoder(files.file("vae"), model).notes);
  notes.push(...checkTextEncoder(files.file("textEncoder"), model).notes);
  if (kind === "lora") countTargets(model, lora.targets);
  return notes;
}
