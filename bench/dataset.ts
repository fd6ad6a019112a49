// Dataset preparation against FFmpeg alone (decode, same scaling, same encoding), in one run; and its memory over a long film.
//   npm run bench:dataset -- [--rounds 5] [--media FOLDER] [--long [--minutes 2,20] [--memory]]     --memory: without FFmpeg
//   npm run bench:dataset -- --quick [--long]     small films made on the fly: does it all work, no figures to quote
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { inParallel } from "../src/base/parallel.ts";
import { listFolder, mediaKind } from "../src/dataset/media-files.ts";
import { type PrepareRequest, prepareDataset } from "../src/dataset/prepare/prepare.ts";
import { encoderThreads } from "../src/dataset/prepare/render.ts";
import { ImageReader } from "../src/io/image/read.ts";
import { writePng } from "../src/io/image/write.ts";
import { type DatasetManifest, datasetManifestSchema } from "../src/protocol/dataset-manifest.ts";
import { measureNames, type PrepareConfigInput } from "../src/protocol/prepare-config.ts";
import { transcode } from "./ffmpeg-alone.ts";
import { makeLongFilm } from "./long-film.ts";
import { formatRatio, interleaved, load, parseRounds, ratioOf, Times } from "./rounds.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string" },
    media: { type: "string", default: resolve(import.meta.dirname, "../../shared/media") },
    long: { type: "boolean", default: false },
    minutes: { type: "string", default: "2,20" },
    memory: { type: "boolean", default: false },
    quick: { type: "boolean", default: false },
  },
});
const full = { width: 1920, height: 1080 };
const small = { width: 640, height: 360 };

interface Spent {
  /** Seconds. */
  wall: number;
  cpu: number;
}

async function timed(work: () => Promise<void>): Promise<Spent> {
  const cpu = process.cpuUsage();
  const start = performance.now();
  await work();
  const used = process.cpuUsage(cpu);
  return { wall: (performance.now() - start) / 1000, cpu: (used.user + used.system) / 1e6 };
}

// Everything is kept, so that both sides encode the same frames.
const config: PrepareConfigInput = {
  model: "t2v-A14B",
  quality: Object.fromEntries(measureNames.map((name) => [name, false])),
  duplicates: { detect: false },
  clips: { shortest: 0.5, longest: 20 },
};
const width = 2;

async function prepare(sources: string[], out: string, more: Partial<PrepareRequest> = {}): Promise<DatasetManifest> {
  for await (const event of prepareDataset({ sources, out, config, width, ...more }))
    if (event.type === "problem") throw new Error(`${event.path}: ${event.message}`);
  return datasetManifestSchema.parse(JSON.parse(await readFile(join(out, "manifest.json"), "utf8")));
}

/** The sizes and settings preparation chose, done by FFmpeg alone. */
async function alone(files: string[], manifest: DatasetManifest, out: string): Promise<void> {
  await mkdir(out, { recursive: true });
  const { video } = manifest.settings as { video: { crf: number; preset: string } };
  await inParallel(files, width, async (input) => {
    const source = manifest.sources.findIndex(({ path }) => basename(path) === basename(input));
    const { size } = manifest.items.find((item) => item.source === source && item.size)!;
    const output = join(out, basename(input));
    if (mediaKind(input) === "image") {
      using reader = await ImageReader.open(input);
      await writePng(`${output}.png`, await reader.picture({ ...size! }));
      return;
    }
    await transcode({ input, output, fps: manifest.fps, ...size!, ...video, threads: encoderThreads });
  });
}

async function benchMedia(folder: string, scratch: string, rounds: number): Promise<void> {
  if (!existsSync(folder)) {
    console.log(`no folder ${folder}: nothing to time (name one with --media)`);
    return;
  }
  const files = (await listFolder(folder)).map((entry) => entry.path).filter((path) => mediaKind(path));
  const manifest = await prepare(files, join(scratch, "warm"));
  const frames = manifest.items.reduce((sum, item) => sum + item.frames, 0);
  /** Seconds of the processor by turn, the warm-up first. */
  const cpu: Record<"alone" | "prepared", number[]> = { alone: [], prepared: [] };
  const turn = (who: keyof typeof cpu, work: (out: string) => Promise<void>) => async () => {
    const spent = await timed(() => work(join(scratch, `${who}-${cpu[who].length}`)));
    cpu[who].push(spent.cpu);
    return spent.wall;
  };
  const wall = await interleaved(
    {
      alone: turn("alone", (out) => alone(files, manifest, out)),
      prepared: turn("prepared", async (out) => void (await prepare(files, out))),
    },
    rounds,
  );
  const used = { alone: new Times(cpu.alone.slice(1)), prepared: new Times(cpu.prepared.slice(1)) };
  console.log(`${files.length} files, ${frames} frames and pictures, ${cpus().length} cores, ${load()}`);
  console.log(`FFmpeg alone ${wall.alone} (CPU ${used.alone}), preparation ${wall.prepared} (CPU ${used.prepared})`);
  const [time, processor] = [wall, used].map(({ alone, prepared }) => formatRatio(ratioOf(prepared, alone)));
  console.log(`preparation / FFmpeg alone: ${time} time, ${processor} CPU (goal 1.15)`);
}

/** Peak memory of this process while `work` runs, MB, sampled. */
async function peakMemory(work: () => Promise<void>): Promise<number> {
  let peak = 0;
  const timer = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage.rss());
  }, 100);
  await work();
  clearInterval(timer);
  return Math.round(peak / 1e6);
}

/** Films of several lengths: memory is flat where the longer one takes no more. */
async function benchLong(scratch: string, minutes: readonly number[], size: typeof full): Promise<void> {
  const peaks: number[] = [];
  for (const length of minutes) {
    const film = join(scratch, `film-${length}.mp4`);
    console.log(`making a ${length}-minute ${size.width}×${size.height} film…`);
    await makeLongFilm(film, length * 60, size);
    let manifest: DatasetManifest | undefined;
    let spent: Spent | undefined;
    const peak = await peakMemory(async () => {
      spent = await timed(async () => {
        manifest = await prepare([film], join(scratch, `long-${length}`), {
          config: { ...config, clips: { shortest: 1, longest: 10 } },
        });
      });
    });
    peaks.push(peak);
    console.log(
      `${length} min: ${manifest!.items.length} clips, preparation ${spent!.wall.toFixed(1)} s; peak memory ${peak} MB`,
    );
    if (values.memory) continue;
    const theirs = await timed(() => alone([film], manifest!, join(scratch, `long-alone-${length}`)));
    console.log(
      `FFmpeg alone ${theirs.wall.toFixed(1)} s: ${(spent!.wall / theirs.wall).toFixed(3)} time, ${(spent!.cpu / theirs.cpu).toFixed(3)} CPU`,
    );
  }
  console.log(
    `memory at ${minutes.join(", ")} minutes: ${peaks.map((peak) => `${(peak / peaks[0]!).toFixed(2)}×`).join(", ")}`,
  );
}

/** Two short films and a picture. */
async function quickMedia(folder: string): Promise<void> {
  await mkdir(folder);
  for (const [i, seconds] of [8, 5].entries()) await makeLongFilm(join(folder, `film-${i}.mp4`), seconds, small);
  const data = Uint8Array.from({ length: 640 * 360 * 3 }, (_, i) => (i / 640) & 255);
  await writePng(join(folder, "picture.png"), { ...small, data });
}

const scratch = await mkdtemp(join(tmpdir(), "kinora-bench-"));
try {
  const media = values.quick ? join(scratch, "media") : resolve(values.media);
  if (values.quick) await quickMedia(media);
  await benchMedia(media, scratch, values.quick ? 1 : parseRounds(values.rounds));
  const minutes = values.quick ? [0.1, 1] : values.minutes.split(",").map(Number);
  if (values.long) await benchLong(scratch, minutes, values.quick ? small : full);
} finally {
  await rm(scratch, { recursive: true, force: true });
}
