// Tells what a LoRA file is: its format, ranks and scales, and which Wan models and expert it is made for.
// Reads the few scalars a LoRA has, not its matrices.
import type { TensorSource } from "../io/tensor-source.ts";
import { type WanModelName, wanModels } from "../models/wan/params.ts";
import { type Expert, expertOfPath } from "../models/wan/recognize.ts";
import { ditShapes } from "../models/wan/weight-shapes.ts";
import { fits, layersOf } from "./fit.ts";
import {
  isAdapterName,
  type LoraFormat,
  type LoraModule,
  type OtherAdapter,
  type ParsedLora,
  parseLoraNames,
} from "./key-formats.ts";
import { type ModuleSizes, sizesOf } from "./module-sizes.ts";
import { tensorsOf } from "./read.ts";

export interface RecognizedModule extends LoraModule, ModuleSizes {}

export interface RecognizedLora {
  readonly kind: "lora";
  readonly label: string;
  readonly formats: readonly LoraFormat[];
  readonly modules: readonly RecognizedModule[];
  /** Distinct ranks and α values, ascending. */
  readonly ranks: readonly number[];
  readonly alphas: readonly number[];
  /** True where the file keeps α itself, as a tensor or in its metadata. */
  readonly hasAlpha: boolean;
  /** How many tensors of each other kind of adapter there are; Kinora applies none of these. */
  readonly others: ReadonlyMap<OtherAdapter, number>;
  readonly unmatched: ParsedLora["unmatched"];
  /** Models on which every module exists with the LoRA's widths; the likeliest first. */
  readonly models: readonly WanModelName[];
  readonly expert?: Expert;
}

/** True where a file's names are an adapter's rather than a model's. */
export function looksLikeLora(names: readonly string[]): boolean {
  return names.length > 0 && names.filter(isAdapterName).length > names.length / 2;
}

/** The models that every module fits. One that leaves a model's picture branch alone was hardly made for it. */
function modelsThatFit(modules: readonly RecognizedModule[]): WanModelName[] {
  const touchesText = modules.some(({ module }) => module.endsWith("cross_attn.k"));
  const touchesImage = modules.some(({ module }) => module.endsWith("_img") || module.startsWith("img_emb"));
  const found = Object.values(wanModels).filter((model) => {
    const layers = layersOf(ditShapes(model.dit));
    return modules.length > 0 && modules.every((module) => fits(layers, module));
  });
  // A LoRA usually covers every block, which tells models of one width but different depth apart.
  const blocks = blocksOf(modules);
  const unlikely = (model: (typeof found)[number]) =>
    Number(touchesText && !touchesImage && "imageBranch" in model.dit) + Number(model.dit.layers !== blocks);
  return found.sort((a, b) => unlikely(a) - unlikely(b)).map((model) => model.name);
}

/** The expert that training metadata speaks of: a range of timesteps on one side of the boundary. */
function expertOfMetadata(metadata: Readonly<Record<string, string>>): Expert | undefined {
  const range = /^(\d+),(\d+)$/.exec(metadata["modelspec.timestep_range"] ?? "");
  const low = Number(range?.[1] ?? metadata.ss_min_timestep ?? Number.NaN);
  const high = Number(range?.[2] ?? metadata.ss_max_timestep ?? Number.NaN);
  const boundaries = Object.values(wanModels).flatMap((model) => ("boundary" in model ? [model.boundary * 1000] : []));
  if (low >= Math.min(...boundaries)) return "high";
  if (high <= Math.max(...boundaries)) return "low";
  return undefined;
}

const ascending = (values: Iterable<number>): number[] => [...new Set(values)].sort((a, b) => a - b);

/** One more than the highest block that an adapter stands on. */
function blocksOf(modules: readonly RecognizedModule[]): number {
  return 1 + Math.max(-1, ...modules.map(({ module }) => Number(/^blocks\.(\d+)\./.exec(module)?.[1] ?? -1)));
}

function label(
  models: readonly WanModelName[],
  modules: readonly RecognizedModule[],
  expert: Expert | undefined,
  others: ReadonlyMap<OtherAdapter, number>,
): string {
  const kinds = [...(modules.length > 0 ? ["LoRA"] : []), ...others.keys()];
  const what = `${kinds.join(" with ") || "an adapter"}${expert ? ` for the ${expert}-noise expert` : ""}`;
  if (models.length > 0) return `${what}, fits ${models.join(", ")}`;
  const width = modules.find(({ module }) => module.endsWith(".q"))?.inputs;
  const sizes = width ? ` (it is for ${blocksOf(modules)} blocks of width ${width})` : "";
  return `${what}, fits no published Wan model${sizes}`;
}

/** Describes a LoRA file. Throws `lora.bad-metadata` for metadata that cannot be read. */
export function recognizeLora(source: TensorSource): RecognizedLora {
  const parsed = parseLoraNames(source.names);
  const tensors = tensorsOf(source);
  const unmatched = [...parsed.unmatched];
  const modules: RecognizedModule[] = [];
  for (const module of parsed.modules) {
    const sizes = sizesOf(module, tensors);
    if (sizes) modules.push({ ...module, ...sizes });
    else
      for (const name of [module.down, module.up])
        unmatched.push({ name, why: `the matrices of ${module.module} do not go together` });
  }
  const others = new Map<OtherAdapter, number>();
  for (const { kind } of parsed.others) others.set(kind, (others.get(kind) ?? 0) + 1);
  const expert = parsed.expert ?? expertOfMetadata(source.metadata) ?? expertOfPath(source.path);
  const models = modelsThatFit(modules);
  return {
    kind: "lora",
    label: label(models, modules, expert, others),
    formats: parsed.formats,
    modules,
    ranks: ascending(modules.map((module) => module.rank)),
    alphas: ascending(modules.map((module) => module.alphaValue)),
    hasAlpha:
      modules.some((module) => module.alpha !== undefined) || source.metadata.lora_adapter_metadata !== undefined,
    others,
    unmatched,
    models,
    ...(expert ? { expert } : {}),
  };
}
