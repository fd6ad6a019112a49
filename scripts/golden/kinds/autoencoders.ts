// Fixtures of the video autoencoders: clips and pictures through each half, and the gradient of every parameter.
import type { Device } from "../../../src/device/device.ts";
import { type LatentStatistics, type OfficialVaeArguments, vaeConfigFrom } from "../../../src/models/wan/vae/config.ts";
import { WanVae } from "../../../src/models/wan/vae/vae.ts";
import { WeightLoader } from "../../../src/nn/weights.ts";
import { meanSquaredError, slice } from "../../../src/tensor/ops/index.ts";
import { openScope } from "../../../src/tensor/scope.ts";
import { Tape } from "../../../src/tensor/tape.ts";
import { fromValues } from "../../../src/tensor/tensor.ts";
import type { Fixture } from "../fixture.ts";

export type Vae = WanVae;

/** The recorded statistics: `mean` with `std`, or with `inv_std` where upstream holds its inverse. */
function statisticsOf(fixture: Fixture): LatentStatistics | undefined {
  if (!fixture.has("inputs.mean")) return undefined;
  const mean = [...fixture.values("inputs.mean")];
  if (fixture.has("inputs.std")) return { mean, std: [...fixture.values("inputs.std")] };
  return { mean, std: Array.from(fixture.values("inputs.inv_std"), (inverse) => 1 / inverse) };
}

/** The halves that the file has weights for. */
export function loadVae(
  fixture: Fixture,
  device: Device,
  kind: "vae21" | "vae22",
  prefix: string,
  official: OfficialVaeArguments,
): Vae {
  const weights = new WeightLoader(device, fixture.weights(prefix));
  const has = (half: string) => weights.has(`${half}.conv1.weight`);
  const half = !has("encoder") ? "decoder" : !has("decoder") ? "encoder" : undefined;
  return new WanVae(weights, vaeConfigFrom(official, kind, statisticsOf(fixture)), { dtype: "f32", half });
}

export async function encodeClip(vae: Vae, video: Float32Array, shape: readonly number[]): Promise<Float32Array> {
  using _scope = openScope(vae.device);
  return vae.encode(fromValues(vae.device, video, shape)).read();
}

export async function decodeClip(vae: Vae, latents: Float32Array, shape: readonly number[]): Promise<Float32Array> {
  using _scope = openScope(vae.device);
  return vae.decode(fromValues(vae.device, latents, shape)).read();
}

const autoencoder = (kind: "vae21" | "vae22") => async (fixture: Fixture, device: Device) => {
  using vae = loadVae(fixture, device, kind, "weights.", fixture.config);
  using _scope = openScope(device);
  const video = fixture.tensor(device, "inputs.video");
  await fixture.compareTensor("encode", vae.encode(video));
  await fixture.compareTensor("encode_mu_raw", vae.encode(video, { normalized: false }));
  await fixture.compareTensor("encode_image", vae.encode(fixture.tensor(device, "inputs.image")));
  const latents = fixture.tensor(device, "inputs.latent");
  await fixture.compareTensor("decode", vae.decode(latents));
  await fixture.compareTensor("decode_raw", vae.decode(latents, { clamped: false }));
  const second = slice(latents, 1, 1, 1);
  await fixture.compareTensor("decode_image", vae.decode(second));
};

export const vae21 = autoencoder("vae21");
export const vae22 = autoencoder("vae22");

export async function vaeTrain(fixture: Fixture, device: Device): Promise<void> {
  const weights = new WeightLoader(device, fixture.weights(), { trainable: true });
  using vae = new WanVae(weights, vaeConfigFrom(fixture.config), { dtype: "f32" });
  using _scope = openScope(device);
  const video = fixture.tensor(device, "inputs.video");
  using encoding = new Tape(device);
  const mean = vae.encode(video, { normalized: false });
  // A tape of its own for the decoder, so that the gradient of its input stays at hand.
  const latents = mean.alias(mean.shape).requireGradient();
  {
    using decoding = new Tape(device);
    const reconstruction = vae.decode(latents, { normalized: false, clamped: false });
    const loss = meanSquaredError(reconstruction, video);
    decoding.backward(loss);
    await fixture.compareTensor("recon", reconstruction);
    await fixture.compareTensor("loss", loss);
  }
  encoding.backward(mean, latents.gradient);
  await fixture.compareTensor("mu", mean);
  await fixture.compareTensor("grad_mu", latents.gradient!);
  latents.clearGradient();
  let squares = 0;
  for (const [name, parameter] of weights.parameters) {
    const gradient = await parameter.gradient!.read();
    squares += gradient.reduce((sum, value) => sum + value * value, 0);
    fixture.compare(`grad.${name}`, gradient);
  }
  fixture.compare("grad_norm", [Math.sqrt(squares)]);
}
