// The number formats tensors come in: names, sizes, and what safetensors and PyTorch call them.

/** Element formats. `f8e4m3` is OCP E4M3FN (no infinities, max 448); `f8e5m2` is IEEE-like E5M2. */
export type DType = "f32" | "bf16" | "f16" | "f8e4m3" | "f8e5m2" | "f64" | "i64" | "i32" | "i16" | "i8" | "u8" | "bool";

interface DTypeRow {
  bytes: number;
  safetensors: string;
  floating: boolean;
}

/** Every element type: bytes of an element, its name in safetensors files, whether it is a float. */
export const dtypes = {
  f64: { bytes: 8, safetensors: "F64", floating: true },
  f32: { bytes: 4, safetensors: "F32", floating: true },
  bf16: { bytes: 2, safetensors: "BF16", floating: true },
  f16: { bytes: 2, safetensors: "F16", floating: true },
  f8e4m3: { bytes: 1, safetensors: "F8_E4M3", floating: true },
  f8e5m2: { bytes: 1, safetensors: "F8_E5M2", floating: true },
  i64: { bytes: 8, safetensors: "I64", floating: false },
  i32: { bytes: 4, safetensors: "I32", floating: false },
  i16: { bytes: 2, safetensors: "I16", floating: false },
  i8: { bytes: 1, safetensors: "I8", floating: false },
  u8: { bytes: 1, safetensors: "U8", floating: false },
  bool: { bytes: 1, safetensors: "BOOL", floating: false },
} as const satisfies Record<DType, DTypeRow>;

export function bytesOf(dtype: DType): number {
  return dtypes[dtype].bytes;
}

export function dtypeFromSafetensors(name: string): DType | undefined {
  return (Object.keys(dtypes) as DType[]).find((dtype) => dtypes[dtype].safetensors === name);
}
