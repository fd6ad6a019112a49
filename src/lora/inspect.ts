// What a weight file is: the networks in it, or the adapter that it is. The lowest room that knows both.
// Gives plain data; printing is the command line's.
import { isKinoraError } from "../base/errors.ts";
import { elementCount } from "../base/shape.ts";
import { type TensorFormat, type TensorSource, tensorBytes } from "../io/tensor-source.ts";
import { type Recognized, recognize } from "../models/wan/recognize.ts";
import { statisticsOf } from "../models/wan/vae/statistics.ts";
import { findComponents, type WeightLayout } from "../models/wan/weight-names.ts";
import {
  compareWeights,
  isComplete,
  type LogicalTensor,
  mapWeights,
  type WeightProblems,
} from "../models/wan/weights.ts";
import { type OwnFile, ownFile } from "./own-files.ts";
import { looksLikeLora, type RecognizedLora, recognizeLora } from "./recognize.ts";

/** A network in a weight file. */
export interface NetworkReport {
  readonly layout: WeightLayout;
  readonly prefix: string;
  readonly recognized: Recognized;
  /** Scales not counted. */
  readonly parameters: number;
  /** How weights are quantised and how many are, e.g. `f8e4m3, a scale per tensor`. */
  readonly quantized: ReadonlyMap<string, number>;
  readonly complete: boolean;
  readonly problems: WeightProblems;
  /** How many tensors were left out, by reason. */
  readonly ignored: ReadonlyMap<string, number>;
}

/** What a weight file is. */
export interface WeightReport {
  readonly path: string;
  readonly format: TensorFormat;
  readonly tensors: number;
  /** Of the tensors' data. */
  readonly bytes: number;
  /** Elements of each dtype or block format. */
  readonly dtypes: ReadonlyMap<string, number>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly networks: readonly NetworkReport[];
  readonly lora?: RecognizedLora;
  /** Where Kinora wrote the file for itself. */
  readonly own?: OwnFile;
  /** What kept a network from being recognised, by message. */
  readonly failures: readonly string[];
}

/** With what there is to say of an autoencoder's statistics; unusable ones make no other network of it. */
function withStatisticsNotes(recognized: Recognized, source: TensorSource): Recognized {
  if (recognized.kind !== "vae21" && recognized.kind !== "vae22") return recognized;
  try {
    const { statistics, notes } = statisticsOf(source, recognized.config);
    return { ...recognized, config: { ...recognized.config, statistics }, notes: [...recognized.notes, ...notes] };
  } catch (error) {
    if (!isKinoraError(error)) throw error;
    return { ...recognized, notes: [...recognized.notes, error.message] };
  }
}

function granularity({ dtype, blocks, shape, scale }: LogicalTensor): string | undefined {
  const form = blocks?.name ?? dtype;
  if (!scale) return blocks ? form : dtype.startsWith("f8") || dtype === "i8" ? `${form}, no scale` : undefined;
  const [, columns] = shape;
  if (scale.length === 1) return `${form}, a scale per tensor`;
  if (scale.length === 2) return `${form}, a scale per row`;
  return `${form}, a scale per ${columns! / scale[1]!} inputs of a row`;
}

function tally<T>(items: Iterable<T>, key: (item: T) => string | undefined): Map<string, number> {
  const counts = new Map<string, number>();
  for (const item of items) {
    const name = key(item);
    if (name !== undefined) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

/** Describes an open weight file; reads no more of its values than the scalars of a LoRA. */
export function inspectWeights(source: TensorSource): WeightReport {
  const counts = new Map<string, number>();
  let bytes = 0;
  for (const name of source.names) {
    const info = source.info(name);
    const form = info.blocks?.name ?? info.dtype;
    counts.set(form, (counts.get(form) ?? 0) + elementCount(info.shape));
    bytes += tensorBytes(info);
  }
  const report = {
    path: source.path,
    format: source.format,
    tensors: source.names.length,
    bytes,
    dtypes: counts,
    metadata: source.metadata,
  };
  const own = ownFile(source);
  if (own) return { ...report, networks: [], own, failures: [] };
  if (looksLikeLora(source.names)) return { ...report, networks: [], lora: recognizeLora(source), failures: [] };
  const networks: NetworkReport[] = [];
  const failures: string[] = [];
  for (const component of findComponents(source.names)) {
    try {
      const map = mapWeights(source, component);
      const recognized = withStatisticsNotes(recognize(map, source.path), source);
      const problems = compareWeights(recognized.expected, map);
      const tensors = [...map.tensors.values()];
      networks.push({
        layout: component.layout,
        prefix: component.prefix,
        recognized,
        parameters: tensors.reduce((sum, tensor) => sum + elementCount(tensor.shape), 0),
        quantized: tally(tensors, granularity),
        complete: isComplete(problems),
        problems,
        ignored: tally(map.ignored, ({ why }) => why),
      });
    } catch (error) {
      if (!isKinoraError(error)) throw error;
      failures.push(`${component.kind}: ${error.message}`);
    }
  }
  return { ...report, networks, failures };
}
