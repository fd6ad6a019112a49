// A clip's pixels on the host to its latents on the host, chunk by chunk: memory does not grow with its length.
import type { HostTensor } from "../../../tensor/host-tensor.ts";
import { openScope } from "../../../tensor/scope.ts";
import { fromValues } from "../../../tensor/tensor.ts";
import type { WanVae } from "./vae.ts";

/**
 * `chunks`: one frame, then four each, as [3, T, height, width] in −1…1. Latents are float32 [C, F, h, w], normalised.
 * Throws what `signal` says between chunks.
 */
export async function encodeClip(
  vae: WanVae,
  chunks: Iterable<Float32Array>,
  size: { width: number; height: number },
  signal?: AbortSignal,
): Promise<HostTensor> {
  const { width, height } = size;
  const parts: HostTensor[] = [];
  using stream = vae.encoder({ width, height });
  for (const values of chunks) {
    signal?.throwIfAborted();
    using _scope = openScope(vae.device);
    const frames = values.length / (3 * width * height);
    const latents = stream.push(fromValues(vae.device, values, [3, frames, height, width]));
    parts.push({ values: await latents.read(), shape: latents.shape });
  }
  return joinFrames(parts);
}

/** [C, t, h, w] parts one behind the other. */
function joinFrames(parts: readonly HostTensor[]): HostTensor {
  const [channels, , height, width] = parts[0]!.shape as [number, number, number, number];
  const frames = parts.reduce((sum, { shape }) => sum + shape[1]!, 0);
  const plane = height * width;
  const values = new Float32Array(channels * frames * plane);
  let at = 0;
  for (const part of parts) {
    const count = part.shape[1]! * plane;
    for (let c = 0; c < channels; c++)
      values.set(part.values.subarray(c * count, (c + 1) * count), (c * frames + at) * plane);
    at += part.shape[1]!;
  }
  return { values, shape: [channels, frames, height, width] };
}
