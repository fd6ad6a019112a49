// Every parameter of the Wan networks: its official name and shape, from the sizes of a configuration.
// What a loader compares a file with; no values, no layouts of other tools.
import type { DitConfig, TextEncoderConfig } from "./params.ts";
import type { VaeConfig } from "./vae/config.ts";
import type { TinyVaeConfig } from "./vae/tiny-vae.ts";

export type Shapes = Map<string, readonly number[]>;

/** The vision half of the CLIP model beside 2.1 image-to-video. */
export interface ClipVisionConfig {
  imageSize: number;
  patchSize: number;
  dim: number;
  mlpDim: number;
  heads: number;
  layers: number;
  /** Width of the joint space; its projection is not used by Wan and may be missing. */
  projectionDim: number;
}

class ShapeList {
  readonly shapes: Shapes = new Map();

  add(name: string, ...shape: number[]): this {
    this.shapes.set(name, shape);
    return this;
  }

  linear(name: string, inputs: number, outputs: number): this {
    return this.add(`${name}.weight`, outputs, inputs).add(`${name}.bias`, outputs);
  }

  /** A convolution: `kernel` of two or three sides. */
  convolution(name: string, inputs: number, outputs: number, ...kernel: number[]): this {
    return this.add(`${name}.weight`, outputs, inputs, ...kernel).add(`${name}.bias`, outputs);
  }

  norm(name: string, size: number): this {
    return this.add(`${name}.weight`, size).add(`${name}.bias`, size);
  }
}

/** https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/model.py#L294-L410 */
export function ditShapes(config: DitConfig): Shapes {
  const { dim, ffnDim, frequencyDim, textDim, inputChannels, outputChannels, patchSize, imageBranch } = config;
  const patch = patchSize[0] * patchSize[1] * patchSize[2];
  const list = new ShapeList();
  list.convolution("patch_embedding", inputChannels, dim, ...patchSize);
  list.linear("text_embedding.0", textDim, dim).linear("text_embedding.2", dim, dim);
  list.linear("time_embedding.0", frequencyDim, dim).linear("time_embedding.2", dim, dim);
  list.linear("time_projection.1", dim, dim * 6);
  if (imageBranch) {
    const { featureDim, firstLast } = imageBranch;
    list.norm("img_emb.proj.0", featureDim).linear("img_emb.proj.1", featureDim, featureDim);
    list.linear("img_emb.proj.3", featureDim, dim).norm("img_emb.proj.4", dim);
    if (firstLast) list.add("img_emb.emb_pos", 1, 514, featureDim);
  }
  for (let i = 0; i < config.layers; i++) {
    const block = `blocks.${i}`;
    for (const attention of [`${block}.self_attn`, `${block}.cross_attn`]) {
      for (const part of ["q", "k", "v", "o"]) list.linear(`${attention}.${part}`, dim, dim);
      list.add(`${attention}.norm_q.weight`, dim).add(`${attention}.norm_k.weight`, dim);
    }
    if (imageBranch) {
      list.linear(`${block}.cross_attn.k_img`, dim, dim).linear(`${block}.cross_attn.v_img`, dim, dim);
      list.add(`${block}.cross_attn.norm_k_img.weight`, dim);
    }
    list.norm(`${block}.norm3`, dim).linear(`${block}.ffn.0`, dim, ffnDim).linear(`${block}.ffn.2`, ffnDim, dim);
    list.add(`${block}.modulation`, 1, 6, dim);
  }
  return list.linear("head.head", dim, outputChannels * patch).add("head.modulation", 1, 2, dim).shapes;
}

function residual(list: ShapeList, name: string, inputs: number, outputs: number): void {
  list.add(`${name}.residual.0.gamma`, inputs, 1, 1, 1);
  list.convolution(`${name}.residual.2`, inputs, outputs, 3, 3, 3);
  list.add(`${name}.residual.3.gamma`, outputs, 1, 1, 1);
  list.convolution(`${name}.residual.6`, outputs, outputs, 3, 3, 3);
  if (inputs !== outputs) list.convolution(`${name}.shortcut`, inputs, outputs, 1, 1, 1);
}

function middle(list: ShapeList, half: string, dim: number): void {
  residual(list, `${half}.middle.0`, dim, dim);
  list.add(`${half}.middle.1.norm.gamma`, dim, 1, 1);
  list.convolution(`${half}.middle.1.to_qkv`, dim, dim * 3, 1, 1).convolution(`${half}.middle.1.proj`, dim, dim, 1, 1);
  residual(list, `${half}.middle.2`, dim, dim);
}

/**
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_1.py#L265-L520 and
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_2.py#L415-L780
 */
export function vaeShapes(config: VaeConfig): Shapes {
  const { kind, dim, decDim, zDim, dimMult, numResBlocks, temporalDownsample, patchSize } = config;
  const list = new ShapeList();
  const pixels = 3 * patchSize * patchSize;
  const last = dimMult.length - 1;
  // 2.1 numbers the layers of all stages through; 2.2 has a list of layers in each stage.
  let layer = 0;
  const layerName = (half: string, stage: number, index: number) =>
    kind === "vae21" ? `${half}.${layer++}` : `${half}.${stage}.${half.split(".")[1]}.${index}`;

  list.convolution("encoder.conv1", pixels, dim, 3, 3, 3);
  let width = dim;
  for (const [stage, factor] of dimMult.entries()) {
    const outputs = dim * factor;
    for (let i = 0; i < numResBlocks; i++) {
      residual(list, layerName("encoder.downsamples", stage, i), width, outputs);
      width = outputs;
    }
    if (stage === last) continue;
    const name = layerName("encoder.downsamples", stage, numResBlocks);
    list.convolution(`${name}.resample.1`, width, width, 3, 3);
    if (temporalDownsample[stage]) list.convolution(`${name}.time_conv`, width, width, 3, 1, 1);
  }
  middle(list, "encoder", width);
  list.add("encoder.head.0.gamma", width, 1, 1, 1).convolution("encoder.head.2", width, zDim * 2, 3, 3, 3);
  list.convolution("conv1", zDim * 2, zDim * 2, 1, 1, 1).convolution("conv2", zDim, zDim, 1, 1, 1);

  layer = 0;
  const factors = [...dimMult].reverse();
  width = decDim * factors[0]!;
  list.convolution("decoder.conv1", zDim, width, 3, 3, 3);
  middle(list, "decoder", width);
  for (const [stage, factor] of factors.entries()) {
    const outputs = decDim * factor;
    for (let i = 0; i <= numResBlocks; i++) {
      residual(list, layerName("decoder.upsamples", stage, i), width, outputs);
      width = outputs;
    }
    if (stage === last) continue;
    const name = layerName("decoder.upsamples", stage, numResBlocks + 1);
    // 2.1 halves the width while upsampling, 2.2 in the next stage's first block.
    const upsampled = kind === "vae21" ? width / 2 : width;
    list.convolution(`${name}.resample.1`, width, upsampled, 3, 3);
    if (temporalDownsample[last - 1 - stage]) list.convolution(`${name}.time_conv`, width, width * 2, 3, 1, 1);
    width = upsampled;
  }
  list.add("decoder.head.0.gamma", width, 1, 1, 1);
  return list.convolution("decoder.head.2", width, pixels, 3, 3, 3).shapes;
}

/** https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/t5.py#L267-L312 */
export function textEncoderShapes(config: TextEncoderConfig): Shapes {
  const { vocabulary, dim, attentionDim, ffnDim, heads, layers, buckets } = config;
  const list = new ShapeList().add("token_embedding.weight", vocabulary, dim);
  for (let i = 0; i < layers; i++) {
    const block = `blocks.${i}`;
    list.add(`${block}.norm1.weight`, dim).add(`${block}.norm2.weight`, dim);
    for (const part of ["q", "k", "v"]) list.add(`${block}.attn.${part}.weight`, attentionDim, dim);
    list.add(`${block}.attn.o.weight`, dim, attentionDim);
    list.add(`${block}.ffn.gate.0.weight`, ffnDim, dim).add(`${block}.ffn.fc1.weight`, ffnDim, dim);
    list.add(`${block}.ffn.fc2.weight`, dim, ffnDim);
    list.add(`${block}.pos_embedding.embedding.weight`, buckets, heads);
  }
  return list.add("norm.weight", dim).shapes;
}

/** https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/animate/clip.py#L209-L278, as `visual` of the CLIP model */
export function clipVisionShapes(config: ClipVisionConfig): Shapes {
  const { imageSize, patchSize, dim, mlpDim, layers, projectionDim } = config;
  const list = new ShapeList().add("visual.patch_embedding.weight", dim, 3, patchSize, patchSize);
  list.add("visual.cls_embedding", 1, 1, dim).add("visual.pos_embedding", 1, (imageSize / patchSize) ** 2 + 1, dim);
  list.norm("visual.pre_norm", dim).norm("visual.post_norm", dim).add("visual.head", dim, projectionDim);
  for (let i = 0; i < layers; i++) {
    const block = `visual.transformer.${i}`;
    list.norm(`${block}.norm1`, dim).norm(`${block}.norm2`, dim);
    list.linear(`${block}.attn.to_qkv`, dim, dim * 3).linear(`${block}.attn.proj`, dim, dim);
    list.linear(`${block}.mlp.0`, dim, mlpDim).linear(`${block}.mlp.2`, mlpDim, dim);
  }
  return list.shapes;
}

function memoryBlock(list: ShapeList, name: string, width: number): void {
  list.convolution(`${name}.conv.0`, 2 * width, width, 3, 3);
  list.convolution(`${name}.conv.2`, width, width, 3, 3).convolution(`${name}.conv.4`, width, width, 3, 3);
}

/** https://github.com/madebyollin/taehv/blob/1f14a56/taehv.py */
export function tinyVaeShapes(config: TinyVaeConfig): Shapes {
  const { encoderWidth, decoderWidths, encoderFrames, decoderFrames, zDim, patchSize } = config;
  const list = new ShapeList();
  const pixels = 3 * patchSize ** 2;
  list.convolution("encoder.0", pixels, encoderWidth, 3, 3).convolution("encoder.17", encoderWidth, zDim, 3, 3);
  for (const [stage, frames] of encoderFrames.entries()) {
    const at = 2 + stage * 5;
    list.add(`encoder.${at}.conv.weight`, encoderWidth, encoderWidth * frames, 1, 1);
    list.add(`encoder.${at + 1}.weight`, encoderWidth, encoderWidth, 3, 3);
    for (let i = 0; i < 3; i++) memoryBlock(list, `encoder.${at + 2 + i}`, encoderWidth);
  }
  list.convolution("decoder.1", zDim, decoderWidths[0]!, 3, 3);
  list.convolution("decoder.22", decoderWidths.at(-1)!, pixels, 3, 3);
  for (const [stage, frames] of decoderFrames.entries()) {
    const at = 3 + stage * 6;
    const [width, next] = [decoderWidths[stage]!, decoderWidths[stage + 1]!];
    for (let i = 0; i < 3; i++) memoryBlock(list, `decoder.${at + i}`, width);
    list.add(`decoder.${at + 4}.conv.weight`, width * frames, width, 1, 1);
    list.add(`decoder.${at + 5}.weight`, next, width, 3, 3);
  }
  return list.shapes;
}
