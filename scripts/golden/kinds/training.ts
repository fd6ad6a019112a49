// Fixtures of training: a few AdamW steps on a tiny transformer, adapters only or every parameter.
import type { Device } from "../../../src/device/device.ts";
import { attachLora } from "../../../src/lora/attach.ts";
import { adaptersFrom } from "../../../src/lora/read.ts";
import { WanDit } from "../../../src/models/wan/dit/dit.ts";
import { WeightLoader } from "../../../src/nn/weights.ts";
import type { Tensor } from "../../../src/tensor/tensor.ts";
import { createAdamW } from "../../../src/train/optimizers/adamw.ts";
import { globalNorm } from "../../../src/train/optimizers/optimizer.ts";
import { gatherGradients } from "../../../src/train/step/gradients.ts";
import type { TrainingSample } from "../../../src/train/step/model-input.ts";
import type { Fixture } from "../fixture.ts";
import { ditConfig, loadDit } from "./networks.ts";

interface TrainingConfig {
  steps: number;
  lr: number;
  betas: [number, number];
  eps: number;
  weight_decay: number;
  samples: number;
}

function readSamples(fixture: Fixture, device: Device): TrainingSample[] {
  const sigmas = fixture.values("inputs.sigma");
  return Array.from({ length: (fixture.config as TrainingConfig).samples }, (_, i) => ({
    clean: fixture.tensor(device, `inputs.x0_${i}`),
    noise: fixture.tensor(device, `inputs.noise_${i}`),
    sigma: sigmas[i]!,
    text: fixture.tensor(device, `inputs.context_${i}`),
  }));
}

/** Trains as the fixture did; `nameOf` turns a parameter's name into the fixture's. Half of the steps checkpoint. */
async function run(
  fixture: Fixture,
  device: Device,
  model: WanDit,
  parameters: ReadonlyMap<string, Tensor>,
  nameOf: (name: string) => string,
): Promise<void> {
  const config = fixture.config as TrainingConfig;
  const samples = readSamples(fixture, device);
  const settings = { betas: config.betas, eps: config.eps, weightDecay: config.weight_decay };
  using optimizer = createAdamW({ device, parameters }, settings);
  const losses: number[] = [];
  const epoch = async (recompute: boolean) => {
    const parts: number[] = [];
    for (const sample of samples)
      parts.push(await gatherGradients(model, sample, { weight: 1 / samples.length, recompute }));
    return parts;
  };
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  for (let step = 0; step < config.steps; step++) {
    const parts = await epoch(step % 2 === 1);
    losses.push(mean(parts));
    if (step === 0) {
      fixture.compare("sample_losses", parts);
      fixture.compare("grad_norm", [await globalNorm(device, parameters)]);
      for (const [name, parameter] of parameters) {
        const output = `grad.${nameOf(name)}`;
        if (fixture.has(`outputs.${output}`)) await fixture.compareTensor(output, parameter.gradient!);
      }
    }
    await optimizer.update(config.lr);
  }
  fixture.compare("losses", losses);
  fixture.compare("loss_after", [mean(await epoch(false))]);
  for (const parameter of parameters.values()) parameter.clearGradient();
  for (const { clean, noise, text } of samples) for (const tensor of [clean, noise, text]) tensor[Symbol.dispose]();
}

export async function loraTrain(fixture: Fixture, device: Device): Promise<void> {
  using model = loadDit(device, fixture.weights(), ditConfig(fixture.config.dit), "f32");
  const prefix = "inputs.lora.";
  const start = adaptersFrom({
    names: fixture.names(prefix).map((name) => name.slice(prefix.length)),
    shape: (name) => fixture.shape(prefix + name),
    values: (name) => fixture.values(prefix + name),
    alpha: fixture.config.alpha,
  });
  using lora = attachLora(model, start);
  const parameters = lora.parameters();
  for (const parameter of parameters.values()) parameter.requireGradient();
  const nameOf = (name: string) => {
    const [, module, part] = /^(.*)\.(down|up)$/.exec(name)!;
    return `lora_unet_${module!.replaceAll(".", "_")}.lora_${part}.weight`;
  };
  await run(fixture, device, model, parameters, nameOf);
  for (const [name, parameter] of parameters) await fixture.compareTensor(`lora.${nameOf(name)}`, parameter);
}

export async function fullTrain(fixture: Fixture, device: Device): Promise<void> {
  const weights = new WeightLoader(device, fixture.weights(), { trainable: true });
  using model = new WanDit(weights, ditConfig(fixture.config.dit), { dtype: "f32" });
  await run(fixture, device, model, weights.parameters, (name) => name);
  for (const [name, parameter] of weights.parameters) {
    if (fixture.has(`outputs.final.${name}`)) await fixture.compareTensor(`final.${name}`, parameter);
  }
}
