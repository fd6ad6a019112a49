// The UMT5 encoder: token ids to text embeddings. Encoder only, a position bias of its own in every layer.
// https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/t5.py
import type { DType } from "../../base/dtype.ts";
import type { Device } from "../../device/device.ts";
import { Linear } from "../../nn/linear.ts";
import type { LookupTable } from "../../nn/lookup-table.ts";
import type { WeightProvider } from "../../nn/weights.ts";
import { attention, cast, embedding, multiply, permute, reshape, rmsNorm } from "../../tensor/ops/index.ts";
import { openScope, scoped } from "../../tensor/scope.ts";
import { empty, fromIntegers, type Tensor } from "../../tensor/tensor.ts";
import type { TextEncoderConfig } from "./params.ts";

/**
 * Bucket of a distance (key − query): half of the buckets for each sign, exact up to half of those, then logarithmic
 * up to `maxDistance`. Upstream computes the logarithm in float32.
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/t5.py#L242-L263
 */
export function relativePositionBucket(distance: number, buckets: number, maxDistance: number): number {
  const half = Math.floor(buckets / 2);
  const exact = Math.floor(half / 2);
  const sign = distance > 0 ? half : 0;
  const magnitude = Math.abs(distance);
  if (magnitude < exact) return sign + magnitude;
  const logarithm = Math.fround(Math.log(Math.fround(magnitude / exact)));
  const scaled = Math.fround(Math.fround(logarithm / Math.log(maxDistance / exact)) * (half - exact));
  return sign + Math.min(exact + Math.trunc(scaled), half - 1);
}

class EncoderBlock {
  readonly #config: TextEncoderConfig;
  readonly #dtype: DType;
  readonly #norm1: Tensor;
  readonly #norm2: Tensor;
  readonly #q: Linear;
  readonly #k: Linear;
  readonly #v: Linear;
  readonly #o: Linear;
  readonly #gate: Linear;
  readonly #fc1: Linear;
  readonly #fc2: Linear;
  readonly #positions: Tensor;

  constructor(weights: WeightProvider, name: string, config: TextEncoderConfig, dtype: DType) {
    const { dim, attentionDim, ffnDim, buckets, heads } = config;
    const layer = (part: string, inputs: number, outputs: number) =>
      new Linear(weights, `${name}.${part}`, inputs, outputs, { dtype, bias: false });
    this.#config = config;
    this.#dtype = dtype;
    this.#norm1 = weights.tensor(`${name}.norm1.weight`, [dim], "f32");
    this.#norm2 = weights.tensor(`${name}.norm2.weight`, [dim], "f32");
    this.#q = layer("attn.q", dim, attentionDim);
    this.#k = layer("attn.k", dim, attentionDim);
    this.#v = layer("attn.v", dim, attentionDim);
    this.#o = layer("attn.o", attentionDim, dim);
    this.#gate = layer("ffn.gate.0", dim, ffnDim);
    this.#fc1 = layer("ffn.fc1", dim, ffnDim);
    this.#fc2 = layer("ffn.fc2", ffnDim, dim);
    this.#positions = weights.tensor(`${name}.pos_embedding.embedding.weight`, [buckets, heads], "f32");
  }

  /** x float32 [B, L, dim], buckets int32 [2L−1] of the distances −(L−1) … L−1. */
  forward(x: Tensor, buckets: Tensor, lengths: readonly number[]): Tensor {
    return scoped(x.device, () => {
      const attended = scoped(x.device, () => this.#attend(x, buckets, lengths));
      const normed = cast(rmsNorm(attended, this.#norm2, { eps: this.#config.eps, kind: "mean" }), this.#dtype);
      const gated = multiply(this.#fc1.forward(normed), this.#gate.forward(normed, { activation: "gelu-tanh" }));
      return this.#fc2.forward(gated, { residual: attended });
    });
  }

  /** float32 [heads, L, L]: what is added to the score of each query and key. */
  positionBias(buckets: Tensor): Tensor {
    const { heads } = this.#config;
    const distances = buckets.shape[0]!;
    const length = (distances + 1) / 2;
    return scoped(buckets.device, () => {
      const byDistance = permute(embedding(this.#positions, buckets), [1, 0]);
      const bias = empty(buckets.device, [heads, length, length], "f32");
      // Row q of a head is a window of the distances, one further left for each query.
      buckets.device.kernels.stridedCopy(
        { operand: byDistance, offset: length - 1, strides: [distances, -1, 1] },
        { operand: bias, offset: 0, strides: [length * length, length, 1] },
        [heads, length, length],
      );
      return bias;
    });
  }

  #attend(x: Tensor, buckets: Tensor, lengths: readonly number[]): Tensor {
    const { heads, attentionDim, eps } = this.#config;
    const [batch, length] = x.shape;
    const normed = cast(rmsNorm(x, this.#norm1, { eps, kind: "mean" }), this.#dtype);
    const split = (layer: Linear) => reshape(layer.forward(normed), [batch!, length!, heads, attentionDim / heads]);
    const masked = lengths.some((count) => count < length!);
    const mixed = attention(split(this.#q), split(this.#k), split(this.#v), {
      scale: 1,
      bias: this.positionBias(buckets),
      ...(masked ? { keyLengths: lengths } : {}),
    });
    return this.#o.forward(reshape(mixed, [batch!, length!, attentionDim]), { residual: x });
  }
}

/** The encoder half of UMT5, which turns a prompt's tokens into embeddings. */
export class TextEncoder implements Disposable {
  readonly config: TextEncoderConfig;
  readonly device: Device;
  readonly blocks: readonly EncoderBlock[];
  readonly #weights: WeightProvider;
  readonly #tokens: LookupTable;
  readonly #norm: Tensor;

  constructor(weights: WeightProvider, config: TextEncoderConfig, { dtype }: { dtype: "f32" | "bf16" }) {
    this.config = config;
    this.device = weights.device;
    this.#weights = weights;
    this.#tokens = weights.table("token_embedding.weight", [config.vocabulary, config.dim]);
    this.blocks = Array.from(
      { length: config.layers },
      (_, i) => new EncoderBlock(weights, `blocks.${i}`, config, dtype),
    );
    this.#norm = weights.tensor("norm.weight", [config.dim], "f32");
  }

  /**
   * Ids of a batch, each row `length` long with `lengths[i]` true tokens in front → float32 [B, length, dim].
   * Rows beyond a text's true length hold what upstream computes there; the video models never see them.
   */
  forward(ids: readonly Int32Array[], lengths: readonly number[]): Tensor {
    const batch = ids.length;
    const length = ids[0]!.length;
    using scope = openScope(this.device);
    const flat = new Int32Array(batch * length);
    for (const [i, row] of ids.entries()) flat.set(row, i * length);
    let x = this.#tokens.rows(flat, [batch, length]);
    const buckets = this.distanceBuckets(length);
    for (const block of this.blocks) {
      const next = block.forward(x, buckets, lengths);
      x[Symbol.dispose]();
      x = next;
    }
    return scope.keep(rmsNorm(x, this.#norm, { eps: this.config.eps, kind: "mean" }));
  }

  /** One text's embeddings, float32 [tokens, dim]: what the official encoder hands on, padding cut off. */
  encode(ids: Int32Array): Tensor {
    return scoped(this.device, () => reshape(this.forward([ids], [ids.length]), [ids.length, this.config.dim]));
  }

  /** int32 [2·length − 1]: the bucket of each distance key − query. */
  distanceBuckets(length: number): Tensor {
    const { buckets, maxDistance } = this.config;
    const values = Int32Array.from({ length: 2 * length - 1 }, (_, i) =>
      relativePositionBucket(i - (length - 1), buckets, maxDistance),
    );
    return fromIntegers(this.device, values, [values.length]);
  }

  [Symbol.dispose](): void {
    this.#weights[Symbol.dispose]();
  }
}
