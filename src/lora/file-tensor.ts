// A tensor on its way into a LoRA file: rounded as the file's format asks, or kept where rounding would change it.
import { fromFloat32, toFloat32 } from "../base/float-formats.ts";
import type { TensorSpec } from "../io/safetensors-header.ts";

/** What a LoRA file holds its numbers in. */
export type LoraDType = "f32" | "bf16" | "f16";

export interface FileTensor extends TensorSpec {
  readonly dtype: LoraDType;
  /** Made anew at each call, so that one tensor is in memory at a time. */
  bytes(): Uint8Array;
}

export interface FileTensorOptions {
  dtype: LoraDType;
  /** Keep a tensor in float32 where `dtype` would change its values. */
  exact: boolean;
}

/** True where `dtype` has every one of the values. */
function survives(values: Float32Array, dtype: LoraDType): boolean {
  const rounded = toFloat32(fromFloat32(values, dtype), dtype);
  return values.every((value, i) => Object.is(value, rounded[i]));
}

/** scale·values under a name. `values` is called each time the bytes are asked for, and once where `exact` is. */
export function fileTensor(
  name: string,
  shape: readonly number[],
  values: () => Float32Array,
  { dtype, exact }: FileTensorOptions,
  scale = 1,
): FileTensor {
  const scaled = () => (scale === 1 ? values() : values().map((value) => value * scale));
  const kept = exact && dtype !== "f32" && !survives(scaled(), dtype) ? "f32" : dtype;
  return { name, shape, dtype: kept, bytes: () => fromFloat32(scaled(), kept) };
}

/** A number, in float32: a narrow format may not have it. */
export function scalarTensor(name: string, value: number): FileTensor {
  return { name, shape: [], dtype: "f32", bytes: () => fromFloat32(Float32Array.of(value), "f32") };
}
