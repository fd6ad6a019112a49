// What there is to say about a LoRA file from its values: what its groups of modules do, what does nothing, what is broken.
import type { DType } from "../base/dtype.ts";
import { elementCount } from "../base/shape.ts";
import { adapterKinds, moduleOf, strengthOf } from "./adapters/table.ts";
import { checkHash } from "./checksum.ts";
import { parseLora } from "./parse.ts";
import { openLora, refuseWhatIsNotRead, sourceOf } from "./read.ts";
import { type RecognizedLora, recognizeLora, scaleOf } from "./recognize.ts";

/** Modules of a LoRA that stand on the same kind of layer. */
export interface LoraGroup {
  /** What its modules stand on, e.g. `self_attn`. */
  name: string;
  modules: number;
  kinds: readonly string[];
  ranks: readonly number[];
  alphas: readonly number[];
  /** α/rank. */
  scales: readonly number[];
  /** The mean size of what its modules add; see AdapterKind.strength. */
  strength: number;
}

/** What a LoRA is for, how it was trained and how strong it is. */
export interface LoraDescription {
  path: string;
  recognized: RecognizedLora;
  dtypes: readonly DType[];
  /** Of its values in float32. */
  bytes: number;
  groups: readonly LoraGroup[];
  /** Modules that change nothing: an up matrix of zeros, say. */
  idle: number;
  /** Modules with values that are not finite. */
  broken: readonly string[];
  notes: readonly string[];
  metadata: Readonly<Record<string, string>>;
}

const groupOf = (module: string): string =>
  /^blocks\.\d+\.(self_attn|cross_attn|ffn)\./.exec(module)?.[1] ??
  /^blocks\.\d+\.(.+)$/.exec(module)?.[1] ??
  module.split(".")[0]!;

const ascending = (values: Iterable<number>): number[] => [...new Set(values)].sort((a, b) => a - b);

/** What a LoRA does, from its values; one module is in memory at a time. Throws `lora.*`, `io.*`. */
export function describeLora(path: string): LoraDescription {
  using source = openLora(path);
  const damaged = checkHash(source);
  const recognized = recognizeLora(source);
  const parsed = parseLora(sourceOf(source));
  refuseWhatIsNotRead(parsed, path, source.names);
  const groups = new Map<string, { entries: (typeof parsed.adapters)[number][]; sum: number }>();
  const broken: string[] = [];
  let idle = 0;
  for (const entry of parsed.adapters) {
    const strength = strengthOf(entry.load());
    if (!Number.isFinite(strength)) broken.push(moduleOf(entry.place));
    if (strength === 0) idle++;
    const name = groupOf(entry.module);
    const group = groups.get(name) ?? { entries: [], sum: 0 };
    group.entries.push(entry);
    group.sum += strength;
    groups.set(name, group);
  }
  return {
    path,
    recognized,
    dtypes: [...new Set(source.names.map((name) => source.info(name).dtype))],
    bytes: source.names.reduce((sum, name) => sum + 4 * elementCount(source.info(name).shape), 0),
    groups: [...groups].map(([name, { entries, sum }]) => ({
      name,
      modules: entries.length,
      kinds: [...new Set(entries.map(({ kind }) => adapterKinds[kind].label))],
      ranks: ascending(entries.flatMap(({ rank }) => rank ?? [])),
      alphas: ascending(entries.flatMap(({ alpha }) => alpha ?? [])),
      scales: ascending(entries.flatMap(scaleOf)),
      strength: sum / entries.length,
    })),
    idle,
    broken,
    notes: [...recognized.notes, ...(damaged ? [damaged] : [])],
    metadata: { ...source.metadata },
  };
}

/** True where a LoRA's values change nothing at any strength; stops at the first that does. Throws `lora.*`, `io.*`. */
export function changesNothing(path: string): boolean {
  using source = openLora(path);
  return parseLora(sourceOf(source)).adapters.every((entry) => strengthOf(entry.load()) === 0);
}
