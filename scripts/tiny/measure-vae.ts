// What kinora-tiny's autoencoders keep of unseen clips: npx tsx scripts/tiny/measure-vae.ts --models models [--clips N]
// Prints the PSNR and what the analyser still makes out; --sheet writes clips above their reconstructions.
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openDevice } from "../../src/device/open-device.ts";
import { writePng } from "../../src/io/image/write.ts";
import { loadVae } from "../../src/models/wan/load.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { fromValues } from "../../src/tensor/tensor.ts";
import { type Score, scoreTable, scoreVideo } from "./analyser/score.ts";
import { psnr } from "./clips.ts";
import { bytesOfPlanes, planes } from "./latent-pool.ts";
import { contactSheet } from "./world/contact-sheet.ts";
import { neon } from "./world/neon.ts";
import { type Clip, flat, renderClip, type Style } from "./world/render.ts";
import { drawScene } from "./world/scene.ts";

const { values: flags } = parseArgs({
  options: {
    models: { type: "string", default: "models" },
    clips: { type: "string", default: "40" },
    sheet: { type: "string" },
  },
});
const { device } = await openDevice("auto");

for (const name of ["tiny-t2v", "tiny-ti2v"] as const) {
  const size = wanModels[name].defaults;
  using vae = loadVae(device, join(flags.models, name, "vae.safetensors"), { dtype: "f32" });
  const passed = async (clip: Clip): Promise<Clip> => {
    using _scope = openScope(device);
    const video = fromValues(device, planes(clip), [3, clip.frames, clip.height, clip.width]);
    return { ...clip, data: bytesOfPlanes(await vae.decode(vae.encode(video)).read(), clip) };
  };
  const shown: Clip[] = [];
  for (const style of [flat, neon] as readonly Style[]) {
    const scores: Score[] = [];
    let decibels = 0;
    let first = 0;
    const count = Number(flags.clips);
    for (let i = 0; i < count; i++) {
      const scene = drawScene(99, i, "held-out");
      const clip = renderClip(scene, size, style);
      const back = await passed(clip);
      const frame = clip.width * clip.height * 3;
      decibels += psnr(clip.data, back.data) / count;
      first += psnr(clip.data.subarray(0, frame), back.data.subarray(0, frame)) / count;
      scores.push(scoreVideo(back, scene));
      if (i < 4) shown.push(clip, back);
    }
    console.log(`\n${name}, ${style.name}: PSNR ${decibels.toFixed(1)} dB, first frames ${first.toFixed(1)} dB`);
    console.log(scoreTable({ [style.name]: scores }));
  }
  if (flags.sheet) await writePng(`${flags.sheet}-${name}.png`, contactSheet(shown));
}
