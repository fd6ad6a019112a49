// Trains a transformer of kinora-tiny from nothing, or on from another run, on the drawn world:
// npx tsx scripts/tiny/train-dit.ts --model tiny-t2v --checkpoint models/tiny-t2v --out DIR [--name base]
//   [--from base --expert high|low] [--shift 2] [--first-frames 0.25] [--favour green=3 --favour circle=0.5]
// The checkpoint folder has the autoencoder, the text encoder and the tokenizer. Full fine-tuning through the training
// code of the project: its batches, its loss; Muon for the optimizer.
import { join } from "node:path";
import { parseArgs } from "node:util";
import { PhiloxRng } from "../../src/base/rng/philox-rng.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { loadTokenizer } from "../../src/io/tokenizer/load.ts";
import { WanDit } from "../../src/models/wan/dit/dit.ts";
import { loadTextEncoder, loadVae } from "../../src/models/wan/load.ts";
import { type WanModel, wanModels } from "../../src/models/wan/params.ts";
import { promptTokens } from "../../src/models/wan/prompt.ts";
import { RandomWeights } from "../../src/nn/random-weights.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { fromValues, ownedEmpty, type Tensor } from "../../src/tensor/tensor.ts";
import { gatherBatchGradients } from "../../src/train/step/gradients.ts";
import type { TrainingSample } from "../../src/train/step/model-input.ts";
import { drawSigma, expertRange, type TimeDistribution } from "../../src/train/step/timesteps.ts";
import { growFrom } from "./grow.ts";
import { LatentPool, type PooledScene } from "./latent-pool.ts";
import { createMuon } from "./muon.ts";
import { trainingText } from "./prompts.ts";
import { trainRun } from "./training-run.ts";
import { objectColorNames } from "./world/color.ts";
import { Draws } from "./world/random.ts";
import { motions, type Scene } from "./world/scene.ts";
import { shapeNames } from "./world/shapes.ts";

const { values: flags } = parseArgs({
  options: {
    model: { type: "string", default: "tiny-t2v" },
    checkpoint: { type: "string" },
    out: { type: "string" },
    name: { type: "string", default: "base" },
    from: { type: "string" },
    expert: { type: "string" },
    steps: { type: "string", default: "5000" },
    minutes: { type: "string", default: "600" },
    batch: { type: "string", default: "48" },
    rate: { type: "string", default: "0.002" },
    dtype: { type: "string", default: "bf16" },
    seed: { type: "string", default: "1" },
    scenes: { type: "string", default: "2000" },
    shift: { type: "string", default: "2" },
    "first-frames": { type: "string", default: "0.25" },
    favour: { type: "string", multiple: true, default: [] },
  },
});
const { model: name, checkpoint, out, expert } = flags;
if (!checkpoint || !out || (name !== "tiny-t2v" && name !== "tiny-ti2v")) {
  console.error(
    "usage: train-dit.ts --model tiny-t2v|tiny-ti2v --checkpoint DIR --out DIR [--name N] [--from N] [--expert high|low] [--shift S] [--first-frames SHARE] [--favour WORD=TIMES]…",
  );
  process.exit(2);
}
const model: WanModel = wanModels[name];
const dtype = flags.dtype === "f32" ? "f32" : "bf16";
const seed = Number(flags.seed);
const batch = Number(flags.batch);
const steps = Number(flags.steps);

/** Captions left out, so that guidance has something to lead away from; texts that begin with idle words. */
const [CAPTION_DROPOUT, IDLE] = [0.1, 0.15];
/** Of image-to-video: clips whose first frame is given. It makes the rest easy, so few are enough. */
const firstFrames = Number(flags["first-frames"]);
/** A shift of 2 leads away from the least noisy levels, which say little while scenes are still learnt; 0.9 back to them. */
const time: TimeDistribution = {
  kind: "shift",
  settings: { shift: Number(flags.shift), scale: 1.4 },
};
const product = (factors: readonly number[]) => factors.reduce((all, factor) => all * factor, 1);
/** How many times as often as others a scene is drawn, by its object's colour, shape and motion. */
const favoured = new Map(
  flags.favour.map((item) => {
    const [, word, times] = /^([a-z]+)=(\d+(?:\.\d+)?)$/.exec(item) ?? [];
    if (!word || ![...objectColorNames, ...shapeNames, ...motions].some((name) => name === word)) {
      console.error(`--favour ${item}: expected an object's colour, shape or motion and a factor, as green=3`);
      process.exit(2);
    }
    return [word, Number(times)];
  }),
);
const favour = ({ color, shape, motion }: Scene): number =>
  product([color, shape, motion].map((word) => favoured.get(word) ?? 1));
const MOST_FAVOURED = product([...favoured.values()].map((times) => Math.max(1, times)));
/** By how many scenes the pool grows with every step: with fewer the network learns them by heart. */
const SCENES_A_STEP = 2;
/** Every few steps the averages take in a share of the parameters. */
const AVERAGE = { every: 5, keep: 0.99 } as const;

const { device } = await openDevice("auto");
using vae = loadVae(device, join(checkpoint, "vae.safetensors"), { dtype: "f32", half: "encoder" });
using encoder = loadTextEncoder(device, join(checkpoint, "text_encoder.safetensors"), { dtype: "f32" });
const tokenizer = await loadTokenizer(join(checkpoint, "tokenizer.json"));
const weights = new RandomWeights(device, { seed: BigInt(seed), trainable: true });
using dit = new WanDit(weights, model.dit, { dtype });
const { parameters } = weights;
// Quiet at first: small gates and velocities.
for (const quiet of ["time_projection.1.weight", "head.head.weight"]) {
  const parameter = parameters.get(quiet)!;
  device.kernels.affine(parameter, 0.1, undefined, 0, parameter);
}
if (flags.from) await growFrom(out, flags.from, parameters);
const averages = new Map<string, Tensor>();
for (const [key, parameter] of parameters) {
  const average = ownedEmpty(device, parameter.shape, "f32", "optimizer");
  device.kernels.affine(parameter, 1, undefined, 0, average);
  averages.set(key, average);
}
using optimizer = createMuon(
  { device, parameters },
  {
    momentum: 0.95,
    exclude: /^patch_embedding|^head\.|modulation$|^time_embedding\.0/,
    betas: [0.9, 0.99],
    weightDecay: 0.02,
  },
);
const { width, height, frames } = model.defaults;
using pool = new LatentPool(device, vae, { width, height, frames }, seed, join(out, `latents-${name}.f32`));
const range = expert === "high" || expert === "low" ? expertRange(expert, model.boundary) : { from: 0, to: 1 };

/** Any scene of the pool, the favoured ones more often. */
function pickScene(draws: Draws): PooledScene {
  for (;;) {
    const pooled = pool.at(Math.floor(draws.unit() * pool.length));
    if (favoured.size === 0 || draws.chance(favour(pooled.scene) / MOST_FAVOURED)) return pooled;
  }
}

await pool.grow(Number(flags.scenes));
console.log(`${name}: ${pool.length} scenes, latents ${pool.shape.join("×")}, σ ${range.from}…${range.to}`);

await trainRun(
  {
    device,
    folder: out,
    name: flags.name,
    steps,
    minutes: Number(flags.minutes),
    rate: Number(flags.rate),
    optimizer,
    parameters,
    averages,
  },
  async (step) => {
    await pool.grow(Number(flags.scenes) + SCENES_A_STEP * step);
    using _scope = openScope(device);
    const samples: TrainingSample[] = [];
    const first = (flags.name.length * 7919 + step) * batch;
    for (let i = 0; i < batch; i++) {
      const draws = new Draws(seed, first + i + 2 ** 44);
      const { scene, latents } = pickScene(draws);
      const { text } = trainingText(scene, seed, first + i, IDLE);
      const { ids } = promptTokens(tokenizer, draws.chance(CAPTION_DROPOUT) ? "" : text, model.dit.textLength);
      const rng = new PhiloxRng(BigInt(seed), first + i);
      const noise = new Float32Array(latents.length);
      rng.fillNormal(noise);
      samples.push({
        clean: fromValues(device, latents, pool.shape),
        noise: fromValues(device, noise, pool.shape),
        sigma: drawSigma(time, range, rng),
        text: encoder.encode(ids),
        ...(model.image !== "none" && draws.chance(firstFrames) ? { firstFrameGiven: true } : {}),
      });
    }
    const losses = await gatherBatchGradients(dit, samples, { weight: 1 / batch });
    return { loss: losses.reduce((sum, loss) => sum + loss, 0) / batch };
  },
  (step) => {
    if (step % AVERAGE.every !== 0) return;
    // A short memory at first, when everything still changes.
    const keep = Math.min(AVERAGE.keep, step / (step + 10 * AVERAGE.every));
    for (const [key, average] of averages) {
      device.kernels.affine(average, keep, parameters.get(key)!, 1 - keep, average);
    }
  },
);
