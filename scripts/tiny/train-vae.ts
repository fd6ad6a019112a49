// Trains kinora-tiny's autoencoders on drawn clips: npx tsx scripts/tiny/train-vae.ts --kind vae21 --out DIR [--minutes M]
// Stops by time or steps, keeps its state, and goes on from it when called again. --decoder-of FILE trains the decoder
// alone, on from a packaged autoencoder whose latents stay what they are. --stills SHARE: of the items, single frames.
import { parseArgs } from "node:util";
import { toFloat32 } from "../../src/base/float-formats.ts";
import { PhiloxRng } from "../../src/base/rng/philox-rng.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { SafetensorsFile } from "../../src/io/safetensors.ts";
import { loadVae } from "../../src/models/wan/load.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import { WanVae } from "../../src/models/wan/vae/vae.ts";
import { RandomWeights } from "../../src/nn/random-weights.ts";
import { add, meanSquaredError } from "../../src/tensor/ops/index.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { Tape } from "../../src/tensor/tape.ts";
import { fromValues, zeros } from "../../src/tensor/tensor.ts";
import { planes } from "./latent-pool.ts";
import { createMuon } from "./muon.ts";
import { tinyVaes } from "./networks.ts";
import { trainRun } from "./training-run.ts";
import { screenPath } from "./world/motion.ts";
import { Draws } from "./world/random.ts";
import { type Clip, renderClip } from "./world/render.ts";
import { drawScene, type Scene } from "./world/scene.ts";
import { drawVariety } from "./world/variety.ts";

const { values: flags } = parseArgs({
  options: {
    kind: { type: "string", default: "vae21" },
    out: { type: "string" },
    steps: { type: "string", default: "5000" },
    minutes: { type: "string", default: "600" },
    batch: { type: "string", default: "2" },
    rate: { type: "string", default: "0.002" },
    seed: { type: "string", default: "1" },
    "decoder-of": { type: "string" },
    stills: { type: "string", default: "0" },
  },
});
const { kind, out } = flags;
if (!out || (kind !== "vae21" && kind !== "vae22")) {
  console.error(
    "usage: train-vae.ts --kind vae21|vae22 --out DIR [--steps N] [--minutes M] [--batch B] [--decoder-of FILE] [--stills SHARE]",
  );
  process.exit(2);
}
const seed = Number(flags.seed);
const steps = Number(flags.steps);
const batch = Number(flags.batch);
const stills = Number(flags.stills);
const { width, height, frames } = wanModels[kind === "vae21" ? "tiny-t2v" : "tiny-ti2v"].defaults;

/** Of eight scenes one is abstract. Of eight clips one is whole, the rest show four cuts of scenes around their objects. */
const [VARIETY, WHOLE] = [1 / 8, 1 / 8] as const;

/** What one item of a batch shows: a clip, or as a given first frame would the first frame of a scene. */
function drawItem(index: number): Clip {
  const draws = new Draws(seed, index + 2 ** 45);
  if (stills === 0 || !draws.chance(stills)) return drawClip(index, draws);
  const { clip } = drawWhole(4 * index, draws);
  return { ...clip, frames: 1, data: clip.data.subarray(0, width * height * 3) };
}

function drawClip(index: number, draws: Draws): Clip {
  if (draws.chance(WHOLE)) return drawWhole(4 * index, draws).clip;
  const cuts = [0, 1, 2, 3].map((i) => {
    const { clip, scene } = drawWhole(4 * index + i, draws);
    const centre = scene ? screenPath(scene, width / height)(draws.unit()) : { x: 0, y: 0 };
    const shaken = (at: number) => at + draws.between(-0.12, 0.12);
    return cut(clip, width / 2 + shaken(centre.x) * height, height / 2 + shaken(centre.y) * height);
  });
  return fourInOne(cuts);
}

function drawWhole(index: number, draws: Draws): { clip: Clip; scene?: Scene } {
  const size = { width, height, frames };
  if (draws.chance(VARIETY)) return { clip: drawVariety(seed, index, size) };
  const scene = drawScene(seed, index, "train");
  return { clip: renderClip(scene, size), scene };
}

/** Copies a rectangle of every frame of a clip into another. */
function copyRect(from: Clip, left: number, top: number, to: Clip, x: number, y: number, w: number, h: number): void {
  for (let f = 0; f < to.frames; f++) {
    for (let row = 0; row < h; row++) {
      const source = ((f * from.height + top + row) * from.width + left) * 3;
      to.data.set(from.data.subarray(source, source + w * 3), ((f * to.height + y + row) * to.width + x) * 3);
    }
  }
}

/** Half the width and height of a clip, as near to around a point (in pixels) as the frame lets it be. */
function cut(clip: Clip, x: number, y: number): Clip {
  const [w, h] = [clip.width / 2, clip.height / 2];
  const left = Math.round(Math.min(clip.width - w, Math.max(0, x - w / 2)));
  const top = Math.round(Math.min(clip.height - h, Math.max(0, y - h / 2)));
  const result = { width: w, height: h, frames: clip.frames, data: new Uint8Array(clip.frames * w * h * 3) };
  copyRect(clip, left, top, result, 0, 0, w, h);
  return result;
}

/** Two over two. */
function fourInOne(cuts: readonly Clip[]): Clip {
  const result = { width, height, frames, data: new Uint8Array(frames * width * height * 3) };
  for (const [i, part] of cuts.entries()) {
    copyRect(part, 0, 0, result, (i % 2) * part.width, Math.floor(i / 2) * part.height, part.width, part.height);
  }
  return result;
}

/**
 * Noise on the latents while training makes the decoder forgiving of a sampler's errors; the pull keeps them small. A
 * still is what a given first frame is: its latents are exact.
 */
const LATENT_NOISE = 0.05;
const LATENT_PULL = 1e-4;

const { device } = await openDevice("auto");
const packaged = flags["decoder-of"];
const frozen = packaged ? loadVae(device, packaged, { dtype: "f32", half: "encoder" }) : undefined;
const weights = new RandomWeights(device, { seed: BigInt(seed), trainable: true });
// Its latents are used as they come while it trains; their statistics are measured when it is packaged.
using vae = new WanVae(weights, tinyVaes[kind], { dtype: "f32", ...(packaged ? { half: "decoder" } : {}) });
if (packaged) {
  using file = SafetensorsFile.open(packaged);
  for (const [name, parameter] of weights.parameters) {
    await parameter.write(toFloat32(file.bytes(name), file.info(name).dtype));
  }
}
using optimizer = createMuon(
  { device, parameters: weights.parameters },
  {
    momentum: 0.95,
    exclude: /^(?:encoder\.conv1|decoder\.head\.2)\./,
    betas: [0.9, 0.99],
    weightDecay: 0,
  },
);

/** One clip forward and backward; the reconstruction's mean squared error. */
async function learn(clip: Clip, noise: PhiloxRng): Promise<number> {
  using _scope = openScope(device);
  using tape = new Tape(device);
  const video = fromValues(device, planes(clip), [3, clip.frames, height, width]);
  // The whole clip in one piece: the same result as chunk by chunk, with a third of the calls.
  using encoder = (frozen ?? vae).encoder({ height, width }, { normalized: false });
  const latents = encoder.push(video);
  const jitter = new Float32Array(latents.size);
  if (clip.frames > 1) noise.fillNormal(jitter);
  const scaled = jitter.map((value) => value * LATENT_NOISE);
  const noisy = add(latents, fromValues(device, scaled, latents.shape));
  const [, , rows, columns] = latents.shape as [number, number, number, number];
  using decoder = vae.decoder({ height: rows, width: columns }, { normalized: false, clamped: false });
  const loss = meanSquaredError(decoder.push(noisy), video, 1 / batch);
  const pull = meanSquaredError(latents, zeros(device, latents.shape), LATENT_PULL / batch);
  tape.backward(add(loss, pull));
  return (await loss.item()) * batch;
}

await trainRun(
  {
    device,
    folder: out,
    name: packaged ? `${kind}-decoder` : kind,
    steps,
    minutes: Number(flags.minutes),
    rate: Number(flags.rate),
    optimizer,
    parameters: weights.parameters,
  },
  async (step) => {
    const noise = new PhiloxRng(BigInt(seed), 1000 + step);
    let loss = 0;
    for (let i = 0; i < batch; i++) loss += (await learn(drawItem(step * batch + i), noise)) / batch;
    // Pixels span 2.
    return { loss, psnr: 10 * Math.log10(4 / loss) };
  },
);
