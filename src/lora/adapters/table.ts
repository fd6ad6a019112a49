// The adapter kinds that Kinora knows: each is one file and one row here. The first that finds its tensors takes them.
import type { Adapter } from "../../nn/adapter.ts";
import type { Linear } from "../../nn/linear.ts";
import type { Parameter } from "../../nn/parameter.ts";
import type { FileTensor, FileTensorOptions } from "../file-tensor.ts";
import type { LoraFormat } from "../key-formats.ts";
import { type DifferenceValues, difference } from "./difference.ts";
import { type DoraValues, dora } from "./dora.ts";
import type { AdapterKind, AdapterPlace } from "./kind.ts";
import { type LohaValues, loha } from "./loha.ts";
import { type LokrValues, lokr } from "./lokr.ts";
import { type LoraValues, lora } from "./lora.ts";

/** Every kind of adapter, in the order in which a module's tensors are recognised. */
export const adapterKinds = { dora, lora, loha, lokr, difference } as const;

/** Those that train, by the name a configuration gives them. */
export const trainableKinds = { lora } as const;
export type TrainableKindName = keyof typeof trainableKinds;

/** The name of a kind of adapter. */
export type AdapterKindName = keyof typeof adapterKinds;

/** One adapter as values, of whatever kind. */
export type AdapterValues = DoraValues | LoraValues | LohaValues | LokrValues | DifferenceValues;

const rowOf = (values: AdapterValues): AdapterKind<AdapterValues> =>
  adapterKinds[values.kind] as AdapterKind<AdapterValues>;

export const placeOfValues = (values: AdapterValues): AdapterPlace => rowOf(values).place(values);

export const attachValues = (seam: Linear | Parameter, values: AdapterValues, strength: number): Adapter =>
  rowOf(values).attach(seam, values, strength);

export const tensorsOfValues = (values: AdapterValues, format: LoraFormat, options: FileTensorOptions): FileTensor[] =>
  rowOf(values).tensors(values, format, options);

export const strengthOf = (values: AdapterValues): number => rowOf(values).strength(values);

/** The module an adapter stands on: the parameter without its `.weight` or `.bias`. */
export const moduleOf = ({ parameter }: AdapterPlace): string => parameter.replace(/\.(?:weight|bias)$/, "");
