// One block of the transformer: self-attention, cross-attention with text (and CLIP), feed-forward.
// The residual stream is float32; products run in the compute dtype.
import type { DType } from "../../../base/dtype.ts";
import type { RowRuns } from "../../../device/kernels.ts";
import { Linear, type LinearForward } from "../../../nn/linear.ts";
import { Parameter } from "../../../nn/parameter.ts";
import type { WeightProvider } from "../../../nn/weights.ts";
import {
  add,
  attention,
  cast,
  gatedAdd,
  layerNorm,
  multiply,
  permute,
  type Rotation,
  reshape,
  rmsNorm,
  rope,
  slice,
} from "../../../tensor/ops/index.ts";
import { scoped } from "../../../tensor/scope.ts";
import type { Tensor } from "../../../tensor/tensor.ts";
import type { DitConfig } from "../params.ts";
import { type Enhancement, enhanceVariants, frameScore, type NagStrength, normalizedGuidance } from "./changes.ts";
import type { ContextKeys, KeptKeys, Keys } from "./kept-keys.ts";

/** NAG's text, absent where all of its keys are kept. */
export type NagContext = NagStrength & { text?: Tensor; kept?: KeptKeys };

/** What a block needs beside its own input. */
export interface BlockContext {
  /** float32 [R, 6, dim]: a row per distinct timestep. */
  timeProjection: Tensor;
  /** Which row each token uses; tokens of all samples in order. */
  runs: RowRuns;
  rotation: Rotation;
  /** [B, textLength, dim] in the compute dtype, zero rows included; may be absent where `kept` has the keys of all blocks. */
  text?: Tensor;
  /** [B, 257 or 514, dim]: 2.1 image-to-video only. */
  image?: Tensor;
  /** The keys and values of text and image, where they are kept. */
  kept?: KeptKeys;
  /** As `text`: what cross-attention is led away from. */
  nag?: NagContext;
  enhance?: Enhancement & { frames: number };
  skipBlocks?: readonly number[];
}

/** The parts of a modulation: one [R, dim] table each. */
export function modulationParts(modulation: Tensor, time: Tensor): Tensor[] {
  const [, count, dim] = modulation.shape;
  const table = permute(add(time, modulation), [1, 0, 2]);
  return Array.from({ length: count! }, (_, i) => reshape(slice(table, 0, i, 1), [time.shape[0]!, dim!]));
}

class SelfAttention {
  readonly q: Linear;
  readonly k: Linear;
  readonly v: Linear;
  readonly o: Linear;
  readonly normQ: Parameter;
  readonly normK: Parameter;
  protected readonly config: DitConfig;

  constructor(weights: WeightProvider, name: string, config: DitConfig, dtype: DType) {
    const { dim } = config;
    this.config = config;
    this.q = new Linear(weights, `${name}.q`, dim, dim, { dtype });
    this.k = new Linear(weights, `${name}.k`, dim, dim, { dtype });
    this.v = new Linear(weights, `${name}.v`, dim, dim, { dtype });
    this.o = new Linear(weights, `${name}.o`, dim, dim, { dtype });
    this.normQ = new Parameter(weights, `${name}.norm_q.weight`, [dim]);
    this.normK = new Parameter(weights, `${name}.norm_k.weight`, [dim]);
  }

  linears(): Linear[] {
    return [this.q, this.k, this.v, this.o];
  }

  norms(): Parameter[] {
    return [this.normQ, this.normK];
  }

  /** [B, L, dim] → [B, L, heads, headDim] */
  protected heads(x: Tensor): Tensor {
    const { dim, heads } = this.config;
    return reshape(x, [x.shape[0]!, x.shape[1]!, heads, dim / heads]);
  }

  /** RMS norm over the whole width, before the split into heads. */
  protected normed(x: Tensor, weight: Parameter): Tensor {
    return this.heads(rmsNorm(x, weight.value, { eps: this.config.eps, kind: "mean" }));
  }

  /** x [B, L, dim] modulated and normed → [B, L, dim] by `finish`. */
  forward(x: Tensor, { rotation, enhance }: BlockContext, finish: LinearForward): Tensor {
    if (enhance && enhance.frames > 1) return this.#enhanced(x, rotation, enhance, finish);
    const attended = scoped(x.device, () => {
      const q = scoped(x.device, () => rope(this.normed(this.q.forward(x), this.normQ), rotation));
      const k = scoped(x.device, () => rope(this.normed(this.k.forward(x), this.normK), rotation));
      return attention(q, k, this.heads(this.v.forward(x)));
    });
    return this.o.forward(reshape(attended, x.shape), finish);
  }

  /** Enhance-A-Video: what attention gives, made stronger by how much frames attend to one another. */
  #enhanced(
    x: Tensor,
    rotation: Rotation,
    { weight, variant, frames }: Enhancement & { frames: number },
    { gate, residual }: LinearForward,
  ): Tensor {
    const { rotated, neighbours, afterOutput } = enhanceVariants[variant];
    return scoped(x.device, () => {
      const normed = [this.normed(this.q.forward(x), this.normQ), this.normed(this.k.forward(x), this.normK)] as const;
      const turned = [rope(normed[0], rotation), rope(normed[1], rotation)] as const;
      const strength = frameScore(...(rotated ? turned : normed), { frames, weight, neighbours });
      const attended = reshape(attention(...turned, this.heads(this.v.forward(x))), x.shape);
      if (!afterOutput) {
        return this.o.forward(multiply(attended, cast(strength, x.dtype)), {
          ...(gate ? { gate } : {}),
          ...(residual ? { residual } : {}),
        });
      }
      const output = multiply(this.o.forward(attended), cast(strength, x.dtype));
      if (gate) return gatedAdd(residual, output, gate.table, gate.runs);
      return residual ? add(residual, output) : output;
    });
  }
}

class CrossAttention extends SelfAttention {
  /** 2.1 image-to-video: keys and values of the picture's CLIP features. */
  readonly image: { k: Linear; v: Linear; normK: Parameter } | undefined;

  constructor(weights: WeightProvider, name: string, config: DitConfig, dtype: DType) {
    super(weights, name, config, dtype);
    const { dim } = config;
    this.image = config.imageBranch && {
      k: new Linear(weights, `${name}.k_img`, dim, dim, { dtype }),
      v: new Linear(weights, `${name}.v_img`, dim, dim, { dtype }),
      normK: new Parameter(weights, `${name}.norm_k_img.weight`, [dim]),
    };
  }

  override linears(): Linear[] {
    return [...super.linears(), ...(this.image ? [this.image.k, this.image.v] : [])];
  }

  override norms(): Parameter[] {
    return [...super.norms(), ...(this.image ? [this.image.normK] : [])];
  }

  /** No mask: the zero-padded rows of the text are attended to, as upstream. */
  attend(x: Tensor, { text, image, nag, kept }: BlockContext, finish: LinearForward): Tensor {
    const attended = scoped(x.device, () => {
      const q = this.normed(this.q.forward(x), this.normQ);
      const keys = kept ? kept.of(this, () => this.#keys(text!, image)) : this.#keys(text!, image);
      const words = attention(q, keys.text.k, keys.text.v);
      const led = nag ? this.#ledAway(q, words, nag) : words;
      return keys.image ? add(led, attention(q, keys.image.k, keys.image.v)) : led;
    });
    return this.o.forward(reshape(attended, x.shape), finish);
  }

  /** Of the text, and of the picture's features where this model has them. */
  #keys(text: Tensor, image: Tensor | undefined): ContextKeys {
    if (!this.image || !image) return { text: this.#textKeys(text) };
    const { k, v, normK } = this.image;
    return {
      text: this.#textKeys(text),
      image: { k: this.normed(k.forward(image), normK), v: this.heads(v.forward(image)) },
    };
  }

  #textKeys(text: Tensor): Keys {
    return { k: this.normed(this.k.forward(text), this.normK), v: this.heads(this.v.forward(text)) };
  }

  /** `positive`, what q attends to in the text [B, L, heads, headDim] → the same. */
  #ledAway(q: Tensor, positive: Tensor, nag: NagContext): Tensor {
    const flat = (words: Tensor) => reshape(words, [q.shape[0]!, q.shape[1]!, this.config.dim]);
    const keys = () => ({ text: this.#textKeys(nag.text!) });
    const { k, v } = (nag.kept?.of(this, keys) ?? keys()).text;
    return reshape(normalizedGuidance(flat(positive), flat(attention(q, k, v)), nag), q.shape);
  }
}

/** https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/model.py#L181-L257 */
export class Block {
  readonly selfAttention: SelfAttention;
  readonly crossAttention: CrossAttention;
  readonly up: Linear;
  readonly down: Linear;
  readonly modulation: Parameter;
  readonly #norm3: { weight: Parameter; bias: Parameter };
  readonly #config: DitConfig;
  readonly #dtype: DType;

  constructor(weights: WeightProvider, name: string, config: DitConfig, dtype: DType) {
    const { dim, ffnDim } = config;
    this.#config = config;
    this.#dtype = dtype;
    this.modulation = new Parameter(weights, `${name}.modulation`, [1, 6, dim]);
    this.selfAttention = new SelfAttention(weights, `${name}.self_attn`, config, dtype);
    this.#norm3 = {
      weight: new Parameter(weights, `${name}.norm3.weight`, [dim]),
      bias: new Parameter(weights, `${name}.norm3.bias`, [dim]),
    };
    this.crossAttention = new CrossAttention(weights, `${name}.cross_attn`, config, dtype);
    this.up = new Linear(weights, `${name}.ffn.0`, dim, ffnDim, { dtype });
    this.down = new Linear(weights, `${name}.ffn.2`, ffnDim, dim, { dtype });
  }

  /** Every Linear, in the order of the forward pass. */
  linears(): Linear[] {
    return [...this.selfAttention.linears(), ...this.crossAttention.linears(), this.up, this.down];
  }

  /** What is no product's weight or bias. */
  parameters(): Parameter[] {
    const { weight, bias } = this.#norm3;
    return [this.modulation, ...this.selfAttention.norms(), ...this.crossAttention.norms(), weight, bias];
  }

  /** x float32 [B, L, dim] → the same; not changed itself. */
  forward(x: Tensor, context: BlockContext): Tensor {
    return scoped(x.device, () => {
      const { runs } = context;
      const [shift1, scale1, gate1, shift2, scale2, gate2] = modulationParts(
        this.modulation.value,
        context.timeProjection,
      );
      const modulated = (input: Tensor, scale: Tensor, shift: Tensor) =>
        layerNorm(input, { eps: this.#config.eps, modulation: { scale, shift, runs }, dtype: this.#dtype });
      const step = (body: () => Tensor) => scoped(x.device, body);

      const attended = step(() =>
        this.attendSelf(modulated(x, scale1!, shift1!), context, { gate: { table: gate1!, runs }, residual: x }),
      );
      const informed = step(() => this.attendText(attended, context, { residual: attended }));
      attended[Symbol.dispose]();
      return step(() =>
        this.feedForward(modulated(informed, scale2!, shift2!), { gate: { table: gate2!, runs }, residual: informed }),
      );
    });
  }

  /** x [B, L, dim], normed and modulated. */
  attendSelf(x: Tensor, context: BlockContext, finish: LinearForward = {}): Tensor {
    return this.selfAttention.forward(x, context, finish);
  }

  /** x float32 [B, L, dim], the residual stream. */
  attendText(x: Tensor, context: BlockContext, finish: LinearForward = {}): Tensor {
    const { weight, bias } = this.#norm3;
    const affine = { weight: weight.value, bias: bias.value };
    const normed = layerNorm(x, { eps: this.#config.eps, ...affine, dtype: this.#dtype });
    return this.crossAttention.attend(normed, context, finish);
  }

  /** x [B, L, dim], normed and modulated. */
  feedForward(x: Tensor, finish: LinearForward = {}): Tensor {
    return this.down.forward(this.up.forward(x, { activation: "gelu-tanh" }), finish);
  }
}
