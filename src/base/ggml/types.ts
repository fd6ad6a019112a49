// The block formats of GGML, as GGUF files hold weights: how many elements a block has, how many bytes, how it is widened.
// One row a format. Block layouts: https://github.com/ggml-org/llama.cpp/blob/150f157/ggml/src/ggml-common.h
import type { BlockFormat, WidenBlock } from "../block-format.ts";
import type { DType } from "../dtype.ts";
import { q2K, q3K, q4_0, q4_1, q4K, q5_0, q5_1, q5K, q6K, q8_0, q8_1, q8K } from "./blocks.ts";
import { iq1M, iq1S, iq2S, iq2Xs, iq2Xxs, iq3S, iq3Xxs, iq4Nl, iq4Xs } from "./codebook-blocks.ts";
import { mxfp4, nvfp4, q1_0, tq1_0, tq2_0 } from "./small-blocks.ts";

export interface GgmlFormat extends BlockFormat {
  readonly name: GgmlBlockName;
  /** Its number in GGUF files. */
  readonly id: number;
}

const row = <const N extends string>(
  name: N,
  id: number,
  elements: number,
  bytes: number,
  widen: WidenBlock,
): { name: N; id: number; elements: number; bytes: number; widen: WidenBlock } => ({
  name,
  id,
  elements,
  bytes,
  widen,
});

const rows = [
  row("Q4_0", 2, 32, 18, q4_0),
  row("Q4_1", 3, 32, 20, q4_1),
  row("Q5_0", 6, 32, 22, q5_0),
  row("Q5_1", 7, 32, 24, q5_1),
  row("Q8_0", 8, 32, 34, q8_0),
  row("Q8_1", 9, 32, 36, q8_1),
  row("Q2_K", 10, 256, 84, q2K),
  row("Q3_K", 11, 256, 110, q3K),
  row("Q4_K", 12, 256, 144, q4K),
  row("Q5_K", 13, 256, 176, q5K),
  row("Q6_K", 14, 256, 210, q6K),
  row("Q8_K", 15, 256, 292, q8K),
  row("IQ2_XXS", 16, 256, 66, iq2Xxs),
  row("IQ2_XS", 17, 256, 74, iq2Xs),
  row("IQ3_XXS", 18, 256, 98, iq3Xxs),
  row("IQ1_S", 19, 256, 50, iq1S),
  row("IQ4_NL", 20, 32, 18, iq4Nl),
  row("IQ3_S", 21, 256, 110, iq3S),
  row("IQ2_S", 22, 256, 82, iq2S),
  row("IQ4_XS", 23, 256, 136, iq4Xs),
  row("IQ1_M", 29, 256, 56, iq1M),
  row("TQ1_0", 34, 256, 54, tq1_0),
  row("TQ2_0", 35, 256, 66, tq2_0),
  row("MXFP4", 39, 32, 17, mxfp4),
  row("NVFP4", 40, 64, 36, nvfp4),
  row("Q1_0", 41, 128, 18, q1_0),
] as const;

export type GgmlBlockName = (typeof rows)[number]["name"];

export const ggmlFormats: readonly GgmlFormat[] = rows;
const byId = new Map(ggmlFormats.map((format) => [format.id, format]));

/** The types of GGUF that are plain numbers. */
const plainTypes: Readonly<Record<number, DType>> = {
  0: "f32",
  1: "f16",
  24: "i8",
  25: "i16",
  26: "i32",
  27: "i64",
  28: "f64",
  30: "bf16",
};

/** The type number of plain numbers in GGUF files. */
export function plainTypeId(dtype: DType): number | undefined {
  const found = Object.entries(plainTypes).find(([, name]) => name === dtype);
  return found && Number(found[0]);
}

/** What a type number of a GGUF file means; undefined for one that is not known. */
export function ggmlType(id: number): { dtype: DType } | { blocks: GgmlFormat } | undefined {
  const dtype = plainTypes[id];
  if (dtype) return { dtype };
  const blocks = byId.get(id);
  return blocks && { blocks };
}

export function ggmlFormat(name: string): GgmlFormat | undefined {
  return ggmlFormats.find((format) => format.name === name);
}
