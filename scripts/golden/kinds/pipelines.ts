// Fixtures of whole generations: from noise (and a picture) through every step to the decoded clip.
import type { Device } from "../../../src/device/device.ts";
import {
  firstFrameTimesteps,
  type HostCondition,
  imposeFirstFrame,
  type LatentShape,
  type PreparedImage,
  pictureCondition,
  pictureLatents,
} from "../../../src/models/wan/conditioning.ts";
import type { WanDit } from "../../../src/models/wan/dit/dit.ts";
import { coverGeometry, stretchGeometry } from "../../../src/models/wan/image-geometry.ts";
import type { Expert } from "../../../src/models/wan/recognize.ts";
import { latentFrames } from "../../../src/models/wan/vae/config.ts";
import { FilmRun } from "../../../src/sample/film-run.ts";
import { filmSettings } from "../../../src/sample/film-settings.ts";
import type { RgbImage } from "../../../src/sample/image-resize.ts";
import { coverImage, stretchImage } from "../../../src/sample/picture.ts";
import { createScheduler } from "../../../src/sample/schedulers/index.ts";
import { openScope } from "../../../src/tensor/scope.ts";
import { fromValues } from "../../../src/tensor/tensor.ts";
import type { Fixture } from "../fixture.ts";
import { decodeClip, loadVae, type Vae } from "./autoencoders.ts";
import { ditConfig, loadDit, type Precision } from "./networks.ts";

interface Film {
  expert(which: Expert): WanDit;
  boundary?: number;
  shape: LatentShape;
  condition?: HostCondition;
}

/** Runs every step and compares it, then the decoded clip. */
async function generate(
  fixture: Fixture,
  device: Device,
  vae: Vae,
  { expert, boundary, shape, condition }: Film,
): Promise<void> {
  const { solver, steps, shift, guide, guide_low, guide_high } = fixture.config;
  const settings = filmSettings({
    ...{ sampler: solver, steps, shift, noise: "kinora", seed: 0n, boundary },
    guidance: { low: guide_low ?? guide, high: guide_high ?? guide },
  });
  fixture.compare("timesteps", settings.scheduler.timesteps);
  fixture.compare("sigmas", settings.scheduler.sigmas);
  const host = (name: string) => ({ values: fixture.values(name), shape: fixture.shape(name) });
  const text = { positive: host("inputs.context"), negative: host("inputs.context_null") };
  const rows = { cond: [] as Float32Array[], uncond: [] as Float32Array[], latents: [] as Float32Array[] };
  const experts: number[] = [];
  using run = new FilmRun(device, settings, { shape, text, condition }, { latents: fixture.values("inputs.noise") });
  for (let which = run.expert; which !== undefined; which = run.expert) {
    const { answers, latents } = await run.step(expert(which));
    rows.cond.push(answers[0]!);
    rows.uncond.push(answers[1]!);
    rows.latents.push(latents);
    experts.push(which === "high" ? 1 : 0);
  }
  for (const [name, values] of Object.entries(rows)) fixture.compare(name, joined(values));
  if (fixture.has("outputs.expert_high")) fixture.compare("expert_high", experts);
  fixture.compare("video", await decodeClip(vae, run.latents, shape));
}

export function joined(parts: readonly Float32Array[]): Float32Array {
  const result = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    result.set(part, offset);
    offset += part.length;
  }
  return result;
}

function experts(fixture: Fixture, device: Device, dtype: Precision): { high: WanDit; low: WanDit } {
  const load = (which: string) =>
    loadDit(device, fixture.weights(`weights.${which}.`), ditConfig(fixture.config.dit), dtype);
  return { high: load("high"), low: load("low") };
}

function picture(fixture: Fixture): RgbImage {
  const [height, width] = fixture.shape("inputs.image_u8");
  return { width: width!, height: height!, pixels: fixture.bytes("inputs.image_u8") };
}

export async function t2vMoe(fixture: Fixture, device: Device, dtype: Precision): Promise<void> {
  const { high, low } = experts(fixture, device, dtype);
  using _high = high;
  using _low = low;
  using vae = loadVae(fixture, device, "vae21", "weights.vae.", fixture.config.vae);
  const shape = fixture.shape("inputs.noise") as unknown as LatentShape;
  const { boundary } = fixture.config;
  await generate(fixture, device, vae, { expert: (which) => (which === "high" ? high : low), boundary, shape });
}

/** The picture resized by us must be the recorded one; the loop goes on from the recorded one. */
function compareImage(fixture: Fixture, image: PreparedImage): void {
  fixture.compareInput("image", image.planes);
}

export async function i2vMoe(fixture: Fixture, device: Device, dtype: Precision): Promise<void> {
  const { config } = fixture;
  const { high, low } = experts(fixture, device, dtype);
  using _high = high;
  using _low = low;
  using vae = loadVae(fixture, device, "vae21", "weights.vae.", config.vae);
  const raw = picture(fixture);
  const geometry = stretchGeometry(raw.width, raw.height, config.max_area);
  compareImage(fixture, stretchImage(raw, config.max_area));
  const image: PreparedImage = {
    planes: fixture.values("inputs.image"),
    width: geometry.latentWidth * 8,
    height: geometry.latentHeight * 8,
  };
  const shape: LatentShape = [16, latentFrames(vae.config, config.frames), geometry.latentHeight, geometry.latentWidth];
  const latents = await pictureLatents(vae, "channels", image, config.frames);
  {
    using _scope = openScope(device);
    const { channels } = pictureCondition("channels", fromValues(device, latents.values, latents.shape));
    await fixture.compareTensor("y", channels!);
  }
  const { boundary } = config;
  const expert = (which: Expert) => (which === "high" ? high : low);
  await generate(fixture, device, vae, { expert, boundary, shape, condition: { image: "channels", latents } });
}

export async function ti2v(fixture: Fixture, device: Device, dtype: Precision): Promise<void> {
  const { config } = fixture;
  using model = loadDit(device, fixture.weights("weights.dit."), ditConfig(config.dit), dtype);
  using vae = loadVae(fixture, device, "vae22", "weights.vae.", config.vae);
  const raw = picture(fixture);
  const { width, height } = coverGeometry(raw.width, raw.height, config.max_area);
  compareImage(fixture, coverImage(raw, config.max_area));
  const shape = fixture.shape("inputs.noise") as unknown as LatentShape;
  const planes = fixture.values("inputs.image");
  const latents = await pictureLatents(vae, "first-frame", { planes, width, height }, 1);
  fixture.compare("z", latents.values);
  const start = fixture.values("inputs.noise");
  imposeFirstFrame(start, latents.values, shape);
  fixture.compare("start", start);
  const [, frames, rows, columns] = shape;
  const mask = new Float32Array(frames * rows * columns).fill(1).fill(0, 0, rows * columns);
  fixture.compare("mask", mask);
  const { timesteps } = createScheduler(config.solver, { steps: config.steps, shift: config.shift });
  fixture.compare("token_t", joined(timesteps.map((timestep) => firstFrameTimesteps(timestep, shape))));
  await generate(fixture, device, vae, { expert: () => model, shape, condition: { image: "first-frame", latents } });
}
