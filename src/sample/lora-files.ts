// The LoRA files of a generation: checked against the model before anything loads, each with the expert it is for.
import { openTensorSource } from "../io/tensor-source.ts";
import { checkFit, layersOf } from "../lora/fit.ts";
import { readLora } from "../lora/read.ts";
import { type RecognizedLora, recognizeLora } from "../lora/recognize.ts";
import type { WanModel } from "../models/wan/params.ts";
import { ditShapes } from "../models/wan/weight-shapes.ts";
import type { LoraExpert } from "../protocol/recipe.ts";
import type { LoraChoice } from "./request.ts";

export interface ResolvedLora {
  path: string;
  strength: number;
  expert: LoraExpert;
}

/**
 * Checks every LoRA against the model, by names and shapes alone, and settles the expert of each.
 * Throws `lora.*` listing what does not fit.
 */
export function resolveLoras(
  model: WanModel,
  choices: readonly LoraChoice[],
): { loras: ResolvedLora[]; notes: string[] } {
  const notes: string[] = [];
  const loras = choices.map(({ path, strength, expert }) => {
    const recognized = inspectLora(model, path);
    if (model.boundary === undefined) return { path, strength, expert: "low" as const };
    const settled = expert ?? recognized.expert;
    if (settled === undefined) notes.push(`${path} names no expert: it is put on both (@high or @low chooses one)`);
    else if (expert !== undefined && expert !== "both" && recognized.expert && recognized.expert !== expert) {
      notes.push(`${path} says it is for the ${recognized.expert}-noise expert and is put on the ${expert}-noise one`);
    }
    return { path, strength, expert: settled ?? ("both" as const) };
  });
  return { loras, notes };
}

function inspectLora(model: WanModel, path: string): RecognizedLora {
  using source = openTensorSource(path);
  const recognized = recognizeLora(source);
  // The reader has the words for files it cannot use.
  if (recognized.modules.length === 0 || recognized.others.size > 0 || recognized.unmatched.length > 0) readLora(path);
  checkFit(layersOf(ditShapes(model.dit)), recognized.modules, {
    message: `${path} does not fit ${model.name}: ${recognized.label}`,
    hint: recognized.models[0] ? `use it with --task ${recognized.models[0]}` : "kinora models inspect FILE says more",
  });
  return recognized;
}
