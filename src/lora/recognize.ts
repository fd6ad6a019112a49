// Tells what a LoRA file is: its form, kinds, ranks and scales, and which Wan models and expert it is made for.
// Reads the few scalars a LoRA has, not its matrices.
import type { TensorSource } from "../io/tensor-source.ts";
import { type WanModelName, wanModels } from "../models/wan/params.ts";
import { type Expert, expertOfPath } from "../models/wan/recognize.ts";
import { ditShapes } from "../models/wan/weight-shapes.ts";
import { adapterKinds } from "./adapters/table.ts";
import { fits } from "./fit.ts";
import type { LoraFormat } from "./key-formats.ts";
import type { Refused } from "./module-tensors.ts";
import { isAdapterName, type ParsedAdapter, type ParsedLora, parseLora } from "./parse.ts";
import { sourceOf } from "./read.ts";
import { EXPERT_METADATA } from "./write.ts";

/** A LoRA recognised by its tensors' names and shapes. */
export interface RecognizedLora {
  readonly kind: "lora";
  readonly label: string;
  readonly formats: readonly LoraFormat[];
  readonly modules: readonly ParsedAdapter[];
  /** How many adapters there are of each kind, by its label. */
  readonly kinds: ReadonlyMap<string, number>;
  /** Distinct ranks, α and α/rank of those that have one, ascending. */
  readonly ranks: readonly number[];
  readonly alphas: readonly number[];
  readonly scales: readonly number[];
  /** True where the file, or a PEFT configuration beside it, names α. */
  readonly hasAlpha: boolean;
  /** How many tensors there are of each kind that Kinora does not apply. */
  readonly others: ReadonlyMap<string, number>;
  readonly unmatched: ParsedLora["unmatched"];
  readonly refused: readonly Refused[];
  /** Models on which every module exists with the LoRA's widths; the likeliest first. */
  readonly models: readonly WanModelName[];
  readonly expert?: Expert;
  /** True where the names tell two LoRAs apart, one for each expert. */
  readonly bothExperts: boolean;
  /** True where ComfyUI's loader knows every name. */
  readonly comfy: boolean;
  /** On where scales came from. */
  readonly notes: readonly string[];
}

/** True where a file's names are an adapter's rather than a model's. */
export function looksLikeLora(names: readonly string[]): boolean {
  return names.length > 0 && names.filter(isAdapterName).length > names.length / 2;
}

/** The models that every module fits. One that leaves a model's picture branch alone was hardly made for it. */
function modelsThatFit(modules: readonly ParsedAdapter[]): WanModelName[] {
  const touchesText = modules.some(({ module }) => module.endsWith("cross_attn.k"));
  const touchesImage = modules.some(({ module }) => module.endsWith("_img") || module.startsWith("img_emb"));
  const found = Object.values(wanModels).filter((model) => {
    const shapes = ditShapes(model.dit);
    return modules.length > 0 && modules.every(({ place }) => fits(shapes, place));
  });
  // A LoRA usually covers every block, which tells models of one width but different depth apart.
  const blocks = blocksOf(modules);
  const unlikely = (model: (typeof found)[number]) =>
    Number(touchesText && !touchesImage && "imageBranch" in model.dit) + Number(model.dit.layers !== blocks);
  return found.sort((a, b) => unlikely(a) - unlikely(b)).map((model) => model.name);
}

/** The expert that training metadata speaks of: a range of timesteps on one side of the boundary. */
function expertOfMetadata(metadata: Readonly<Record<string, string>>): Expert | undefined {
  const told = metadata[EXPERT_METADATA];
  if (told === "high" || told === "low") return told;
  const range = /^(\d+),(\d+)$/.exec(metadata["modelspec.timestep_range"] ?? "");
  const low = Number(range?.[1] ?? metadata.ss_min_timestep ?? Number.NaN);
  const high = Number(range?.[2] ?? metadata.ss_max_timestep ?? Number.NaN);
  const boundaries = Object.values(wanModels).flatMap((model) => ("boundary" in model ? [model.boundary * 1000] : []));
  if (low >= Math.min(...boundaries)) return "high";
  if (high <= Math.max(...boundaries)) return "low";
  return undefined;
}

const ascending = (values: Iterable<number>): number[] => [...new Set(values)].sort((a, b) => a - b);

function tally(items: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const item of items) counts.set(item, (counts.get(item) ?? 0) + 1);
  return counts;
}

/** One more than the highest block that an adapter stands on. */
function blocksOf(modules: readonly ParsedAdapter[]): number {
  return 1 + Math.max(-1, ...modules.map(({ module }) => Number(/^blocks\.(\d+)\./.exec(module)?.[1] ?? -1)));
}

function label(
  models: readonly WanModelName[],
  modules: readonly ParsedAdapter[],
  expert: Expert | "both" | undefined,
  kinds: Iterable<string>,
): string {
  const whose = expert === "both" ? "both experts" : `the ${expert}-noise expert`;
  const what = `${[...kinds].join(" with ") || "an adapter"}${expert ? ` for ${whose}` : ""}`;
  if (models.length > 0) return `${what}, fits ${models.join(", ")}`;
  const width = modules.find(({ module }) => module.endsWith(".q"))?.place.shape.at(-1);
  const sizes = width ? ` (it is for ${blocksOf(modules)} blocks of width ${width})` : "";
  return `${what}, fits no published Wan model${sizes}`;
}

/** Describes a LoRA file. Throws `lora.bad-metadata`, `lora.peft-config` for a scale that cannot be read. */
export function recognizeLora(source: TensorSource): RecognizedLora {
  const own = sourceOf(source);
  const { formats, adapters, others, refused, unmatched, experts, comfy, notes } = parseLora(own);
  const bothExperts = experts.length > 1;
  const told = experts[0] ?? expertOfMetadata(source.metadata) ?? expertOfPath(source.path);
  const models = modelsThatFit(adapters);
  const kinds = tally(adapters.map(({ kind }) => adapterKinds[kind].label));
  const otherKinds = tally(others.map(({ kind }) => kind));
  return {
    kind: "lora",
    label: label(models, adapters, bothExperts ? "both" : told, [...kinds.keys(), ...otherKinds.keys()]),
    formats,
    modules: adapters,
    kinds,
    ranks: ascending(adapters.flatMap(({ rank }) => rank ?? [])),
    alphas: ascending(adapters.flatMap(({ alpha }) => alpha ?? [])),
    scales: ascending(adapters.flatMap(scaleOf)),
    hasAlpha:
      source.names.some((name) => name.endsWith(".alpha")) ||
      adapters.some(({ rank, alpha }) => alpha !== rank) ||
      own.peft !== undefined ||
      source.metadata.lora_adapter_metadata !== undefined,
    others: otherKinds,
    unmatched,
    refused,
    models,
    ...(told && !bothExperts ? { expert: told } : {}),
    bothExperts,
    comfy,
    notes,
  };
}

/** α/rank where an adapter has both. */
export const scaleOf = ({ rank, alpha }: ParsedAdapter): number[] =>
  rank === undefined || alpha === undefined ? [] : [Number((alpha / rank).toPrecision(6))];
