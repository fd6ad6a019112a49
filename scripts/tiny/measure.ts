// How well kinora-tiny does what prompts ask: npx tsx scripts/tiny/measure.ts --model tiny-t2v [--checkpoint DIR]
//   [--prompts 200] [--from 0] [--image] [--out DIR]
// Held-out prompts through the whole of `kinora generate`, the MP4s read back and judged by the analyser. --image gives
// tiny-ti2v the first frame too. Prints a table and writes a sheet of the first videos.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openDevice } from "../../src/device/open-device.ts";
import { HashCache } from "../../src/io/content-hash.ts";
import { writePng } from "../../src/io/image/write.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import { generate } from "../../src/sample/pipeline.ts";
import { resolveRequest } from "../../src/sample/request.ts";
import { type Score, scoreTable, scoreVideo } from "./analyser/score.ts";
import { psnr, readClip } from "./clips.ts";
import { captionOf } from "./world/captions.ts";
import { contactSheet } from "./world/contact-sheet.ts";
import { type Clip, renderClip } from "./world/render.ts";
import { drawScene } from "./world/scene.ts";

const { values: flags } = parseArgs({
  options: {
    model: { type: "string", default: "tiny-t2v" },
    checkpoint: { type: "string" },
    prompts: { type: "string", default: "200" },
    from: { type: "string", default: "0" },
    steps: { type: "string" },
    guidance: { type: "string" },
    shift: { type: "string" },
    image: { type: "boolean", default: false },
    out: { type: "string", default: "measured" },
  },
});
const name = flags.model === "tiny-ti2v" ? "tiny-ti2v" : "tiny-t2v";
const size = wanModels[name].defaults;
const checkpoint = flags.checkpoint ?? join("models", name);
/** Of the scenes that measure. */
const SEED = 2026;
/** What a given first frame has to keep. */
const FIRST_FRAME_DB = 30;
mkdirSync(flags.out, { recursive: true });
const { device } = await openDevice("auto");
const hashes = new HashCache(flags.out);
const number = (text: string | undefined) => (text === undefined ? undefined : Number(text));

const scores: Score[] = [];
const clips: Clip[] = [];
const firstFrames: number[] = [];
const wrong: string[] = [];
const from = Number(flags.from);
for (let i = from; i < from + Number(flags.prompts); i++) {
  const scene = drawScene(SEED, i, "held-out");
  const { text, says } = captionOf(scene, SEED, i);
  const out = join(flags.out, `${String(i).padStart(3, "0")}.mp4`);
  const drawn = renderClip(scene, size);
  const image = join(flags.out, "first.png");
  const frame = size.width * size.height * 3;
  if (flags.image) await writePng(image, { width: size.width, height: size.height, data: drawn.data.slice(0, frame) });
  const { request } = resolveRequest({
    task: name,
    prompt: text,
    seed: BigInt(i),
    files: { folder: checkpoint },
    out,
    ...(flags.image ? { image } : {}),
    ...(flags.steps ? { steps: number(flags.steps) } : {}),
    ...(flags.shift ? { shift: number(flags.shift) } : {}),
    ...(flags.guidance ? { guidance: number(flags.guidance) } : {}),
  });
  for await (const event of generate(request, device, { hashes })) void event;
  const clip = await readClip(out);
  const score = scoreVideo(clip, says);
  scores.push(score);
  if (clips.length < 24) clips.push(clip);
  if (flags.image) firstFrames.push(psnr(clip.data.subarray(0, frame), drawn.data.subarray(0, frame)));
  const missed = (["color", "shape", "motion", "background"] as const).filter((part) => !score.right[part]);
  if (missed.length > 0) {
    const { color, shape, motion, backgroundColor, pattern } = score.analysis;
    wrong.push(
      `${i}  ${text}\n     ${missed.join(", ")}: ${color.value} ${shape.value}, ${motion.value}, ${backgroundColor.value} ${pattern.value}`,
    );
  }
  if (scores.length % 25 === 0) console.log(`${scores.length} videos`);
}
const lines = [`${name}${flags.image ? ", first frame given" : ""}: ${scores.length} held-out prompts`, ""];
lines.push(scoreTable({ [name]: scores }));
if (flags.image) {
  const sorted = firstFrames.toSorted((a, b) => a - b);
  const mean = firstFrames.reduce((sum, value) => sum + value, 0) / firstFrames.length;
  const near = sorted.filter((value) => value >= FIRST_FRAME_DB).length;
  const spread = `mean ${mean.toFixed(1)} dB, least ${sorted[0]!.toFixed(1)} dB`;
  lines.push(
    "",
    `PSNR of frame 0 against the picture: ${spread}; ${FIRST_FRAME_DB} dB or more in ${near} of ${sorted.length}`,
  );
}
console.log(lines.join("\n"));
writeFileSync(join(flags.out, "table.md"), `${lines.join("\n")}\n\nWrong:\n\n${wrong.join("\n")}\n`);
await writePng(join(flags.out, "sheet.png"), contactSheet(clips));
