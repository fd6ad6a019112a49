// Whether a film of a size can be made on a device at all, by the planner's figures, before anything of that size is made.
// Only what cannot fit is refused; what fits closely is for the device to say.
import { isKinoraError, KinoraError } from "../base/errors.ts";
import { formatBytes } from "../base/units.ts";
import type { Device } from "../device/device.ts";
import { createNullDevice } from "../device/null/null-device.ts";
import { planForward } from "../models/wan/forward-cost.ts";
import { type LatentSize, latentSize, unboundedLatentSize, type VideoSize } from "../models/wan/geometry.ts";
import type { WanModel } from "../models/wan/params.ts";
import type { VaeConfig } from "../models/wan/vae/config.ts";
import { WanVae } from "../models/wan/vae/vae.ts";
import { RandomWeights } from "../nn/random-weights.ts";
import { openScope } from "../tensor/scope.ts";
import { empty } from "../tensor/tensor.ts";

/** Bytes, somewhat more than plans come to: of a token for each channel of the model's width, and of a decoded pixel. */
const GENEROUS = { token: 48, pixel: 16 * 1024 };
/** Of a device's memory: some of what is needed may be swapped out. */
const MOST = 2;
/** Sizes of tensors beyond this are no exact numbers any more. */
const COUNTABLE = 2 ** 50;

/** What a film is made with, as far as memory goes. */
interface Making {
  model: WanModel;
  vae: VaeConfig;
  dtype: "f32" | "bf16";
}

/** {@link latentSize}, which also says what a size beyond the model would take. Throws `size.*`. */
export function checkSize(model: WanModel, size: VideoSize, dtype: "f32" | "bf16"): LatentSize {
  try {
    return latentSize(model, size);
  } catch (error) {
    if (!isKinoraError(error, "size.too-large")) throw error;
    const guess = unboundedLatentSize(model, size).tokens * model.dit.dim * GENEROUS.token;
    const bytes = guess > COUNTABLE ? "not enough memory" : `about ${formatBytes(stepBytes(model, size, dtype))}`;
    const figure = `: ${bytes} for a step, beside the weights`;
    throw KinoraError.from({ ...error, message: error.message + figure, actual: error.actual + figure });
  }
}

/**
 * Throws `generate.too-large` where a forward pass or a decoded chunk takes far more than all of the device's memory;
 * `size.*`.
 */
export function checkMemory(
  { model, vae, dtype }: Making,
  size: VideoSize,
  device: Pick<Device, "name" | "capacity">,
): void {
  const { shape, tokens } = checkSize(model, size, dtype);
  const { total } = device.capacity();
  // Planning a large model takes a second: most sizes are far from the limit.
  const guess = Math.max(tokens * model.dit.dim * GENEROUS.token, size.width * size.height * GENEROUS.pixel);
  if (guess <= MOST * total) return;
  const needs = { "a step": stepBytes(model, size, dtype), decoding: decodeBytes(vae, shape) };
  const [what, most] = Object.entries(needs).reduce((a, b) => (b[1] > a[1] ? b : a));
  if (most <= MOST * total) return;
  const { width, height, frames } = size;
  throw new KinoraError(
    "generate.too-large",
    `${model.name} at ${width}×${height} with ${frames} frames is too large`,
    {
      expected: `what fits into the ${formatBytes(total)} of memory of device ${device.name}`,
      actual: `about ${formatBytes(most)} for ${what}, beside the weights`,
      hint: "use a smaller `size` or fewer `frames`; kinora plan shows what a size needs",
    },
  );
}

/** Of one forward pass, weights left out. */
function stepBytes(model: WanModel, size: VideoSize, dtype: "f32" | "bf16"): number {
  const { bytes } = planForward(model, size, { dtype, unbounded: true });
  return bytes.activations + bytes.workspace;
}

/** Most bytes at once while a clip of these latents is decoded; no more are needed after its third latent frame. */
export function decodeBytes(config: VaeConfig, [channels, frames, height, width]: readonly number[]): number {
  const device = createNullDevice();
  using vae = new WanVae(new RandomWeights(device), config, { dtype: "f32", half: "decoder" });
  const weights = device.memory().live;
  device.resetPeak();
  using stream = vae.decoder({ height: height!, width: width! });
  for (let frame = 0; frame < Math.min(3, frames!); frame++) {
    using _scope = openScope(device);
    stream.push(empty(device, [channels!, 1, height!, width!], "f32"));
  }
  return device.memory().peak - weights;
}
