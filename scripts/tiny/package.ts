// From training runs to the files that ship: npx tsx scripts/tiny/package.ts --runs DIR --out models [--model tiny-t2v]
// Parameters as bf16, their averages where a run kept them; the autoencoders with the statistics of their latents over
// the world. What a run has not written yet is left out.
import { copyFileSync, existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fromFloat32, toFloat32 } from "../../src/base/float-formats.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { SafetensorsFile } from "../../src/io/safetensors.ts";
import { writeSafetensors } from "../../src/io/safetensors-writer.ts";
import { loadVae } from "../../src/models/wan/load.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import { LATENT_STATISTICS, type LatentStatistics } from "../../src/models/wan/vae/config.ts";
import { ditShapes, type Shapes, textEncoderShapes, vaeShapes } from "../../src/models/wan/weight-shapes.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { fromValues } from "../../src/tensor/tensor.ts";
import { planes } from "./latent-pool.ts";
import { tinyTextEncoder, tinyVaes } from "./networks.ts";
import { renderClip } from "./world/render.ts";
import { drawScene } from "./world/scene.ts";

const { values: flags } = parseArgs({
  options: { runs: { type: "string" }, out: { type: "string" }, model: { type: "string" } },
});
if (!flags.runs || !flags.out) {
  console.error("usage: package.ts --runs DIR --out models [--model tiny-t2v]");
  process.exit(2);
}
const { runs, out } = flags;

/** Writes parameters as bf16; those that the run `later` has come from there. */
async function pack(
  run: string,
  shapes: Shapes,
  path: string,
  { metadata = {}, later }: { metadata?: Record<string, string>; later?: string } = {},
): Promise<void> {
  using first = SafetensorsFile.open(run);
  using second = later === undefined ? undefined : SafetensorsFile.open(later);
  const tensors = [...shapes].map(([name, shape]) => {
    const file = second?.has(name) ? second : first;
    const key = file.has(`average:${name}`) ? `average:${name}` : name;
    const values = toFloat32(file.bytes(key), file.info(key).dtype);
    return { name, dtype: "bf16" as const, shape, bytes: fromFloat32(values, "bf16") };
  });
  await writeSafetensors(path, tensors, { format: "pt", ...metadata });
  console.log(`${path}: from step ${first.metadata.step}${second ? ` and ${second.metadata.step}` : ""}`);
}

/** Clips the statistics are taken from. */
const CLIPS = 200;

/** Mean and standard deviation of every latent channel over scenes of the world. */
async function latentStatistics(path: string, size: { width: number; height: number; frames: number }) {
  const { device } = await openDevice("auto");
  using vae = loadVae(device, path, { dtype: "f32", half: "encoder" });
  const { zDim } = vae.config;
  const sums = new Float64Array(zDim);
  const squares = new Float64Array(zDim);
  let count = 0;
  for (let i = 0; i < CLIPS; i++) {
    using _scope = openScope(device);
    using encoder = vae.encoder(size, { normalized: false });
    const video = fromValues(device, planes(renderClip(drawScene(7, i, "train"), size)), [
      3,
      size.frames,
      size.height,
      size.width,
    ]);
    const latents = await encoder.push(video).read();
    const perChannel = latents.length / zDim;
    for (const [at, value] of latents.entries()) {
      const channel = Math.floor(at / perChannel);
      sums[channel]! += value;
      squares[channel]! += value * value;
    }
    count += perChannel;
  }
  const mean = Array.from(sums, (sum) => sum / count);
  const std = Array.from(squares, (square, c) => Math.sqrt(square / count - mean[c]! ** 2));
  const round = (value: number) => Number(value.toPrecision(6));
  return { mean: mean.map(round), std: std.map(round) } satisfies LatentStatistics;
}

/** The statistics of an autoencoder that was packed before. */
function statisticsOf(path: string): string | undefined {
  if (!existsSync(path)) return undefined;
  using file = SafetensorsFile.open(path);
  return file.metadata[LATENT_STATISTICS];
}

for (const name of ["tiny-t2v", "tiny-ti2v"] as const) {
  if (flags.model && flags.model !== name) continue;
  const model = wanModels[name];
  const folder = join(out, name);
  mkdirSync(folder, { recursive: true });
  const vaeRun = join(runs, `${model.vae.kind}.safetensors`);
  const vaeFile = join(folder, "vae.safetensors");
  if (existsSync(vaeRun)) {
    const shapes = vaeShapes(tinyVaes[model.vae.kind]);
    const decoder = join(runs, `${model.vae.kind}-decoder.safetensors`);
    const later = existsSync(decoder) ? { later: decoder } : {};
    // Transformers are trained on latents of the scale a folder began with.
    let statistics = statisticsOf(vaeFile);
    if (statistics === undefined) {
      await pack(vaeRun, shapes, vaeFile, later);
      statistics = JSON.stringify(await latentStatistics(vaeFile, model.defaults));
    }
    await pack(vaeRun, shapes, vaeFile, { ...later, metadata: { [LATENT_STATISTICS]: statistics } });
  }
  const textRun = join(runs, "text-encoder.safetensors");
  if (existsSync(textRun)) {
    await pack(textRun, textEncoderShapes(tinyTextEncoder), join(folder, "text_encoder.safetensors"));
    copyFileSync(join(runs, "tokenizer.json"), join(folder, "tokenizer.json"));
  }
  const experts = name === "tiny-t2v" ? ["high_noise_model", "low_noise_model"] : ["model"];
  for (const expert of experts) {
    const run = join(runs, `${name}-${expert}.safetensors`);
    if (existsSync(run)) await pack(run, ditShapes(model.dit), join(folder, `${expert}.safetensors`));
  }
}
