// The coarse operations every device implements. All take out-parameters: the caller allocates, the kernel computes.
// No shapes are inferred here and no gradients recorded; that is tensor/ops. Operands are row-major and contiguous.
import type { BlockFormat } from "../base/block-format.ts";
import type { DType } from "../base/dtype.ts";
import type { Block } from "./device.ts";

/** A tensor to a kernel: where it lies, its dtype and its shape, dense and row-major. */
export interface Operand {
  readonly block: Block;
  /** Bytes from the start of the block; a multiple of the element size. */
  readonly offset: number;
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/**
 * Which row of a small table [R, C] each row of a tall matrix [M, C] uses, as runs: rows `start … start+count-1` use
 * table row `row`. Runs cover 0…M-1 in order. One timestep for all tokens is one run; TI2V's first frame adds a second;
 * a batch has a run per sample.
 */
export type RowRuns = readonly { readonly start: number; readonly count: number; readonly row: number }[];

export type Activation = "gelu-tanh" | "silu" | "quick-gelu" | "gelu-erf";

/** What happens to a product before it is stored, in this order: z = scale·A·B + bias (+ out, if accumulate); z = activation(z); z *= gate row; z += residual. */
export interface Epilogue {
  scale?: number;
  /** [N] */
  bias?: Operand;
  accumulate?: boolean;
  activation?: Activation;
  /** A table [R, N] (float32) of which each row of the result takes the row that `runs` names. */
  gate?: { table: Operand; runs: RowRuns };
  /** [M, N], any float dtype; may be float32 while the product is bf16. */
  residual?: Operand;
}

/** A device's own form of a weight (blocked layout). Opaque; freed through `block`. */
export interface PackedWeight {
  readonly block: Block;
  readonly layout: unknown;
}

/**
 * A Linear's weight [N, K] as the device has it: plain (any float dtype, or f8e4m3/f8e5m2/i8 with `scale`), blocks, or
 * packed.
 */
export interface LinearWeight {
  readonly dtype: DType;
  readonly shape: readonly [outputs: number, inputs: number];
  readonly plain?: Operand | undefined;
  /** What `plain` holds where its dtype is u8: rows of whole blocks, [N, bytes of a row]. Only where the device takes them. */
  readonly blocks?: BlockFormat | undefined;
  /** Quantised weights: float32 [1] per tensor, [N, 1] per channel, [N, K/b, 1] per block of b inputs; weight = data·scale. */
  readonly scale?: Operand | undefined;
  readonly packed?: PackedWeight | undefined;
}

export interface AttentionOptions {
  /** Multiplies q·k; 1/√headDim in the transformers, 1 in UMT5. */
  scale: number;
  /** Keys that take part, per batch item; all where absent. */
  keyLengths?: readonly number[];
  /** Added to the scores: float32 [heads, Lq, Lk]. */
  bias?: Operand;
}

export interface ConvolutionOptions {
  stride: readonly [t: number, h: number, w: number];
  /** Zeros before and after on each axis: [[front, back], [top, bottom], [left, right]]. */
  padding: readonly [readonly [number, number], readonly [number, number], readonly [number, number]];
}

export interface RopeTable {
  /** float32 [L, headDim/2] each: rows of the sequence in order. Rows of x beyond L pass unchanged. */
  cos: Operand;
  sin: Operand;
}

export interface ModulatedNorm {
  eps: number;
  /** Affine [C]. */
  weight?: Operand;
  bias?: Operand;
  /** y = norm(x)·(1 + scale) + shift, with float32 tables [R, C]. Excludes the affine form. */
  modulation?: { scale: Operand; shift: Operand; runs: RowRuns };
}

/** `mean`: x·rsqrt(mean(x²) + eps)·weight (transformer). `l2`: x / max(‖x‖₂, eps)·√C·weight (autoencoder). */
export interface RmsNormOptions {
  eps: number;
  kind: "mean" | "l2";
  /** SiLU after the norm, in one pass. */
  silu?: boolean;
}

export interface AdamWOptions {
  learningRate: number;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  /** 1 for the first step. */
  step: number;
  /** Multiplies the gradient first (clipping, accumulation). */
  gradientScale: number;
}

export type BinaryOp = "add" | "subtract" | "multiply" | "divide";

/** Every operation a device computes. The caller allocates the results; each kernel writes into what it is given. */
export interface Kernels {
  // Products. Leading dimensions are batch; [.., M, K]·[.., K, N]. float32 and bf16, any mix, float32 accumulation.
  matmul(
    a: Operand,
    b: Operand,
    out: Operand,
    options?: Epilogue & { transposeA?: boolean; transposeB?: boolean },
  ): void;
  /** out [M, N] = epilogue(x [M, K] · weightᵀ). */
  linear(x: Operand, weight: LinearWeight, out: Operand, options?: Epilogue): void;
  /** dx [M, K] (+)= dy [M, N] · weight. */
  linearBackwardData(dy: Operand, weight: LinearWeight, dx: Operand, options?: { accumulate?: boolean }): void;
  /** The device's own layout of a weight [N, K], or undefined where plain is as good. `rows`: how many rows x will have, if known. */
  packWeight(plain: Operand, rows?: number): PackedWeight | undefined;
  unpackWeight(packed: PackedWeight, out: Operand): void;

  // Attention. q [B, Lq, H, D]; k, v [B, Lk, H, D]; out like q. logSumExp float32 [B, H, Lq] is what backward needs.
  attention(q: Operand, k: Operand, v: Operand, out: Operand, options: AttentionOptions, logSumExp?: Operand): void;
  attentionBackward(
    input: { q: Operand; k: Operand; v: Operand; out: Operand; logSumExp: Operand; dout: Operand },
    options: AttentionOptions,
    gradients: { dq?: Operand; dk?: Operand; dv?: Operand },
  ): void;

  // Norms over the last axis, any leading shape. Statistics and tables in float32; x, out and dy may differ in dtype.
  layerNorm(x: Operand, out: Operand, options: ModulatedNorm): void;
  /** dweight, dbias [C], dscale, dshift [R, C]: float32, overwritten. dx overwritten. */
  layerNormBackward(
    x: Operand,
    dy: Operand,
    options: ModulatedNorm,
    gradients: { dx?: Operand; dweight?: Operand; dbias?: Operand; dscale?: Operand; dshift?: Operand },
  ): void;
  rmsNorm(x: Operand, weight: Operand, out: Operand, options: RmsNormOptions): void;
  rmsNormBackward(
    x: Operand,
    weight: Operand,
    dy: Operand,
    options: RmsNormOptions,
    gradients: { dx?: Operand; dweight?: Operand },
  ): void;

  /** x, out [B, L, H, D]; pairs are adjacent elements. `inverse` turns the other way: the gradient. out may be x. */
  rope(x: Operand, table: RopeTable, out: Operand, options?: { inverse?: boolean }): void;

  activation(kind: Activation, x: Operand, out: Operand): void;
  activationBackward(kind: Activation, x: Operand, dy: Operand, dx: Operand): void;

  /** out = x + y·table[row]; x, out any float dtype [M, C], y [M, C], table float32 [R, C]. Without x: out = y·table[row]. */
  gatedAdd(x: Operand | undefined, y: Operand, table: Operand, runs: RowRuns, out: Operand): void;
  /** out [R, C] float32 (overwritten): per table row, the sum over its rows of a∘b (of a alone without b). */
  sumRuns(a: Operand, b: Operand | undefined, runs: RowRuns, out: Operand): void;

  // Convolution, channels last: x [B, T, H, W, Ci], weight [Co, Ci, kt, kh, kw], bias [Co], out [B, T', H', W', Co].
  conv3d(x: Operand, weight: Operand, bias: Operand | undefined, out: Operand, options: ConvolutionOptions): void;
  conv3dBackwardData(dy: Operand, weight: Operand, dx: Operand, options: ConvolutionOptions): void;
  conv3dBackwardWeights(
    x: Operand,
    dy: Operand,
    dweight: Operand,
    dbias: Operand | undefined,
    options: ConvolutionOptions,
  ): void;

  /** Broadcast as NumPy does; dtypes may differ; out may be one of the inputs where shapes agree. */
  binary(op: BinaryOp, a: Operand, b: Operand, out: Operand): void;
  /** out = alpha·a + beta·b, same shapes (b absent: alpha·a + constant). */
  affine(a: Operand, alpha: number, b: Operand | undefined, beta: number, out: Operand, constant?: number): void;
  clamp(x: Operand, low: number, high: number, out: Operand): void;
  fill(out: Operand, value: number): void;
  /** Converts between dtypes, same element count. */
  cast(x: Operand, out: Operand): void;
  /**
   * Copies `extent` elements between two element-strided windows (permute, slice, concat, pad, repeat by stride 0).
   * Offsets and strides count elements. dtypes agree. `accumulate` adds (float dtypes).
   */
  stridedCopy(
    source: { operand: Operand; offset: number; strides: readonly number[] },
    target: { operand: Operand; offset: number; strides: readonly number[] },
    extent: readonly number[],
    options?: { accumulate?: boolean },
  ): void;
  /** Sums over `axes`; out has 1 there. float32 accumulation or better. */
  sum(x: Operand, axes: readonly number[], out: Operand): void;
  /** Scalar float32: Σ x², accumulated in float64 or in compensated float32. */
  sumSquares(x: Operand, out: Operand): void;
  /** Over the last axis. */
  softmax(x: Operand, out: Operand): void;
  softmaxBackward(y: Operand, dy: Operand, dx: Operand): void;
  /** out[i] = table[ids[i]]; ids i32. */
  embedding(table: Operand, ids: Operand, out: Operand): void;
  /** dtable (overwritten) gathers dy by id. */
  embeddingBackward(ids: Operand, dy: Operand, dtable: Operand): void;

  /** One step of AdamW with decoupled decay (torch.optim.AdamW); parameter, m, v float32; gradient any float. */
  adamw(parameter: Operand, gradient: Operand, m: Operand, v: Operand, options: AdamWOptions): void;
  /** The same with m, v as 8-bit codes [n] and float32 absmax scales per block of 256 (dynamic code, bitsandbytes' blockwise form). */
  adamw8bit(
    parameter: Operand,
    gradient: Operand,
    state: { m: Operand; mScale: Operand; v: Operand; vScale: Operand },
    options: AdamWOptions,
  ): void;

  /** Standard normal float32 values `offset …` of the Philox stream (seed, stream): the same on every device. */
  normal(out: Operand, generator: { seed: bigint; stream: number; offset: number }): void;

  /** data = round(x / scale) in f8e4m3, f8e5m2 or i8, computing the float32 scale of the granularity that scale's shape names (see LinearWeight). */
  quantize(x: Operand, data: Operand, scale: Operand): void;
  /** out = data·scale. With `blocks`, data holds whole blocks in u8, as many as give out's elements. */
  dequantize(data: Operand, scale: Operand | undefined, out: Operand, blocks?: BlockFormat): void;
}
