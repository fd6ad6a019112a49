// Fixtures of the video autoencoders: both ways, a clip and a picture, and a training step.
import type { Device } from "../../../src/device/device.ts";
import type { LatentStatistics, OfficialVaeArguments } from "../../../src/models/wan/vae/config.ts";
import { vaeConfigFrom } from "../../../src/models/wan/vae/config.ts";
import { decodeInTiles, encodeInTiles } from "../../../src/models/wan/vae/overlapping-tiles.ts";
import { TinyVae } from "../../../src/models/wan/vae/tiny-vae.ts";
import { WanVae } from "../../../src/models/wan/vae/vae.ts";
import { WeightLoader } from "../../../src/nn/weights.ts";
import { meanSquaredError, scale } from "../../../src/tensor/ops/index.ts";
import { openScope } from "../../../src/tensor/scope.ts";
import { Tape } from "../../../src/tensor/tape.ts";
import { fromValues } from "../../../src/tensor/tensor.ts";
import { globalNorm } from "../../../src/train/optimizers/optimizer.ts";
import type { Fixture } from "../fixture.ts";

export type Vae = WanVae;

/** The fixture's own statistics, where it has them. */
function statisticsOf(fixture: Fixture): LatentStatistics | undefined {
  if (!fixture.has("inputs.mean")) return undefined;
  const values = (name: string) => Array.from(fixture.values(`inputs.${name}`));
  const std = fixture.has("inputs.std") ? values("std") : values("inv_std").map((inverse) => 1 / inverse);
  return { mean: values("mean"), std };
}

export function loadVae(
  fixture: Fixture,
  device: Device,
  kind: "vae21" | "vae22",
  prefix: string,
  official: OfficialVaeArguments,
): WanVae {
  const weights = new WeightLoader(device, fixture.weights(prefix));
  const all = new Set(fixture.names(prefix).map((name) => name.slice(prefix.length)));
  const encoder = [...all].some((name) => name.startsWith("encoder."));
  const config = vaeConfigFrom(official, kind, statisticsOf(fixture));
  return new WanVae(weights, config, { dtype: "f32", ...(encoder ? {} : { half: "decoder" as const }) });
}

/** Normalised latents of pixels [3, T, H, W]. */
export async function encodeClip(vae: WanVae, pixels: Float32Array, shape: readonly number[]): Promise<Float32Array> {
  using _scope = openScope(vae.device);
  return vae.encode(fromValues(vae.device, pixels, shape)).read();
}

/** Clamped pixels of normalised latents. */
export async function decodeClip(vae: WanVae, latents: Float32Array, shape: readonly number[]): Promise<Float32Array> {
  using _scope = openScope(vae.device);
  return vae.decode(fromValues(vae.device, latents, shape)).read();
}

async function bothWays(fixture: Fixture, device: Device, kind: "vae21" | "vae22"): Promise<void> {
  using vae = loadVae(fixture, device, kind, "weights.", fixture.config);
  using _scope = openScope(device);
  const video = fixture.tensor(device, "inputs.video");
  await fixture.compareTensor("encode", vae.encode(video));
  await fixture.compareTensor("encode_mu_raw", vae.encode(video, { normalized: false }));
  await fixture.compareTensor("encode_image", vae.encode(fixture.tensor(device, "inputs.image")));
  const latent = fixture.tensor(device, "inputs.latent");
  await fixture.compareTensor("decode", vae.decode(latent));
  await fixture.compareTensor("decode_raw", vae.decode(latent, { clamped: false }));
  // decode_image decodes latent frame 1 (counted from 0) alone.
  const [channels, frames, height, width] = latent.shape as [number, number, number, number];
  const plane = height * width;
  const values = fixture.values("inputs.latent");
  const frame = new Float32Array(channels * plane);
  for (let c = 0; c < channels; c++) {
    const start = (c * frames + 1) * plane;
    frame.set(values.subarray(start, start + plane), c * plane);
  }
  await fixture.compareTensor("decode_image", vae.decode(fromValues(device, frame, [channels, 1, height, width])));
}

export const vae21 = (fixture: Fixture, device: Device): Promise<void> => bothWays(fixture, device, "vae21");
export const vae22 = (fixture: Fixture, device: Device): Promise<void> => bothWays(fixture, device, "vae22");

/** ComfyUI's tiles: blended on the host, each coded as a clip of its own. */
export async function vaeTiling(fixture: Fixture, device: Device): Promise<void> {
  const { config } = fixture;
  using vae = loadVae(fixture, device, "vae21", "weights.vae.", config.vae);
  const input = (name: string) => ({
    values: fixture.values(`inputs.${name}`),
    shape: fixture.shape(`inputs.${name}`),
  });
  const [z, pixels] = [input("z"), input("pixels")];
  {
    using _scope = openScope(device);
    await fixture.compareTensor("encoded", vae.encode(fixture.tensor(device, "inputs.pixels")));
    await fixture.compareTensor("decoded", vae.decode(fixture.tensor(device, "inputs.z"), { clamped: false }));
  }
  const counts = { decode: 0, encode: 0 };
  const tiles = (half: "decode" | "encode") => ({ tile: config[`${half}_tile`], overlap: config[`${half}_overlap`] });
  const count = (half: "decode" | "encode") => () => counts[half]++;
  const decoded = await decodeInTiles(vae, z, tiles("decode"), count("decode"));
  const encoded = await encodeInTiles(vae, pixels, tiles("encode"), count("encode"));
  fixture.compare("decoded_tiled", decoded.values);
  fixture.compare("encoded_tiled", encoded.values);
  fixture.compare("decode_tiles", [counts.decode]);
  fixture.compare("encode_tiles", [counts.encode]);
}

/** The tiny autoencoder, both ways; its pixels are 0…1 there. */
export async function tae(fixture: Fixture, device: Device): Promise<void> {
  const { config } = fixture;
  const frames = (doubles: boolean[]) => doubles.map((twice) => (twice ? 2 : 1));
  using vae = new TinyVae(new WeightLoader(device, fixture.weights()), {
    kind: "tae",
    zDim: config.latent_channels,
    patchSize: config.patch_size,
    encoderWidth: config.encoder_width,
    decoderWidths: config.decoder_widths,
    encoderFrames: frames(config.encoder_time_downscale),
    decoderFrames: frames(config.decoder_time_upscale),
  });
  using _scope = openScope(device);
  const video = scale(fixture.tensor(device, "inputs.video"), 2, -1);
  await fixture.compareTensor("encoded", vae.encode(video));
  await fixture.compareTensor("decoded", scale(vae.decode(fixture.tensor(device, "inputs.z")), 0.5, 0.5));
}

export async function vaeTrain(fixture: Fixture, device: Device): Promise<void> {
  const weights = new WeightLoader(device, fixture.weights(), { trainable: true });
  using vae = new WanVae(weights, vaeConfigFrom(fixture.config), { dtype: "f32" });
  using _scope = openScope(device);
  using tape = new Tape(device);
  const video = fixture.tensor(device, "inputs.video");
  const mu = vae.encode(video, { normalized: false });
  await fixture.compareTensor("mu", mu);
  const reconstruction = vae.decode(mu, { normalized: false, clamped: false });
  await fixture.compareTensor("recon", reconstruction);
  const loss = meanSquaredError(reconstruction, video);
  await fixture.compareTensor("loss", loss);
  tape.backward(loss);
  fixture.compare("grad_norm", [await globalNorm(device, weights.parameters)]);
  for (const [name, parameter] of weights.parameters) {
    const zero = new Float32Array(parameter.size);
    fixture.compare(`grad.${name}`, parameter.gradient ? await parameter.gradient.read() : zero);
  }
  fixture.compare("grad_mu", await gradientOfMu(fixture, device, vae));
}

/** The gradient at the latents: the decoder alone, from the recorded mu. */
async function gradientOfMu(fixture: Fixture, device: Device, vae: WanVae): Promise<Float32Array> {
  using _scope = openScope(device);
  using tape = new Tape(device);
  const mu = fromValues(device, fixture.values("outputs.mu"), fixture.shape("outputs.mu")).requireGradient();
  const loss = meanSquaredError(
    vae.decode(mu, { normalized: false, clamped: false }),
    fixture.tensor(device, "inputs.video"),
  );
  tape.backward(loss);
  const gradient = await mu.gradient!.read();
  mu.clearGradient();
  return gradient;
}
