// Every operation on tensors.
export { activation } from "./activation.ts";
export { attention } from "./attention.ts";
export { cast } from "./cast.ts";
export { conv3d } from "./conv3d.ts";
export { add, clamp, divide, multiply, scale, subtract } from "./elementwise.ts";
export { embedding } from "./embedding.ts";
export { gatedAdd } from "./gated-add.ts";
export { layerNorm } from "./layer-norm.ts";
export { concat, pad, permute, repeat, reshape, slice } from "./layout.ts";
export { type LinearOptions, linear, type WeightLike } from "./linear.ts";
export { matmul } from "./matmul.ts";
export { type DifferenceLoss, meanOf } from "./mean-difference.ts";
export { meanSquaredError } from "./mean-squared-error.ts";
export { mean, sum } from "./reduce.ts";
export { rmsNorm } from "./rms-norm.ts";
export { type Rotation, rope } from "./rope.ts";
export { softmax } from "./softmax.ts";
