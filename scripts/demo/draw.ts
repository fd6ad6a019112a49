// The demo's first stage: short captioned clips in a style that kinora-tiny has never seen, as files like anybody's.
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { isKinoraError } from "../../src/base/errors.ts";
import { timeLeft } from "../../src/cli/progress.ts";
import { writeFileAtomic } from "../../src/io/atomic.ts";
import { probe } from "../../src/io/video/probe.ts";
import { VideoWriter } from "../../src/io/video/write.ts";
import { neon } from "../tiny/world/neon.ts";
import { type Clip, renderClip } from "../tiny/world/render.ts";
import { clipSize, type DemoScene, demoFiles, trainingScenes } from "./settings.ts";
import { made, type Stage } from "./stage.ts";

export interface DrawnClip extends DemoScene {
  /** The MP4; its caption lies beside it. */
  path: string;
  /** Names the pixels and the caption. */
  key: string;
}

/** The film's own tag that tells what was drawn into it. */
const KEY = "kinora.drawn";
const names = /^\d{3}\.(?:mp4|txt)$/;
/** Visually lossless, and the same bytes on every machine. */
const encoding = { crf: 12, threads: 1 } as const;

/** Draws the clips that are not there yet. */
export async function drawClips({ settings, out, signal, work }: Stage): Promise<DrawnClip[]> {
  const folder = demoFiles(settings.folder).clips;
  await mkdir(folder, { recursive: true });
  const before = await readdir(folder);
  await work.begin("clips", `${settings.clips} clips`, before.length === 0);
  const scenes = trainingScenes(settings.clips);
  const clips: DrawnClip[] = [];
  const started = Date.now();
  let drawn = 0;
  for (const [i, scene] of scenes.entries()) {
    signal.throwIfAborted();
    const begun = performance.now();
    const clip = renderClip(scene.scene, clipSize, neon);
    const path = join(folder, `${String(i).padStart(3, "0")}.mp4`);
    const key = keyOf(clip, scene.text);
    if (!(await isDrawn(path, key, scene.text))) {
      await writeClip(path, clip, key, scene.text);
      await work.add("clips", (performance.now() - begun) / 1000);
      drawn++;
    }
    clips.push({ ...scene, path, key });
    out.progress(`clip ${i + 1} of ${scenes.length}${timeLeft(started, i + 1, scenes.length)}`);
  }
  // A dataset is all that lies in its folder.
  const wanted = new Set(clips.flatMap(({ path }) => [path, captionPath(path)]));
  for (const name of before) if (names.test(name) && !wanted.has(join(folder, name))) await rm(join(folder, name));
  out.note(made(drawn, clips.length, "clips", "drawn"));
  return clips;
}

const captionPath = (path: string): string => path.replace(/\.mp4$/, ".txt");

function keyOf({ data, ...size }: Clip, caption: string): string {
  const facts = JSON.stringify({ ...size, fps: clipSize.fps, ...encoding, caption });
  return createHash("sha256").update(facts).update(data).digest("hex");
}

/** Whether the film with these pixels and its caption are there; a damaged film is not. */
async function isDrawn(path: string, key: string, caption: string): Promise<boolean> {
  try {
    const [text, { metadata }] = await Promise.all([readFile(captionPath(path), "utf8"), probe(path)]);
    return text === `${caption}\n` && metadata[KEY] === key;
  } catch (error) {
    if (isKinoraError(error) || (error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

async function writeClip(path: string, { width, height, frames, data }: Clip, key: string, caption: string) {
  await using writer = await VideoWriter.create(path, {
    width,
    height,
    fps: clipSize.fps,
    ...encoding,
    metadata: { [KEY]: key, comment: caption },
  });
  const size = width * height * 3;
  for (let f = 0; f < frames; f++) await writer.write(data.subarray(f * size, (f + 1) * size));
  await writer.finish();
  await writeFileAtomic(captionPath(path), `${caption}\n`);
}
