// PEFT's configuration beside or inside a LoRA file: adapter_config.json of a PEFT folder, and the same fields as diffusers
// keeps them in a file's metadata. What it says of scales; whatever would make the matrices mean something else is refused.
// https://github.com/huggingface/peft/blob/v0.17.0/src/peft/tuners/lora/config.py
import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import { firstMatch } from "../base/foreign-pattern.ts";
import { readBackSync } from "../io/read-back.ts";

export const PEFT_CONFIG = "adapter_config.json";
const PEFT_WEIGHTS = ["adapter_model.safetensors", "adapter_model.bin"];

/** The largest configuration that is read. */
const MOST_BYTES = 16 * 2 ** 20;

const patternsSchema = z.record(z.string(), z.number()).nullish();

/** The fields that change what the tensors mean; the others are about training. */
const configSchema = z.looseObject({
  peft_type: z.string().nullish(),
  r: z.number().nullish(),
  lora_alpha: z.number().nullish(),
  /** LoHa's and LoKr's name for it. */
  alpha: z.number().nullish(),
  use_rslora: z.boolean().nullish(),
  rank_pattern: patternsSchema,
  alpha_pattern: patternsSchema,
  init_lora_weights: z.union([z.boolean(), z.string()]).nullish(),
  layer_replication: z.unknown().optional(),
});
export type PeftConfig = z.infer<typeof configSchema>;

/** Initialisations that change the base model: the saved matrices stand beside what is left of it. */
const changesBase = /^(?:pissa|olora|corda|loftq|lora_ga)/i;

/** The weights of a PEFT folder; any other path as it is. Throws `lora.peft-config` for a folder that lacks them. */
export function loraFileOf(path: string): string {
  if (!existsSync(join(path, PEFT_CONFIG))) return path;
  const weights = PEFT_WEIGHTS.map((name) => join(path, name)).find((file) => existsSync(file));
  if (weights !== undefined) return weights;
  throw new KinoraError("lora.peft-config", `${path} has an ${PEFT_CONFIG} and no weights`, {
    expected: PEFT_WEIGHTS.join(" or "),
    hint: "give the folder that the adapter was saved to",
  });
}

function invalid(where: string, actual: string, cause?: unknown): KinoraError {
  return new KinoraError("lora.peft-config", `${where} cannot be used`, {
    actual,
    hint: "the LoRA's scale is stored there: save it again with the tool that made it",
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Fields of a configuration, checked. Throws `lora.peft-config`. */
export function parsePeftConfig(value: unknown, where: string): PeftConfig {
  const { data, error } = configSchema.safeParse(value);
  if (!data) {
    const [issue] = error.issues;
    throw invalid(where, `${issue?.path.join(".")}: ${issue?.message}`);
  }
  const refuse = (what: string, hint: string) => new KinoraError("lora.unsupported", `${where}: ${what}`, { hint });
  const { peft_type: type, init_lora_weights: start, layer_replication: replicated } = data;
  if (type && !["LORA", "LOHA"].includes(type))
    throw refuse(
      `the adapter is ${type}`,
      "only LORA and LOHA are supported; merge it with PEFT, or train another kind",
    );
  if (typeof start === "string" && changesBase.test(start)) {
    throw refuse(
      `init_lora_weights is ${JSON.stringify(start)}, which changes the base model`,
      "save the adapter with PEFT's path_initial_model_for_weight_conversion, which turns it into a plain LoRA",
    );
  }
  if (replicated) throw refuse("layer_replication changes the model", "merge the adapter with PEFT");
  return data;
}

/** Where the configuration of the PEFT folder is that a file is the weights of; undefined for any other file. */
export function peftConfigPath(file: string): string | undefined {
  const path = join(dirname(file), PEFT_CONFIG);
  return PEFT_WEIGHTS.includes(basename(file)) && existsSync(path) ? path : undefined;
}

/** The same, read. Throws `lora.peft-config`, `lora.unsupported`. */
export function peftConfigBeside(file: string): PeftConfig | undefined {
  const path = peftConfigPath(file);
  if (path === undefined) return undefined;
  const found = readBackSync(path, z.unknown(), MOST_BYTES);
  if (found.state === "damaged") throw invalid(path, `it ${found.why}`);
  return found.state === "missing" ? undefined : parsePeftConfig(found.value, path);
}

/**
 * The entry of `patterns` that PEFT takes for a module: the first whose regular expression matches the module's name or its
 * end after a dot. https://github.com/huggingface/peft/blob/v0.17.0/src/peft/utils/other.py (get_pattern_key)
 */
function patternFor(patterns: Readonly<Record<string, number>>, modules: readonly string[], where: string) {
  const entries = Object.entries(patterns);
  if (entries.length === 0) return undefined;
  const expressions = entries.map(([pattern]) => {
    try {
      // PEFT's own anchored patterns stand for the whole name.
      return new RegExp(`^(?:.*\\.)?(?:${pattern})$`);
    } catch (cause) {
      throw invalid(where, `the pattern ${JSON.stringify(pattern)} is not a regular expression`, cause);
    }
  });
  try {
    return entries[firstMatch(expressions, modules)]?.[1];
  } catch (cause) {
    throw invalid(where, "its module patterns take too long to match", cause);
  }
}

/**
 * α of α/rank for a module, as PEFT scales it; undefined where the configuration names none.
 * @param modules the module's name as the model that was trained has it, and its other spellings
 */
export function peftAlpha(
  config: PeftConfig,
  modules: readonly string[],
  rank: number,
  where: string,
): number | undefined {
  const told = patternFor(config.rank_pattern ?? {}, modules, where) ?? config.r ?? undefined;
  if (told !== undefined && told !== rank) {
    throw new KinoraError("lora.peft-config", `${where} belongs to another adapter`, {
      expected: `rank ${told} for ${modules[0]}`,
      actual: `${rank} in the file`,
      hint: "the scale would be wrong: use the configuration that was saved with these weights",
    });
  }
  const alpha =
    patternFor(config.alpha_pattern ?? {}, modules, where) ?? config.lora_alpha ?? config.alpha ?? undefined;
  if (alpha === undefined) return undefined;
  return config.use_rslora ? alpha * Math.sqrt(rank) : alpha;
}
