// The Wan diffusion transformer: noisy latents, timesteps and text in; velocity (noise − clean latents) out.
import type { DType } from "../../../base/dtype.ts";
import { KinoraError } from "../../../base/errors.ts";
import { checkShape } from "../../../base/shape.ts";
import type { Device } from "../../../device/device.ts";
import type { RowRuns } from "../../../device/kernels.ts";
import { Linear } from "../../../nn/linear.ts";
import { Parameter } from "../../../nn/parameter.ts";
import {
  allResident,
  type BlockMemory,
  blocksAfter,
  type Pass,
  StreamedBlocks,
  type WeightResidency,
} from "../../../nn/residency.ts";
import { StreamedWeight } from "../../../nn/streamed-weight.ts";
import type { WeightProvider } from "../../../nn/weights.ts";
import {
  activation,
  add,
  cast,
  concat,
  layerNorm,
  permute,
  type Rotation,
  reshape,
} from "../../../tensor/ops/index.ts";
import { recomputed } from "../../../tensor/recompute.ts";
import { openScope, scoped } from "../../../tensor/scope.ts";
import { isRecording } from "../../../tensor/tape.ts";
import { fromValues, type Tensor, zeros } from "../../../tensor/tensor.ts";
import type { DitConfig } from "../params.ts";
import { Block, type BlockContext, modulationParts, type NagContext } from "./block.ts";
import type { PassChanges } from "./changes.ts";
import type { KeptKeys } from "./kept-keys.ts";
import { rotationTable, timestepSinusoid } from "./rotation.ts";

/** What a forward pass of the transformer is given, for a batch of B samples. */
export interface DitInput {
  /** float32 [B, C, F, H, W]; image-to-video condition channels already joined behind the noise. */
  latents: Tensor;
  /** Per sample: one timestep in 0…1000, or one for each of its tokens (TI2V: 0 on the first frame's). */
  timesteps: readonly (number | ArrayLike<number>)[];
  /** Per sample: text embeddings [length ≤ textLength, textDim], unpadded. */
  texts: readonly Tensor[];
  /** Per sample: CLIP features [257, featureDim] (FLF2V: [514, featureDim]); 2.1 image-to-video only. */
  images?: readonly Tensor[];
  /** Belongs to these texts and images: a pass without gradient reads and fills it, where that pays. */
  kept?: KeptKeys | undefined;
  /** Guidance inside this pass; none in training. */
  changes?: PassChanges;
}

/** What is known of a pass before its first block. */
export interface EmbeddedPass {
  /** float32 [B, L, dim] */
  tokens: Tensor;
  grid: [number, number, number];
  time: { embedding: Tensor; runs: RowRuns };
  context: BlockContext;
}

/** How a transformer computes and what of it is in memory. */
export interface DitOptions {
  /** What the large products run in; norms, residual stream, time and head stay float32. */
  dtype: "f32" | "bf16";
  /** How much of the blocks is in memory at once; all where absent. `weights` must hand out streamed ones (isBlockWeight). */
  blocks?: BlockMemory | undefined;
}

/**
 * Of a video for each row of a text, at most: the text's keys and values take 0.5 % of the 1.3B's forward with 7,800 tokens
 * and 3 % of the 5B's with 1,950, and 94 and 189 MB to keep.
 */
const TOKENS_WORTH_KEEPING = 16;

/** Weights that come and go with their block. */
export const isBlockWeight = (name: string): boolean => name.startsWith("blocks.");

/** https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/model.py#L296-L544 */
export class WanDit implements Disposable {
  readonly config: DitConfig;
  readonly device: Device;
  readonly dtype: DType;
  readonly blocks: readonly Block[];
  readonly residency: WeightResidency;
  readonly #weights: WeightProvider;
  readonly #patch: Linear;
  readonly #text: readonly [Linear, Linear];
  readonly #time: readonly [Linear, Linear];
  readonly #timeProjection: Linear;
  readonly #head: { linear: Linear; modulation: Parameter };
  readonly #image: ImageProjection | undefined;
  #rotation: { key: string; table: Rotation } | undefined;

  constructor(weights: WeightProvider, config: DitConfig, { dtype, blocks: memory }: DitOptions) {
    const { dim, textDim, frequencyDim, inputChannels, outputChannels, patchSize } = config;
    const patch = patchSize[0] * patchSize[1] * patchSize[2];
    this.config = config;
    this.device = weights.device;
    this.dtype = dtype;
    this.#weights = weights;
    this.#patch = new Linear(weights, "patch_embedding", inputChannels * patch, dim, {
      dtype,
      storedShape: [dim, inputChannels, ...patchSize],
    });
    this.#text = [
      new Linear(weights, "text_embedding.0", textDim, dim, { dtype }),
      new Linear(weights, "text_embedding.2", dim, dim, { dtype }),
    ];
    this.#time = [
      new Linear(weights, "time_embedding.0", frequencyDim, dim, { dtype: "f32" }),
      new Linear(weights, "time_embedding.2", dim, dim, { dtype: "f32" }),
    ];
    this.#timeProjection = new Linear(weights, "time_projection.1", dim, dim * 6, { dtype: "f32" });
    this.#image = config.imageBranch && new ImageProjection(weights, config, dtype);
    this.blocks = Array.from({ length: config.layers }, (_, i) => new Block(weights, `blocks.${i}`, config, dtype));
    this.#head = {
      linear: new Linear(weights, "head.head", dim, outputChannels * patch, { dtype: "f32" }),
      modulation: new Parameter(weights, "head.modulation", [1, 2, dim]),
    };
    this.residency = memory ? new StreamedBlocks(this.device, this.blocks.map(streamedWeights), memory) : allResident;
  }

  /** Every Linear by its official name: where adapters of its weight stand. */
  linears(): Map<string, Linear> {
    const all = [this.#patch, ...this.#text, ...this.#time, this.#timeProjection, this.#head.linear];
    for (const block of this.blocks) all.push(...block.linears());
    if (this.#image) all.push(...this.#image.linears);
    return new Map(all.map((layer) => [layer.name, layer]));
  }

  /** Every parameter that is no Linear's weight, by its official name: biases, norms, modulations. */
  parameters(): Map<string, Parameter> {
    const all = [...this.linears().values()].flatMap(({ bias }) => bias ?? []);
    all.push(this.#head.modulation, ...(this.#image?.parameters() ?? []));
    for (const block of this.blocks) all.push(...block.parameters());
    return new Map(all.map((parameter) => [parameter.name, parameter]));
  }

  /** Velocity, float32 [B, C, F, H, W]. `recompute`: keep only each block's input for the backward pass. */
  forward(input: DitInput, options: { recompute?: boolean } = {}): Tensor {
    return scoped(this.device, () => {
      const { recompute = false } = options;
      const { tokens, context, time, grid } = this.embed(recompute ? { ...input, kept: undefined } : input);
      const output = this.runBlocks(tokens, context, recompute);
      return this.finish(output, time.embedding, time.runs, grid);
    });
  }

  /** All that comes before the first block. */
  embed(input: DitInput): EmbeddedPass {
    const { grid, tokens } = this.patchify(input.latents);
    const time = this.embedTime(input.timesteps, grid[0] * grid[1] * grid[2]);
    const kept = this.#keptOf(input, tokens);
    const { nag, enhance, skipBlocks } = input.changes ?? {};
    const context: BlockContext = {
      timeProjection: time.projection,
      runs: time.runs,
      rotation: this.rotation(grid),
      ...(kept?.size === this.blocks.length ? {} : this.#embedContext(input)),
      ...(kept ? { kept } : {}),
      ...(nag ? { nag: this.#embedNag(nag, tokens) } : {}),
      ...(enhance ? { enhance: { ...enhance, frames: grid[0] } } : {}),
      ...(skipBlocks ? { skipBlocks } : {}),
    };
    return { tokens: cast(tokens, "f32"), grid, time, context };
  }

  /** What the blocks make their keys and values of beside their own tokens. */
  #embedContext({ texts, images }: DitInput): Pick<BlockContext, "text" | "image"> {
    if (this.#image && !images) {
      throw new KinoraError("dit.image-missing", "this model needs CLIP features of the picture", {
        expected: "input.images",
      });
    }
    const text = this.embedText(texts);
    return this.#image ? { text, image: this.#image.forward(images!) } : { text };
  }

  #embedNag({ texts, kept: given, ...strength }: NonNullable<PassChanges["nag"]>, tokens: Tensor): NagContext {
    const kept = given && this.#keptOf({ kept: given }, tokens);
    const known = kept?.size === this.blocks.length;
    return { ...strength, ...(known ? {} : { text: this.embedText(texts) }), ...(kept ? { kept } : {}) };
  }

  /** Where keys are kept: not where memory is short, nor where there are so many tokens that making them is nothing. */
  #keptOf({ kept }: Pick<DitInput, "kept">, tokens: Tensor): KeptKeys | undefined {
    const few = tokens.shape[1]! <= TOKENS_WORTH_KEEPING * this.config.textLength;
    return few && !this.residency.streams && !isRecording(this.device) && kept?.follow(this) ? kept : undefined;
  }

  /** [B, C, F, H, W] → tokens [B, L, dim], row-major over (frame, row, column). */
  patchify(latents: Tensor): { tokens: Tensor; grid: [number, number, number] } {
    const { inputChannels, patchSize, dim } = this.config;
    const [pt, ph, pw] = patchSize;
    checkShape("the transformer's latents", latents.shape, [undefined, inputChannels, undefined, undefined, undefined]);
    const [batch, channels, frames, height, width] = latents.shape as [number, number, number, number, number];
    if (frames % pt || height % ph || width % pw) {
      throw new KinoraError("dit.patch", "the latents cannot be divided into patches", {
        expected: `multiples of [${patchSize}]`,
        actual: `[${frames}, ${height}, ${width}]`,
        hint: "a video's sides must be multiples of 16 (32 for TI2V-5B)",
      });
    }
    const grid: [number, number, number] = [frames / pt, height / ph, width / pw];
    const split = reshape(latents, [batch, channels, grid[0], pt, grid[1], ph, grid[2], pw]);
    const patches = permute(split, [0, 2, 4, 6, 1, 3, 5, 7]);
    const length = grid[0] * grid[1] * grid[2];
    const flat = reshape(patches, [batch, length, channels * pt * ph * pw]);
    const tokens = this.#patch.forward(cast(flat, this.dtype));
    checkShape("tokens", tokens.shape, [batch, length, dim]);
    return { tokens, grid };
  }

  /**
   * The time embedding and its projection, once per distinct timestep, and the tokens that use each row.
   * Upstream repeats both for every token.
   */
  embedTime(
    timesteps: readonly (number | ArrayLike<number>)[],
    tokensPerSample: number,
  ): { embedding: Tensor; projection: Tensor; runs: RowRuns } {
    const distinct = new Map<number, number>();
    const runs: { start: number; count: number; row: number }[] = [];
    const use = (timestep: number, start: number, count: number) => {
      const row = distinct.get(timestep) ?? distinct.size;
      distinct.set(timestep, row);
      const last = runs.at(-1);
      if (last?.row === row) last.count += count;
      else runs.push({ start, count, row });
    };
    for (const [sample, timestep] of timesteps.entries()) {
      const start = sample * tokensPerSample;
      if (typeof timestep === "number") use(timestep, start, tokensPerSample);
      else {
        checkShape("per-token timesteps", [timestep.length], [tokensPerSample]);
        for (let i = 0; i < timestep.length; i++) use(timestep[i]!, start + i, 1);
      }
    }
    const { frequencyDim, dim } = this.config;
    const rows = distinct.size;
    const sinusoid = fromValues(this.device, timestepSinusoid([...distinct.keys()], frequencyDim), [
      rows,
      frequencyDim,
    ]);
    const embedding = this.#time[1].forward(this.#time[0].forward(sinusoid, { activation: "silu" }));
    const projection = reshape(this.#timeProjection.forward(activation("silu", embedding)), [rows, 6, dim]);
    return { embedding, projection, runs };
  }

  /** [B, textLength, dim]: zero rows are appended BEFORE the MLP, and nothing masks them afterwards. */
  embedText(texts: readonly Tensor[]): Tensor {
    const { textLength, textDim } = this.config;
    const padded = texts.map((text) => {
      checkShape("text embeddings", text.shape, [undefined, textDim]);
      const length = text.shape[0]!;
      if (length > textLength) {
        throw new KinoraError("dit.text-too-long", "the text has more tokens than the model reads", {
          expected: `at most ${textLength}`,
          actual: `${length}`,
        });
      }
      const rows = zeros(this.device, [textLength - length, textDim], this.dtype);
      return reshape(concat([cast(text, this.dtype), rows], 0), [1, textLength, textDim]);
    });
    return this.#text[1].forward(this.#text[0].forward(concat(padded, 0), { activation: "gelu-tanh" }));
  }

  /** cos and sin for a grid of tokens; kept until another grid is asked for. */
  rotation(grid: readonly [number, number, number]): Rotation {
    const key = grid.join("x");
    if (this.#rotation?.key !== key) {
      this.#freeRotation();
      this.#rotation = { key, table: rotationTable(this.device, grid, this.config.dim / this.config.heads) };
    }
    return this.#rotation.table;
  }

  /** x float32 [B, L, dim] through all blocks. */
  runBlocks(x: Tensor, context: BlockContext, recompute: boolean): Tensor {
    if (this.residency.streams && !recompute && isRecording(this.device)) {
      throw new KinoraError("dit.blocks-recorded", "swapped blocks must be recomputed for their gradient", {
        expected: "recompute",
        hint: "leave [model] recompute on, or keep all blocks in memory",
      });
    }
    using scope = openScope(this.device);
    const hold = (index: number, pass: Pass) =>
      this.residency.acquire(index, blocksAfter(index, this.blocks.length, pass));
    let current = x;
    for (const [index, block] of this.blocks.entries()) {
      if (context.skipBlocks?.includes(index)) continue;
      const input = current;
      if (recompute) {
        const { text, image } = context;
        const inputs = [input, context.timeProjection, text!, ...(image ? [image] : [])];
        const run = ([tokens, timeProjection, text, features]: readonly Tensor[]) =>
          block.forward(tokens!, {
            ...context,
            timeProjection: timeProjection!,
            text: text!,
            ...(features ? { image: features } : {}),
          });
        current = recomputed(inputs, run, (pass) => hold(index, pass === "forward" ? "forward and back" : pass));
      } else {
        using _held = hold(index, "forward");
        current = block.forward(input, context);
      }
      if (input !== x) input[Symbol.dispose]();
    }
    return scope.keep(current);
  }

  /** Tokens [B, L, dim] to velocity [B, C, F, H, W]; patches carry their channels last. */
  finish(tokens: Tensor, timeEmbedding: Tensor, runs: RowRuns, grid: readonly [number, number, number]): Tensor {
    const { outputChannels, patchSize, eps, dim } = this.config;
    const [pt, ph, pw] = patchSize;
    const rows = timeEmbedding.shape[0]!;
    const [shift, scale] = modulationParts(this.#head.modulation.value, reshape(timeEmbedding, [rows, 1, dim]));
    const normed = layerNorm(tokens, { eps, modulation: { scale: scale!, shift: shift!, runs } });
    const patches = this.#head.linear.forward(normed);
    const batch = tokens.shape[0]!;
    const split = reshape(patches, [batch, ...grid, pt, ph, pw, outputChannels]);
    const joined = permute(split, [0, 7, 1, 4, 2, 5, 3, 6]);
    return reshape(joined, [batch, outputChannels, grid[0] * pt, grid[1] * ph, grid[2] * pw]);
  }

  #freeRotation(): void {
    this.#rotation?.table.cos[Symbol.dispose]();
    this.#rotation?.table.sin[Symbol.dispose]();
    this.#rotation = undefined;
  }

  [Symbol.dispose](): void {
    this.#freeRotation();
    this.residency[Symbol.dispose]();
    this.#weights[Symbol.dispose]();
  }
}

interface Affine {
  weight: Parameter;
  bias: Parameter;
}

const valuesOf = ({ weight, bias }: Affine) => ({ weight: weight.value, bias: bias.value });

/** Throws `weights.not-streamed`. */
function streamedWeights(block: Block): StreamedWeight[] {
  return block.linears().map(({ name, weight }) => {
    if (weight instanceof StreamedWeight) return weight;
    throw new KinoraError("weights.not-streamed", `the weight of ${name} cannot be swapped`, {
      expected: "a frozen weight that is in a file",
      hint: "keep all blocks in memory",
    });
  });
}

/**
 * CLIP features to the transformer's width: norm, Linear, GELU (erf), Linear, norm.
 * https://github.com/Wan-Video/Wan2.1/blob/9737cba/wan/modules/model.py#L350-L369
 */
class ImageProjection {
  readonly linears: readonly [Linear, Linear];
  readonly #before: Affine;
  readonly #after: Affine;
  readonly #position: Parameter | undefined;
  readonly #dtype: DType;

  constructor(weights: WeightProvider, config: DitConfig, dtype: DType) {
    const { featureDim, firstLast } = config.imageBranch!;
    const affine = (name: string, size: number): Affine => ({
      weight: new Parameter(weights, `${name}.weight`, [size]),
      bias: new Parameter(weights, `${name}.bias`, [size]),
    });
    this.#dtype = dtype;
    this.#before = affine("img_emb.proj.0", featureDim);
    this.linears = [
      new Linear(weights, "img_emb.proj.1", featureDim, featureDim, { dtype }),
      new Linear(weights, "img_emb.proj.3", featureDim, config.dim, { dtype }),
    ];
    this.#after = affine("img_emb.proj.4", config.dim);
    this.#position = firstLast ? new Parameter(weights, "img_emb.emb_pos", [1, 514, featureDim]) : undefined;
  }

  parameters(): Parameter[] {
    const norms = [this.#before, this.#after].flatMap(({ weight, bias }) => [weight, bias]);
    return this.#position ? [...norms, this.#position] : norms;
  }

  /** Per sample [tokens, featureDim] → [B, tokens, dim]. */
  forward(images: readonly Tensor[]): Tensor {
    const stacked = concat(
      images.map((image) => reshape(cast(image, "f32"), [1, ...image.shape])),
      0,
    );
    const placed = this.#position ? add(stacked, this.#position.value) : stacked;
    const normed = layerNorm(placed, { eps: 1e-5, ...valuesOf(this.#before), dtype: this.#dtype });
    const projected = this.linears[1].forward(this.linears[0].forward(normed, { activation: "gelu-erf" }));
    return layerNorm(projected, { eps: 1e-5, ...valuesOf(this.#after) });
  }
}
