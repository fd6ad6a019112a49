// What would stop a run late, told before anything long begins: files of another model, patterns that select nothing.
import { checkTargets } from "../lora/attach.ts";
import { checkAutoencoder, checkTextEncoder, checkTransformer } from "../models/wan/check-files.ts";
import type { CheckpointRole, CheckpointSearch } from "../models/wan/checkpoint-files.ts";
import { ditShapes } from "../models/wan/weight-shapes.ts";
import { selectsLinear } from "./expert-model.ts";
import type { TrainSettings } from "./settings.ts";

/** The files a run reads. Previews use both experts, also where one trains. */
export function rolesOf({ model, experts }: TrainSettings, { previews }: { previews: boolean }): CheckpointRole[] {
  const all = model.boundary === undefined ? (["low"] as const) : (["high", "low"] as const);
  return [...(previews ? all : experts.train), "vae", "textEncoder", "tokenizer"];
}

/**
 * Reads the headers of the run's files.
 * @throws KinoraError `checkpoint.missing`, `checkpoint.wrong-model`, `lora.no-target`, `weights.*`, `vae.statistics`, `io.*`.
 */
export function checkReady(settings: TrainSettings, files: CheckpointSearch, options: { previews: boolean }): void {
  const { model, kind, lora } = settings;
  const roles = rolesOf(settings, options);
  files.require(roles);
  for (const role of roles) if (role === "high" || role === "low") checkTransformer(files.file(role), model);
  checkAutoencoder(files.file("vae"), model);
  checkTextEncoder(files.file("textEncoder"), model);
  if (kind === "full") return;
  const matrices = [...ditShapes(model.dit)].filter(([name, shape]) => shape.length === 2 && name.endsWith(".weight"));
  checkTargets(
    matrices.map(([name]) => name.replace(/\.weight$/, "")),
    selectsLinear(lora.targets),
  );
}
