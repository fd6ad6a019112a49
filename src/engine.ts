// `kinora/engine`: devices, tensors with gradients, layers, the Wan networks, and sampling. For programs that run networks
// themselves; whole jobs are at the front door.

export { type DType, dtypes } from "./base/dtype.ts";
export { isKinoraError, KinoraError } from "./base/errors.ts";
export { philoxNormals } from "./base/rng/philox-rng.ts";
export type { Seed } from "./base/rng/seed.ts";
export type { Shape } from "./base/shape.ts";
export type { DeviceDescriptor, DeviceFinding } from "./device/descriptor.ts";
export type { Capacity, Device, MemoryCategory, MemoryReport } from "./device/device.ts";
export { devices } from "./device/devices.ts";
export type { Kernels, Operand } from "./device/kernels.ts";
export { type OpenedDevice, openDevice } from "./device/open-device.ts";
export { openTensorSource, type TensorSource } from "./io/tensor-source.ts";
export {
  type CheckpointFiles,
  type FileChoices,
  findCheckpointFiles,
  searchCheckpoint,
} from "./models/wan/checkpoint-files.ts";
export { type DitInput, type DitOptions, WanDit } from "./models/wan/dit/dit.ts";
export { type LatentSize, latentSize, type VideoSize } from "./models/wan/geometry.ts";
export { type DitLoadOptions, loadDit, loadTextEncoder, loadVae } from "./models/wan/load.ts";
export { type DitConfig, type WanModel, type WanModelName, wanModels } from "./models/wan/params.ts";
export { embedPrompt, openTokenizer, promptTokens, tokenizerFile } from "./models/wan/prompt.ts";
export { TextEncoder } from "./models/wan/text-encoder.ts";
export { WanVae } from "./models/wan/vae/vae.ts";
export type { Adapter, Seam } from "./nn/adapter.ts";
export { Linear } from "./nn/linear.ts";
export { RandomWeights } from "./nn/random-weights.ts";
export { WeightLoader, type WeightProvider } from "./nn/weights.ts";
export type { Guidance } from "./sample/guidance/guidance.ts";
export { createGuidance, type GuidanceChoice, guidanceRows } from "./sample/guidance/index.ts";
export { noiseForms, parseNoise } from "./sample/noise/index.ts";
export { createScheduler, samplers } from "./sample/schedulers/index.ts";
export { defineSampler, type Sampler } from "./sample/schedulers/sampler.ts";
export { BaseScheduler, type ScheduleOptions, type Scheduler, takeStep } from "./sample/schedulers/scheduler.ts";
export * as ops from "./tensor/ops/index.ts";
export { recomputed } from "./tensor/recompute.ts";
export { openScope, type Scope, scoped } from "./tensor/scope.ts";
export { record, Tape, type Vjp } from "./tensor/tape.ts";
export { empty, filled, fromIntegers, fromValues, Tensor, zeros } from "./tensor/tensor.ts";
