// The LoRA files of a generation: checked against the model before anything loads, each with the expert it is for.
import { KinoraError } from "../base/errors.ts";
import { plural } from "../base/units.ts";
import { checkHash } from "../lora/checksum.ts";
import { changesNothing } from "../lora/describe.ts";
import { checkFit } from "../lora/fit.ts";
import { type ParsedLora, parseLora } from "../lora/parse.ts";
import { checkExcluded, openLora, refuseWhatIsNotRead, sourceOf, withoutExcluded } from "../lora/read.ts";
import { type RecognizedLora, recognizeLora } from "../lora/recognize.ts";
import type { WanModel } from "../models/wan/params.ts";
import { ditShapes } from "../models/wan/weight-shapes.ts";
import type { LoraExpert } from "../protocol/recipe.ts";
import type { LoraChoice } from "./request.ts";

export interface ResolvedLora {
  path: string;
  strength: number;
  expert: LoraExpert;
  /** Patterns of official module names that are left out. */
  exclude?: readonly string[];
  /** The version of a registry that the file is of. */
  registry?: string;
}

/**
 * Checks every LoRA against the model, by names and shapes, and that its data is what its writer wrote; settles the expert
 * of each. What a user should know of them comes as notes. Throws `lora.*` listing what does not fit.
 */
export function resolveLoras(
  model: WanModel,
  choices: readonly LoraChoice[],
): { loras: ResolvedLora[]; notes: string[] } {
  const notes: string[] = [];
  const all: ParsedLora[] = [];
  const loras = choices.map(({ path, strength, expert, exclude, registry }) => {
    const { recognized, whole, told } = inspectLora(model, path, exclude);
    all.push(whole);
    notes.push(...told.map((note) => `${path}: ${note}`));
    if (strength === 0) notes.push(`${path} has strength 0 and no effect`);
    else if (changesNothing(path)) notes.push(`${path} has no effect: all of its changes are zero`);
    const chosen = { path, strength, ...(exclude ? { exclude } : {}), ...(registry ? { registry } : {}) };
    if (model.boundary === undefined) return { ...chosen, expert: "low" as const };
    if (recognized.bothExperts) return { ...chosen, expert: expert ?? ("both" as const) };
    const settled = expert ?? recognized.expert;
    if (settled === undefined)
      notes.push(`${path} does not name an expert: it is applied to both (@high or @low chooses one)`);
    else if (expert !== undefined && expert !== "both" && recognized.expert && recognized.expert !== expert) {
      notes.push(
        `${path} says it is for the ${recognized.expert}-noise expert but is applied to the ${expert}-noise one`,
      );
    }
    return { ...chosen, expert: settled ?? ("both" as const) };
  });
  // A pattern is meant for all of the LoRAs together.
  checkExcluded(all, [...new Set(choices.flatMap(({ exclude }) => exclude ?? []))]);
  return { loras, notes };
}

function inspectLora(
  model: WanModel,
  path: string,
  exclude: readonly string[] | undefined,
): { recognized: RecognizedLora; whole: ParsedLora; told: string[] } {
  using source = openLora(path);
  const recognized = recognizeLora(source);
  const whole = parseLora(sourceOf(source));
  const parsed = withoutExcluded(whole, exclude);
  refuseWhatIsNotRead(parsed, path, source.names);
  const { bothExperts, label, models } = recognized;
  if (bothExperts && model.boundary === undefined) {
    throw new KinoraError("lora.both-experts", `${path} contains a LoRA for each of two experts`, {
      actual: `${model.name} has one transformer`,
      hint: "it may be for a 2.2 A14B model; kinora lora convert FILE --expert high|low extracts one of them",
    });
  }
  const places = parsed.adapters.map(({ place }) => place);
  checkFit(ditShapes(model.dit), places, {
    message: `${path} does not fit ${model.name}: ${label}`,
    hint: models[0]
      ? `use it with the model ${models[0]}`
      : "kinora models inspect FILE shows more; `exclude` leaves modules out",
  });
  const told = [...recognized.notes];
  const left = whole.adapters.length - places.length;
  if (left > 0) told.push(`${plural(left, "module")} of ${whole.adapters.length} left out`);
  const damaged = checkHash(source);
  if (damaged) told.push(damaged);
  return { recognized, whole, told };
}
