// α of modules that have none of their own in a LoRA file: from PEFT's configuration beside it, or from its metadata.
// What is found there and not used, or used though others ignore it, is told.
import { KinoraError } from "../base/errors.ts";
import type { Expert } from "../models/wan/recognize.ts";
import { TENSOR_TABLE_HASH } from "./checksum.ts";
import type { Place } from "./names.ts";
import { PEFT_CONFIG, type PeftConfig, parsePeftConfig, peftAlpha } from "./peft-config.ts";

export interface AlphaSources {
  /** Of all modules whose file names none. */
  alpha?: number | undefined;
  metadata?: Readonly<Record<string, string>> | undefined;
  /** adapter_config.json beside the file. */
  peft?: PeftConfig | undefined;
}

/** Diffusers' copy of PEFT's configuration in the metadata. */
const DIFFUSERS_CONFIG = "lora_adapter_metadata";

/** The fields by the network they are of: diffusers writes `transformer.lora_alpha`; "" where there is no prefix. */
function diffusersConfigs(text: string): Map<string, PeftConfig> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new KinoraError("lora.bad-metadata", `the file's ${DIFFUSERS_CONFIG} is not valid JSON`, {
      actual: text.slice(0, 60),
      hint: "alpha is stored there: save the file again with the tool that made it",
      cause,
    });
  }
  const networks = new Map<string, Record<string, unknown>>();
  for (const [key, field] of Object.entries(typeof value === "object" && value !== null ? value : {})) {
    const dot = key.lastIndexOf(".");
    const network = key.slice(0, Math.max(0, dot));
    networks.set(network, { ...networks.get(network), [key.slice(dot + 1)]: field });
  }
  return new Map([...networks].map(([network, fields]) => [network, parsePeftConfig(fields, DIFFUSERS_CONFIG)]));
}

function numberIn(metadata: Readonly<Record<string, string>>, ...names: string[]): number | undefined {
  for (const name of names) {
    const text = metadata[name];
    if (text === undefined || text.trim() === "") continue;
    const value = Number(text);
    if (Number.isFinite(value) && value > 0) return value;
    if (name !== "ss_network_alpha") {
      throw new KinoraError("lora.bad-metadata", `the file's metadata ${name} is not a positive number`, {
        actual: text.slice(0, 60),
        hint: "the LoRA's scale is stored there: save the file again with the tool that made it",
      });
    }
  }
  return undefined;
}

export class Alphas {
  readonly #sources: AlphaSources;
  readonly #configs: ReadonlyMap<string, PeftConfig>;
  /** What a user should know of where scales came from. */
  readonly notes = new Set<string>();

  /** Throws `lora.bad-metadata`, `lora.peft-config`, `lora.unsupported`. */
  constructor(sources: AlphaSources) {
    this.#sources = sources;
    const text = sources.metadata?.[DIFFUSERS_CONFIG];
    this.#configs = text === undefined ? new Map() : diffusersConfigs(text);
  }

  /** Undefined where nothing names one: the scale is 1 then. */
  of(place: Place, expert: Expert | undefined, rank: number): number | undefined {
    const { alpha, peft, metadata = {} } = this.#sources;
    if (alpha !== undefined) return alpha;
    const names = [...place.spellings, place.module];
    if (peft) return peftAlpha(peft, names, rank, PEFT_CONFIG);
    const config =
      this.#configs.get(expert === "low" || place.second ? "transformer_2" : "transformer") ??
      this.#configs.get("transformer") ??
      this.#configs.get("") ??
      (this.#configs.size === 1 ? [...this.#configs.values()][0] : undefined);
    const told = config && peftAlpha(config, names, rank, DIFFUSERS_CONFIG);
    return told ?? numberIn(metadata, "lora_alpha", "network_alpha") ?? this.#kohya(place, rank, metadata);
  }

  /**
   * kohya's tools keep α in a tensor of each module; `ss_network_alpha` repeats it. Converters fold α/rank into matrices
   * under other tools' names and leave the metadata: it must not be applied twice.
   */
  #kohya(place: Place, rank: number, metadata: Readonly<Record<string, string>>): number | undefined {
    const alpha = numberIn(metadata, "ss_network_alpha");
    const trained = Number(metadata.ss_network_dim ?? rank);
    // What Kinora writes has it where the form says it is.
    if (alpha === undefined || alpha === trained || metadata[TENSOR_TABLE_HASH] !== undefined) return undefined;
    const ratio = `alpha ${alpha} and rank ${trained}`;
    if (place.format === "kohya") {
      this.notes.add(`it has no alpha tensors; the metadata's ${ratio} are used (other tools assume a scale of 1)`);
      return (alpha / trained) * rank;
    }
    this.notes.add(
      `its metadata names ${ratio}; files with such names have that scale in their matrices already, so that it is not ` +
        `applied again (if the file is not converted, use it at strength ${Number((alpha / trained).toPrecision(4))})`,
    );
    return undefined;
  }
}
