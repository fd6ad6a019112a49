// npx tsx scripts/tiny/world/show.ts OUT.png [--seed N] [--clips N] [--size 96x64] [--frames N] [--style flat|neon]
// [--split train|held-out] [--prompt TEXT]: draws scenes of the world into a picture and prints their captions.
import { parseArgs } from "node:util";
import { isKinoraError, KinoraError } from "../../../src/base/errors.ts";
import { writePng } from "../../../src/io/image/write.ts";
import { captionOf } from "./captions.ts";
import { contactSheet } from "./contact-sheet.ts";
import { neon } from "./neon.ts";
import { sceneFromCaption } from "./parse-caption.ts";
import { flat, renderClip } from "./render.ts";
import { drawScene, placeScene } from "./scene.ts";

const styles = { flat, neon } as const;
const usage =
  "usage: show.ts OUT.png [--seed N] [--clips N] [--size 96x64] [--frames N] [--style flat|neon] [--split train|held-out] [--prompt TEXT]";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: "string", default: "0" },
    clips: { type: "string", default: "12" },
    size: { type: "string", default: "96x64" },
    frames: { type: "string", default: "9" },
    style: { type: "string", default: "flat" },
    split: { type: "string" },
    prompt: { type: "string" },
  },
});

const badUsage = (what: string) => new KinoraError("tiny.usage", what, { hint: usage });

function whole(text: string, name: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw badUsage(`--${name} takes a whole number, not ${text}`);
  return value;
}

async function main(): Promise<void> {
  const [out] = positionals;
  if (!out) throw badUsage("no picture to write to");
  const [, width, height] = /^(\d+)x(\d+)$/.exec(values.size) ?? [];
  if (!width || !height) throw badUsage(`--size takes WIDTHxHEIGHT, not ${values.size}`);
  if (values.style !== "flat" && values.style !== "neon") throw badUsage(`no style ${values.style}`);
  const { split, prompt, style } = values;
  if (split !== undefined && split !== "train" && split !== "held-out") throw badUsage(`no split ${split}`);
  const seed = whole(values.seed, "seed");
  const asked = prompt === undefined ? undefined : sceneFromCaption(prompt);
  const size = { width: Number(width), height: Number(height), frames: whole(values.frames, "frames") };
  const clips = Array.from({ length: whole(values.clips, "clips") }, (_, i) => {
    const scene = asked ? placeScene(asked, seed, i) : drawScene(seed, i, split);
    console.log(`${String(i + 1).padStart(3)}  ${captionOf(scene, seed, i).text}`);
    return renderClip(scene, size, styles[style as keyof typeof styles]);
  });
  if (clips.length === 0 || size.frames === 0) throw badUsage("nothing to draw");
  await writePng(out, contactSheet(clips));
  console.log(`wrote ${out}`);
}

try {
  await main();
} catch (error) {
  if (!isKinoraError(error)) throw error;
  console.error(`error ${error.code}: ${error.message}${error.hint ? `\nhint: ${error.hint}` : ""}`);
  process.exitCode = 1;
}
