// What Kinora computes of the comparisons' subject: each function gives the values that a peer's tensor is compared with.
import { join } from "node:path";
import type { Device } from "../../src/device/device.ts";
import { attachLora } from "../../src/lora/attach.ts";
import { readLora } from "../../src/lora/read.ts";
import { WanDit } from "../../src/models/wan/dit/dit.ts";
import { loadTextEncoder, loadVae, openNetwork } from "../../src/models/wan/load.ts";
import { WeightLoader } from "../../src/nn/weights.ts";
import { parseNoise } from "../../src/sample/noise/index.ts";
import { createScheduler } from "../../src/sample/schedulers/index.ts";
import { takeStep } from "../../src/sample/schedulers/scheduler.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { fromValues, type Tensor } from "../../src/tensor/tensor.ts";
import { globalNorm } from "../../src/train/optimizers/optimizer.ts";
import { gatherGradients } from "../../src/train/step/gradients.ts";
import * as subject from "./subject.ts";

export type Values = Float32Array;

export class Ours {
  readonly #device: Device;
  readonly #folder: string;

  constructor(device: Device, folder: string) {
    this.#device = device;
    this.#folder = folder;
  }

  #input(name: subject.InputName, batch = false): Tensor {
    const { values, shape } = subject.inputs[name];
    return fromValues(this.#device, values, batch ? [1, ...shape] : shape);
  }

  #dit(path: string): WanDit {
    const { reader, recognized } = openNetwork(path, ["dit"]);
    if (recognized.kind !== "dit") throw new Error(`${path} is no transformer`);
    // A text's length shows in no shape.
    const config = { ...recognized.config, textLength: subject.dits.t2v.textLength };
    return new WanDit(new WeightLoader(this.#device, reader), config, { dtype: "f32" });
  }

  async #velocity(model: WanDit, name: subject.DitName): Promise<Values> {
    using _scope = openScope(this.#device);
    const [, frames, height, width] = subject.inputs[`x.${name}`].shape as [number, number, number, number];
    const perFrame = (height * width) / 4;
    const timesteps =
      name === "ti2v"
        ? Float32Array.from({ length: frames * perFrame }, (_, i) => (i < perFrame ? 0 : subject.TIMESTEP))
        : subject.TIMESTEP;
    return model
      .forward({ latents: this.#input(`x.${name}`, true), timesteps: [timesteps], texts: [this.#input("context")] })
      .read();
  }

  /** A transformer at `path` (by default our own), with a LoRA at a strength where one is named. */
  async transformer(
    name: subject.DitName,
    { path = subject.weightsOf(this.#folder, name), lora, strength = subject.STRENGTH }: LoraRun = {},
  ): Promise<Values> {
    using model = this.#dit(path);
    using _lora = lora === undefined ? undefined : attachLora(model, readLora(lora), strength);
    return this.#velocity(model, name);
  }

  /** A matrix of our transformer with a LoRA merged. */
  async merged(lora: string, parameter: string): Promise<Values> {
    using model = this.#dit(subject.weightsOf(this.#folder, "t2v"));
    using _lora = attachLora(model, readLora(lora), subject.STRENGTH);
    using _scope = openScope(this.#device);
    return model
      .linears()
      .get(parameter.replace(/\.weight$/, ""))!
      .merged()
      .read();
  }

  async encode(name: subject.VaeName, path = subject.weightsOf(this.#folder, name)): Promise<Values> {
    using vae = loadVae(this.#device, path, { dtype: "f32", half: "encoder" });
    using _scope = openScope(this.#device);
    return vae.encode(this.#input(`video.${name}`)).read();
  }

  async decode(name: subject.VaeName, path = subject.weightsOf(this.#folder, name)): Promise<Values> {
    using vae = loadVae(this.#device, path, { dtype: "f32", half: "decoder" });
    using _scope = openScope(this.#device);
    return vae.decode(this.#input(`z.${name}`)).read();
  }

  async text(path = subject.weightsOf(this.#folder, "text-encoder")): Promise<Values> {
    using encoder = loadTextEncoder(this.#device, path, { dtype: "f32" });
    using _scope = openScope(this.#device);
    return encoder.encode(subject.ids.slice(0, subject.TEXT.length)).read();
  }

  /** A sampler's last sample, on the toy velocity field. */
  sampler(name: string): Values {
    const scheduler = createScheduler(name, { steps: subject.STEPS, shift: subject.SHIFT });
    let sample: Float32Array = subject.inputs.x0.values;
    for (let step = 0; step < subject.STEPS; step++) {
      sample = takeStep(scheduler, sample, ({ sample: x, timestep }) => {
        const drift = 0.1 * Math.cos((timestep / 1000) * 6);
        return x.map((value) => Math.sin(3 * value) * 0.5 + drift);
      });
    }
    return sample;
  }

  noise(): Values {
    return parseNoise("torch-cpu")(BigInt(subject.NOISE_SEED), subject.inputs["x.t2v"].values.length);
  }

  /** One training step of a peer's transformer with a peer's LoRA: loss, norm of all gradients, one gradient. */
  async trainingStep(): Promise<{ loss: Values; norm: Values; gradient: Values }> {
    const own = join(this.#folder, "huggingface");
    using model = this.#dit(join(own, "transformer"));
    using lora = attachLora(model, readLora(join(own, "start")));
    const parameters = lora.parameters();
    for (const parameter of parameters.values()) parameter.requireGradient();
    using _scope = openScope(this.#device);
    const sample = {
      clean: this.#input("clean"),
      noise: this.#input("noise"),
      sigma: subject.SIGMA,
      text: this.#input("context"),
    };
    const loss = await gatherGradients(model, sample);
    const norm = await globalNorm(this.#device, parameters);
    const gradient = await parameters.get("blocks.0.self_attn.q.down")!.gradient!.read();
    return { loss: Float32Array.of(loss), norm: Float32Array.of(norm), gradient };
  }
}

export interface LoraRun {
  path?: string;
  lora?: string;
  strength?: number;
}
