// LoRA files as adapter values, whatever tool wrote them. Not names (parse.ts), not layers (attach.ts).
import { KinoraError } from "../base/errors.ts";
import { toFloat32 } from "../base/float-formats.ts";
import { firstMatch } from "../base/foreign-pattern.ts";
import { openTensorSource, type TensorSource } from "../io/tensor-source.ts";
import type { Expert } from "../models/wan/recognize.ts";
import type { AdapterValues } from "./adapters/table.ts";
import { checkHash } from "./checksum.ts";
import type { LoraFormat } from "./key-formats.ts";
import { type AdapterSource, type ParsedLora, parseLora } from "./parse.ts";
import { loraFileOf, peftConfigBeside } from "./peft-config.ts";

/** An adapter's values, with the expert that its file says it is for where that file holds both. */
export type ReadAdapter = AdapterValues & { readonly expert?: Expert };

/** A LoRA file, read: its adapters under official names. */
export interface LoraFile {
  formats: readonly LoraFormat[];
  adapters: ReadAdapter[];
  metadata: Readonly<Record<string, string>>;
  /** What a user should know: where the scale came from, a hash that is not true. */
  notes: readonly string[];
}

export interface ReadOptions {
  /** Patterns of names: what they match is left out; see {@link withoutExcluded}. */
  exclude?: readonly string[] | undefined;
  /** Of a file that holds both experts: only what is for this one. */
  expert?: Expert | undefined;
}

/** Opens a LoRA: a file, or a PEFT folder. */
export const openLora = (path: string): TensorSource => openTensorSource(loraFileOf(path));

/** The tensors of an opened file, widened as they are asked for, and what stands beside them of scales. */
export function sourceOf(source: TensorSource): AdapterSource {
  return {
    names: source.names,
    shape: (name) => source.info(name).shape,
    values: (name) => toFloat32(source.bytes(name), source.info(name).dtype),
    metadata: source.metadata,
    peft: peftConfigBeside(source.path),
  };
}

/** Reads a LoRA. Throws `lora.*` naming every tensor that is not understood: nothing is skipped in silence. */
export function readLoraFile(path: string, options: ReadOptions = {}): LoraFile {
  using source = openLora(path);
  const damaged = checkHash(source);
  const parsed = withoutExcluded(parseLora(sourceOf(source)), options.exclude);
  refuseWhatIsNotRead(parsed, path, source.names);
  const notes = [...parsed.notes, ...(damaged ? [damaged] : [])];
  return { formats: parsed.formats, adapters: load(parsed, options), metadata: { ...source.metadata }, notes };
}

/** The adapters of a LoRA file alone. */
export const readLora = (path: string, options?: ReadOptions): ReadAdapter[] => readLoraFile(path, options).adapters;

/** Adapters from tensors in memory. */
export function adaptersFrom(source: AdapterSource): ReadAdapter[] {
  const parsed = parseLora(source);
  refuseWhatIsNotRead(parsed);
  return load(parsed, {});
}

function load({ adapters, experts }: ParsedLora, { expert }: ReadOptions): ReadAdapter[] {
  // A file for one expert alone goes where it is put.
  const wanted = experts.length > 1 ? expert : undefined;
  return adapters
    .filter((adapter) => wanted === undefined || adapter.expert === undefined || adapter.expert === wanted)
    .map((adapter) => (adapter.expert ? { ...adapter.load(), expert: adapter.expert } : adapter.load()));
}

/**
 * A LoRA without what the patterns match: adapters by their official parameter's name, tensors that are not understood by
 * their own. Throws `lora.exclude` for a pattern that is none, and where nothing is left.
 */
export function withoutExcluded(parsed: ParsedLora, exclude: readonly string[] = []): ParsedLora {
  const patterns = exclude.map(expressionOf);
  const stays = (name: string) => {
    try {
      return firstMatch(patterns, [name]) < 0;
    } catch (cause) {
      const hint = "write it without repetitions inside repetitions";
      throw new KinoraError("lora.exclude", `${exclude.join(", ")}: this takes too long to match`, { cause, hint });
    }
  };
  const adapters = parsed.adapters.filter(({ place }) => stays(place.parameter));
  if (adapters.length === 0 && parsed.adapters.length > 0)
    throw new KinoraError("lora.exclude", "every module of the LoRA was excluded", {
      hint: "exclude fewer modules, or leave out the file",
    });
  return {
    ...parsed,
    adapters,
    others: parsed.others.filter(({ name }) => stays(name)),
    unmatched: parsed.unmatched.filter(({ name }) => stays(name)),
    refused: parsed.refused.filter(({ names }) => names.every(stays)),
  };
}

const sizeOf = ({ adapters, others, unmatched, refused }: ParsedLora): number =>
  adapters.length + others.length + unmatched.length + refused.length;

/** Throws `lora.exclude` for a pattern that matches nothing in any of the LoRAs it is for. */
export function checkExcluded(loras: readonly ParsedLora[], exclude: readonly string[] = []): void {
  const idle = exclude.find((pattern) =>
    loras.every((lora) => sizeOf(withoutExcluded(lora, [pattern])) === sizeOf(lora)),
  );
  if (idle === undefined) return;
  throw new KinoraError("lora.exclude", `${JSON.stringify(idle)} matches no module of the LoRA`, {
    hint: `names look like ${loras[0]?.adapters[0]?.place.parameter}`,
  });
}

function expressionOf(pattern: string): RegExp {
  try {
    return new RegExp(pattern);
  } catch (cause) {
    throw new KinoraError("lora.exclude", `${JSON.stringify(pattern)} is not a valid pattern`, {
      cause,
      hint: "a regular expression of official names, e.g. ^blocks\\.0\\. or patch_embedding",
    });
  }
}

/** The most names an error lists one by one. */
const LISTED = 5;

const listed = (names: readonly string[]): string =>
  names.slice(0, LISTED).join("; ") + (names.length > LISTED ? `; and ${names.length - LISTED} more` : "");

/** Throws `lora.not-a-lora`, `lora.unsupported`, `lora.shape`, `lora.unmatched`. */
export function refuseWhatIsNotRead(
  { adapters, others, refused, unmatched }: ParsedLora,
  path = "it",
  names: readonly string[] = [],
): void {
  if (others.length > 0) {
    const kinds = [...new Set(others.map(({ kind }) => kind))];
    throw new KinoraError("lora.unsupported", `the LoRA contains ${kinds.join(", ")}, which Kinora does not support`, {
      actual: `${others.length} tensors: ${listed(others.map(({ name }) => name))}`,
      hint: "merge it into the model with the tool that made it",
    });
  }
  const [first] = refused;
  if (first) {
    throw new KinoraError("lora.shape", first.why, {
      expected: first.expected,
      actual: first.actual ?? listed(first.names),
      hint: "the file is damaged or was merged wrongly: get it again from its source",
    });
  }
  if (adapters.length === 0) {
    throw new KinoraError("lora.not-a-lora", `${path} is not a LoRA for a Wan transformer`, {
      expected: "tensors such as diffusion_model.blocks.0.self_attn.q.lora_A.weight",
      actual: listed(names),
      hint: "kinora models inspect FILE shows what it is",
    });
  }
  if (unmatched.length > 0) {
    throw new KinoraError("lora.unmatched", `${unmatched.length} tensors of the LoRA are not understood`, {
      actual: listed(unmatched.map(({ name, why }) => `${name} (${why})`)),
      hint: "kinora models inspect FILE --names lists them all",
    });
  }
}
