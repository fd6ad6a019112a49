// softmax(scale·q·kᵀ + bias)·v per head, without the whole score matrix.
import { checkShape } from "../../base/shape.ts";
import type { AttentionOptions } from "../../device/kernels.ts";
import { isRecorded, record } from "../tape.ts";
import { empty, type Tensor } from "../tensor.ts";

export interface AttentionInput {
  /** Multiplies the scores; 1/√headDim where absent. */
  scale?: number;
  /** Keys that take part, per batch item. */
  keyLengths?: readonly number[];
  /** Added to the scores, float32 [heads, Lq, Lk]. Has no gradient here. */
  bias?: Tensor;
}

/** q [B, Lq, H, D], k and v [B, Lk, H, D] → [B, Lq, H, D]. */
export function attention(q: Tensor, k: Tensor, v: Tensor, input: AttentionInput = {}): Tensor {
  const [batch, queries, heads, width] = q.shape;
  checkShape("attention keys", k.shape, [batch, undefined, heads, width]);
  checkShape("attention values", v.shape, k.shape);
  const options: AttentionOptions = {
    scale: input.scale ?? 1 / Math.sqrt(width!),
    ...(input.keyLengths ? { keyLengths: input.keyLengths } : {}),
    ...(input.bias ? { bias: input.bias } : {}),
  };
  const output = empty(q.device, q.shape, q.dtype);
  if (!isRecorded(q.device, [q, k, v])) {
    q.device.kernels.attention(q, k, v, output, options);
    return record("attention", output, [q, k, v], [], () => []);
  }
  const logSumExp = empty(q.device, [batch!, heads!, queries!], "f32");
  q.device.kernels.attention(q, k, v, output, options, logSumExp);
  const kept = [q, k, v, output, logSumExp, ...(input.bias ? [input.bias] : [])];
  return record("attention", output, [q, k, v], kept, (dout, needs, saved) => {
    const [sq, sk, sv, out, lse, bias] = saved as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor?];
    const [dq, dk, dv] = [sq, sk, sv].map((tensor, i) =>
      needs[i] ? empty(dout.device, tensor.shape, tensor.dtype) : undefined,
    );
    const same = bias ? { ...options, bias } : options;
    dout.device.kernels.attentionBackward({ q: sq, k: sk, v: sv, out, logSumExp: lse, dout }, same, {
      ...(dq ? { dq } : {}),
      ...(dk ? { dk } : {}),
      ...(dv ? { dv } : {}),
    });
    return [dq, dk, dv];
  });
}
