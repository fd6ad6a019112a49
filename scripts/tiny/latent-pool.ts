// Encoded scenes to draw batches from. It grows while it is used, so that training begins at once, and lies in a file,
// so that going on costs nothing.
import { closeSync, existsSync, openSync, readFileSync, writeSync } from "node:fs";
import { elementCount } from "../../src/base/shape.ts";
import type { Device } from "../../src/device/device.ts";
import { latentFrames, vaeStride } from "../../src/models/wan/vae/config.ts";
import type { WanVae } from "../../src/models/wan/vae/vae.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { fromValues } from "../../src/tensor/tensor.ts";
import { type Clip, type ClipSize, renderClip } from "./world/render.ts";
import { drawScene, type Scene } from "./world/scene.ts";

/** float32 [3, F, H, W] in −1…1 from u8 [F, H, W, 3]. */
export function planes({ data, frames, height, width }: Clip): Float32Array {
  const plane = height * width;
  const result = new Float32Array(3 * frames * plane);
  for (let f = 0; f < frames; f++) {
    for (let i = 0; i < plane; i++) {
      for (let c = 0; c < 3; c++) result[(c * frames + f) * plane + i] = data[(f * plane + i) * 3 + c]! / 127.5 - 1;
    }
  }
  return result;
}

/** Back from {@link planes}, limited to bytes. */
export function bytesOfPlanes(values: Float32Array, { frames, height, width }: ClipSize): Uint8Array {
  const plane = height * width;
  const data = new Uint8ClampedArray(3 * frames * plane);
  for (let f = 0; f < frames; f++) {
    for (let i = 0; i < plane; i++) {
      for (let c = 0; c < 3; c++) data[(f * plane + i) * 3 + c] = (values[(c * frames + f) * plane + i]! + 1) * 127.5;
    }
  }
  return new Uint8Array(data.buffer);
}

export interface PooledScene {
  scene: Scene;
  /** float32 [C, F, h, w], normalised. */
  latents: Float32Array;
}

export class LatentPool implements Disposable {
  readonly shape: readonly [channels: number, frames: number, height: number, width: number];
  readonly #device: Device;
  readonly #vae: WanVae;
  readonly #size: ClipSize;
  readonly #seed: number;
  readonly #file: number;
  readonly #pooled: PooledScene[] = [];

  constructor(device: Device, vae: WanVae, size: ClipSize, seed: number, path: string) {
    const [, rows, columns] = vaeStride(vae.config);
    this.shape = [vae.config.zDim, latentFrames(vae.config, size.frames), size.height / rows, size.width / columns];
    this.#device = device;
    this.#vae = vae;
    this.#size = size;
    this.#seed = seed;
    const count = elementCount(this.shape);
    if (existsSync(path)) {
      const bytes = readFileSync(path);
      const whole = Math.floor(bytes.length / (4 * count));
      const values = new Float32Array(bytes.buffer, bytes.byteOffset, whole * count);
      for (let i = 0; i < whole; i++) this.#add(values.subarray(i * count, (i + 1) * count));
    }
    this.#file = openSync(path, "a");
  }

  get length(): number {
    return this.#pooled.length;
  }

  at(index: number): PooledScene {
    return this.#pooled[index]!;
  }

  /** Encodes scenes until there are as many. */
  async grow(count: number): Promise<void> {
    while (this.length < count) {
      const latents = await this.#encode(drawScene(this.#seed, this.length, "train"));
      writeSync(this.#file, new Uint8Array(latents.buffer, latents.byteOffset, latents.byteLength));
      this.#add(latents);
    }
  }

  #add(latents: Float32Array): void {
    this.#pooled.push({ scene: drawScene(this.#seed, this.length, "train"), latents });
  }

  async #encode(scene: Scene): Promise<Float32Array> {
    using _scope = openScope(this.#device);
    const { frames, height, width } = this.#size;
    using encoder = this.#vae.encoder({ height, width });
    const video = fromValues(this.#device, planes(renderClip(scene, this.#size)), [3, frames, height, width]);
    return encoder.push(video).read() as Promise<Float32Array>;
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }
}
