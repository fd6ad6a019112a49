// Fixtures of whole generations: from noise (and a picture) through every step to the decoded clip.
import type { Device } from "../../../src/device/device.ts";
import type { WanDit } from "../../../src/models/wan/dit/dit.ts";
import {
  channelCondition,
  firstFrameTimesteps,
  imposeFirstFrame,
  type LatentShape,
  latentFrames,
} from "../../../src/models/wan/image-condition.ts";
import { coverGeometry, stretchGeometry } from "../../../src/models/wan/image-geometry.ts";
import { coverImage, imageThenGrey, type PreparedImage, stretchImage } from "../../../src/sample/conditions.ts";
import { type DenoiseInput, denoise } from "../../../src/sample/denoise.ts";
import type { RgbImage } from "../../../src/sample/image-resize.ts";
import { createScheduler } from "../../../src/sample/schedulers/index.ts";
import type { Fixture } from "../fixture.ts";
import { decodeClip, encodeClip, loadVae, type Vae } from "./autoencoders.ts";
import { ditConfig, loadDit, type Precision } from "./networks.ts";

/** Runs the loop and compares every step and the decoded clip. */
async function generate(
  fixture: Fixture,
  device: Device,
  vae: Vae,
  input: Omit<DenoiseInput, "scheduler" | "latents" | "shape" | "text">,
  shape: LatentShape,
): Promise<void> {
  const { config } = fixture;
  const scheduler = createScheduler(config.solver, { steps: config.steps, shift: config.shift });
  fixture.compare("timesteps", scheduler.timesteps);
  fixture.compare("sigmas", scheduler.sigmas);
  const positive = fixture.tensor(device, "inputs.context");
  const negative = fixture.tensor(device, "inputs.context_null");
  const rows = { cond: [] as Float32Array[], uncond: [] as Float32Array[], latents: [] as Float32Array[] };
  const experts: number[] = [];
  for await (const step of denoise({
    ...input,
    scheduler,
    shape,
    latents: fixture.values("inputs.noise"),
    text: { positive, negative },
  })) {
    rows.cond.push(step.conditional);
    rows.uncond.push(step.unconditional!);
    rows.latents.push(step.latents);
    experts.push(step.expert === "high" ? 1 : 0);
  }
  for (const [name, steps] of Object.entries(rows)) fixture.compare(name, joined(steps));
  if (fixture.has("outputs.expert_high")) fixture.compare("expert_high", experts);
  fixture.compare("video", await decodeClip(vae, rows.latents.at(-1)!, shape));
  positive[Symbol.dispose]();
  negative[Symbol.dispose]();
}

function joined(parts: readonly Float32Array[]): Float32Array {
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

function guidanceOf(fixture: Fixture): { low: number; high: number } {
  const { guide, guide_low, guide_high } = fixture.config;
  return { low: guide_low ?? guide, high: guide_high ?? guide };
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
  await generate(
    fixture,
    device,
    vae,
    {
      expert: (which) => (which === "high" ? high : low),
      boundary: fixture.config.boundary,
      guidance: guidanceOf(fixture),
    },
    shape,
  );
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
  const image = {
    planes: fixture.values("inputs.image"),
    width: geometry.latentWidth * 8,
    height: geometry.latentHeight * 8,
  };
  const shape: LatentShape = [16, latentFrames(config.frames), geometry.latentHeight, geometry.latentWidth];
  const encoded = await encodeClip(vae, imageThenGrey(image, config.frames), [
    3,
    config.frames,
    image.height,
    image.width,
  ]);
  const channels = channelCondition(encoded, shape);
  fixture.compare("y", channels);
  await generate(
    fixture,
    device,
    vae,
    {
      expert: (which) => (which === "high" ? high : low),
      boundary: config.boundary,
      guidance: guidanceOf(fixture),
      channels,
    },
    shape,
  );
}

export async function ti2v(fixture: Fixture, device: Device, dtype: Precision): Promise<void> {
  const { config } = fixture;
  using model = loadDit(device, fixture.weights("weights.dit."), ditConfig(config.dit), dtype);
  using vae = loadVae(fixture, device, "vae22", "weights.vae.", config.vae);
  const raw = picture(fixture);
  const { width, height } = coverGeometry(raw.width, raw.height, config.max_area);
  compareImage(fixture, coverImage(raw, config.max_area));
  const shape = fixture.shape("inputs.noise") as unknown as LatentShape;
  const firstFrame = await encodeClip(vae, fixture.values("inputs.image"), [3, 1, height, width]);
  fixture.compare("z", firstFrame);
  const start = fixture.values("inputs.noise");
  imposeFirstFrame(start, firstFrame, shape);
  fixture.compare("start", start);
  const [, frames, rows, columns] = shape;
  const mask = new Float32Array(frames * rows * columns).fill(1).fill(0, 0, rows * columns);
  fixture.compare("mask", mask);
  const { timesteps } = createScheduler(config.solver, { steps: config.steps, shift: config.shift });
  fixture.compare("token_t", joined(timesteps.map((timestep) => firstFrameTimesteps(timestep, shape))));
  await generate(fixture, device, vae, { expert: () => model, guidance: guidanceOf(fixture), firstFrame }, shape);
}
