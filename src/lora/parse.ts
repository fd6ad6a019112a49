// The tensors of a LoRA file sorted into adapters, whatever tool wrote them. Nothing is skipped: every name is in an
// adapter, among the unsupported, or among the unmatched with a reason. Reads shapes and scalars, not matrices.
import type { Expert } from "../models/wan/recognize.ts";
import type { Found } from "./adapters/kind.ts";
import { type AdapterKindName, type AdapterValues, adapterKinds, moduleOf } from "./adapters/table.ts";
import { type AlphaSources, Alphas } from "./alphas.ts";
import type { LoraFormat } from "./key-formats.ts";
import { type AdapterTensors, ModuleTensors, type Refused } from "./module-tensors.ts";
import { type Place, placeOf } from "./names.ts";

export interface AdapterSource extends AdapterTensors, AlphaSources {
  names: Iterable<string>;
}

/** Kinds of adapters that Kinora does not apply, by endings of their tensors' names. */
const unsupported: readonly (readonly [ending: RegExp, kind: string])[] = [
  [/\.oft_\w+(?:\.\w+)*$/, "OFT"],
  [/\.(?:boft_\w+|oft_blocks|rescale)$/, "BOFT"],
  [/\.[ab][12]\.weight$/, "GLoRA"],
  [/\.lora_mid\.weight$/, "LoCon with a middle matrix"],
  [/\.(?:hada_t[12]|lokr_t2)$/, "a Tucker decomposition"],
  [/\.reshape_weight$/, "reshaped weights"],
  [/\.(?:ia3_\w+|vera_lambda_\w+|lora_E|lora_embedding_[AB])(?:\.\w+)*$/, "another kind of PEFT"],
];

/** What PEFT saves whole beside the matrices: trained biases and modules_to_save. */
const wholes: readonly (readonly [ending: RegExp, part: string])[] = [
  [/(?:\.modules_to_save(?:\.default)?|\.base_layer)?\.weight$/, "whole_weight"],
  [/(?:\.modules_to_save(?:\.default)?|\.base_layer)?\.bias$/, "whole_bias"],
];

const unsupportedEndings = unsupported.map(([ending, kind]) => [ending, { kind }] as const);
const wholeEndings = wholes.map(([ending, part]) => [ending, { part }] as const);

/** In the order in which they are tried. */
function* endings(peft: boolean): Generator<readonly [RegExp, { kind: string } | { part: string }]> {
  yield* unsupportedEndings;
  for (const { parts } of Object.values(adapterKinds)) for (const [ending, part] of parts) yield [ending, { part }];
  if (peft) yield* wholeEndings;
}

type Role = { stem: string; part: string; kind?: undefined } | { stem: string; kind: string; part?: undefined };

/** No tool writes longer names; hostile ones must not keep the patterns busy. */
const MAX_NAME = 500;

function roleOf(name: string, peft = false): Role | undefined {
  if (name.length > MAX_NAME) return undefined;
  for (const [ending, role] of endings(peft)) {
    const match = ending.exec(name);
    if (!match) continue;
    const stem = name.slice(0, match.index);
    // The change of a block's modulation, which is a parameter of the block itself (lightx2v).
    return { ...role, stem: name.endsWith(".diff_m") ? `${stem}.modulation` : stem } as Role;
  }
  return undefined;
}

/** True where the name is that of an adapter's tensor, of whatever model. */
export function isAdapterName(name: string): boolean {
  return roleOf(name) !== undefined;
}

export interface ParsedAdapter extends Found<AdapterValues> {
  readonly kind: AdapterKindName;
  /** The official name of what it stands on, e.g. `blocks.0.self_attn.q`. */
  readonly module: string;
  readonly format: LoraFormat;
  /** What the tensors' names say; undefined for one expert alone, or for both alike. */
  readonly expert?: Expert;
}

export interface ParsedLora {
  /** Usually one; more where a file mixes them. */
  formats: LoraFormat[];
  adapters: ParsedAdapter[];
  /** Tensors of kinds that are not applied, on a module of the transformer. */
  others: { name: string; kind: string; module: string }[];
  /** Understood, and not going together. */
  refused: Refused[];
  /** Tensors that belong to no module of the transformer, or to an incomplete adapter, and why. */
  unmatched: { name: string; why: string }[];
  /** The experts that the names speak of. */
  experts: Expert[];
  /** True where every name is one that ComfyUI reads. */
  comfy: boolean;
  /** On scales; see Alphas. */
  notes: string[];
}

/** Sorts a LoRA's tensors. Throws `lora.bad-metadata`, `lora.peft-config` for a scale that cannot be told. */
export function parseLora(source: AdapterSource): ParsedLora {
  const parsed: ParsedLora = {
    formats: [],
    adapters: [],
    others: [],
    refused: [],
    unmatched: [],
    experts: [],
    comfy: true,
    notes: [],
  };
  const alphas = new Alphas(source);
  const placed: { name: string; part: string; place: Place }[] = [];
  const formats = new Set<LoraFormat>();
  for (const name of source.names) {
    const role = roleOf(name, source.peft !== undefined);
    const place = role && placeOf(role.stem);
    if (!role || !place) {
      parsed.unmatched.push({ name, why: whyUnmatched(name, role !== undefined) });
      continue;
    }
    formats.add(place.format);
    parsed.comfy &&= place.comfy && !name.endsWith(".diff_m");
    if (role.part === undefined) parsed.others.push({ name, kind: role.kind, module: place.module });
    else placed.push({ name, part: role.part, place });
  }
  const numbered = placed.some(({ place }) => place.second);
  const alone = numbered && placed.every(({ place }) => place.second);
  const expertOf = ({ expert, second }: Place): Expert | undefined =>
    expert ?? (numbered ? (second || alone ? "low" : "high") : undefined);

  const modules = new Map<string, ModuleTensors>();
  for (const { name, part, place } of placed) {
    const expert = expertOf(place);
    const key = `${expert ?? ""} ${place.module}`;
    let module = modules.get(key);
    if (!module) {
      module = new ModuleTensors(place, expert, source, (rank) => alphas.of(place, expert, rank));
      modules.set(key, module);
    }
    if (!module.has(part)) module.parts.set(part, name);
    else parsed.unmatched.push({ name, why: `a second ${wordFor(part)} for ${place.module}` });
  }
  for (const module of modules.values()) sortModule(module, parsed);
  parsed.formats = [...formats];
  const experts = new Set([...modules.values()].flatMap(({ expert }) => expert ?? []));
  parsed.experts = [...experts].sort();
  parsed.notes = [...alphas.notes];
  return parsed;
}

function sortModule(module: ModuleTensors, parsed: ParsedLora): void {
  const { expert, place } = module;
  for (const kind of Object.values(adapterKinds)) {
    for (const found of kind.find(module) as (Found<AdapterValues> & { kind: AdapterKindName })[])
      parsed.adapters.push({
        ...found,
        module: moduleOf(found.place),
        format: place.format,
        ...(expert ? { expert } : {}),
      });
  }
  parsed.refused.push(...module.refused);
  const left = [...module.parts];
  // The α of an adapter of another kind is a part of it.
  const other = parsed.others.find((tensor) => tensor.module === module.module);
  for (const [part, name] of left) {
    if (part === "alpha" && other) parsed.others.push({ name, kind: other.kind, module: module.module });
    else
      parsed.unmatched.push({
        name,
        why: whyLeft(
          module.module,
          left.map(([word]) => word),
        ),
      });
  }
}

function whyUnmatched(name: string, isAdapter: boolean): string {
  if (!isAdapter) return "not an adapter tensor";
  return /^(?:lora_te|text_encoder|conditioner)/.test(name)
    ? "for a text encoder; Wan LoRAs only change the transformer"
    : "not a module of the Wan transformer";
}

const wordFor = (part: string): string => part.replaceAll("_", " ");

function whyLeft(module: string, parts: readonly string[]): string {
  if (parts.includes("down") !== parts.includes("up"))
    return `${module} lacks its ${parts.includes("down") ? "up" : "down"} matrix`;
  return `${module} has only ${parts.map(wordFor).join(", ")}: the rest of the adapter is missing`;
}
