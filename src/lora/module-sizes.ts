// Rank, widths and α of one module of a LoRA file, whoever asks: from the shapes and one scalar, never the matrices.
import { elementCount } from "../base/shape.ts";
import { alphaOfMetadata, type LoraModule } from "./key-formats.ts";

/** Named float tensors, from a file or from memory. */
export interface AdapterTensors {
  shape(name: string): readonly number[];
  values(name: string): Float32Array;
  /** Of all modules whose file names none: α; the rank where absent. */
  alpha?: number | undefined;
  metadata?: Readonly<Record<string, string>> | undefined;
}

export interface ModuleSizes {
  readonly rank: number;
  readonly inputs: number;
  readonly outputs: number;
  /** α of α/rank; the rank itself where nothing says otherwise, so that the scale is 1. */
  readonly alphaValue: number;
}

/**
 * Undefined where the two matrices do not go together. A convolution's down matrix has its kernel behind the inputs; its
 * up matrix ends in ones. Throws `lora.bad-metadata`.
 */
export function sizesOf({ down, up, alpha }: LoraModule, source: AdapterTensors): ModuleSizes | undefined {
  const [rank, ...kernel] = source.shape(down);
  const [outputs, ...width] = source.shape(up);
  if (!rank || kernel.length === 0 || outputs === undefined || width.length === 0) return undefined;
  if (elementCount(width) !== rank) return undefined;
  const stored = alpha === undefined ? undefined : source.values(alpha)[0];
  const alphaValue = stored ?? source.alpha ?? alphaOfMetadata(source.metadata ?? {}, rank) ?? rank;
  return { rank, inputs: elementCount(kernel), outputs, alphaValue };
}
