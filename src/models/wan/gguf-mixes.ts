// Which block format each matrix of a GGUF file has, by the name of the whole file's type: city96's rules for Wan.
// https://github.com/city96/ComfyUI-GGUF/blob/main/tools/lcpp.patch (img_tensor_get_type, LLM_ARCH_WAN)
import type { QuantizedName } from "../../base/ggml/quantize.ts";
import type { Shape } from "../../base/shape.ts";

type PlainName = "F32" | "F16" | "BF16";

export interface Mix {
  /** Of most matrices. */
  readonly type: QuantizedName | PlainName;
  /** llama.cpp's number for the whole file. */
  readonly fileType: number;
  /** Undefined: not quantised. `order` counts value matrices as they come. */
  typeOf(official: string, shape: Shape, order: { values: number }): QuantizedName | undefined;
}

/** What is kept as it is, beside everything that is no matrix. */
const kept =
  /modulation|^patch_embedding\.|^text_embedding\.|^time_projection\.|^time_embedding\.|^img_emb\.|^head\.|pos_embedding/;

interface Exceptions {
  /** For the value matrices of attention, by how many came before. */
  values?: (before: number) => QuantizedName | undefined;
  /** For the second matrices of the feed-forward layers. */
  down?: QuantizedName;
  /** For the text encoder's table. */
  table?: QuantizedName;
}

function quantized(type: QuantizedName, fileType: number, { values, down, table = type }: Exceptions = {}): Mix {
  return {
    type,
    fileType,
    typeOf(official, shape, order) {
      if (shape.length !== 2 || !official.endsWith(".weight") || kept.test(official)) return undefined;
      if (official === "token_embedding.weight") return table;
      if (/attn\.v\.weight$/.test(official)) return values?.(order.values++) ?? type;
      return (/\.ffn\.(?:2|fc2)\.weight$/.test(official) ? down : undefined) ?? type;
    },
  };
}

const plain = (type: PlainName, fileType: number): Mix => ({ type, fileType, typeOf: () => undefined });

const always = (type: QuantizedName) => () => type;
const first = (count: number, type: QuantizedName, after?: QuantizedName) => (before: number) =>
  before < count ? type : after;

/** By the name that files carry. */
export const mixes: Readonly<Record<string, Mix>> = {
  F32: plain("F32", 0),
  F16: plain("F16", 1),
  BF16: plain("BF16", 32),
  Q8_0: quantized("Q8_0", 7),
  Q6_K: quantized("Q6_K", 18),
  Q5_K_M: quantized("Q5_K", 17, { values: always("Q6_K"), down: "Q6_K", table: "Q6_K" }),
  Q5_K_S: quantized("Q5_K", 16, { table: "Q6_K" }),
  Q5_1: quantized("Q5_1", 9),
  Q5_0: quantized("Q5_0", 8, { down: "Q5_1" }),
  Q4_K_M: quantized("Q4_K", 15, { values: always("Q6_K"), down: "Q6_K", table: "Q6_K" }),
  Q4_K_S: quantized("Q4_K", 14, { values: first(4, "Q5_K"), down: "Q5_K", table: "Q6_K" }),
  Q4_1: quantized("Q4_1", 3),
  Q4_0: quantized("Q4_0", 2, { down: "Q4_1" }),
  Q3_K_L: quantized("Q3_K", 13, { values: always("Q5_K"), down: "Q5_K", table: "Q6_K" }),
  Q3_K_M: quantized("Q3_K", 12, { values: first(2, "Q5_K", "Q4_K"), down: "Q4_K", table: "Q6_K" }),
  Q3_K_S: quantized("Q3_K", 11, { table: "Q6_K" }),
  Q2_K: quantized("Q2_K", 10, { values: always("Q3_K"), table: "Q6_K" }),
};

/** By its name in any case. */
export const mixOf = (name: string): Mix | undefined => mixes[name.toUpperCase()];
