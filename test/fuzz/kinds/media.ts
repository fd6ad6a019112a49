// Films and pictures: containers, codecs and headers changed anywhere, made on the fly.
import { readFileSync, writeFileSync } from "node:fs";
import { extname, join } from "node:path";
import { ImageReader } from "../../../src/io/image/read.ts";
import { encodeImage } from "../../../src/io/image/write.ts";
import { probe } from "../../../src/io/video/probe.ts";
import { openVideo } from "../../../src/io/video/read.ts";
import { VideoWriter } from "../../../src/io/video/write.ts";
import { RECIPE_KEY } from "../../../src/protocol/recipe.ts";
import { readRecipe } from "../../../src/sample/recipe.ts";
import { makeFilm } from "../../support/film.ts";
import { makeHeic } from "../../support/heic.ts";
import { prepare, quick } from "../../support/prepared.ts";
import { recipe } from "../../support/recipe.ts";
import { type below, changedBytes, changedJson } from "../changes.ts";
import { readCli } from "../cli.ts";
import { expectValid, type Kind, put } from "../run.ts";

/** Decoders keep several frames of the largest size that is read, and threads of their own. */
const growth = 1200 * 2 ** 20;

const source = "testsrc2=s=96x64:r=12:d=1";
const films: readonly { name: string; encoder?: string; format: string; options?: Record<string, string> }[] = [
  { name: "a.mp4", format: "yuv420p" },
  { name: "b.mkv", format: "yuv420p" },
  { name: "c.ts", format: "yuv420p" },
  { name: "d.avi", format: "yuvj420p", encoder: "mjpeg" },
  { name: "e.gif", format: "rgb8", encoder: "gif" },
  { name: "f.mov", format: "yuv420p", encoder: "mpeg4" },
  { name: "g.webm", format: "yuv420p", encoder: "libvpx-vp9", options: { deadline: "realtime", "cpu-used": "8" } },
];

async function makeFilms(base: string): Promise<{ name: string; bytes: Buffer }[]> {
  const made: { name: string; bytes: Buffer }[] = [];
  for (const { name, encoder, format, options } of films) {
    const path = join(base, name);
    await makeFilm(path, {
      graph: `${source},format=${format}`,
      ...(encoder ? { encoder } : {}),
      ...(options ? { encoderOptions: options } : {}),
    });
    made.push({ name, bytes: readFileSync(path) });
  }
  return made;
}

/** Where a film's headers are: its first bytes, its last, or its MOV header. */
function aimed(draws: Parameters<typeof below>[0], bytes: Buffer, outside: string): Uint8Array {
  const moov = bytes.indexOf("moov", 0, "latin1");
  if (moov > 0 && draws.chance(0.6))
    return Buffer.concat([bytes.subarray(0, moov - 4), changedBytes(draws, bytes.subarray(moov - 4), outside)]);
  return changedBytes(draws, bytes, outside, draws.chance(0.6) ? 400 : bytes.length);
}

const filmKind: Kind = {
  name: "film",
  share: 900,
  growth,
  async prepare(base) {
    const made = await makeFilms(base);
    return async (draws, place) => {
      const { name, bytes } = draws.pick(made);
      // Under another ending the container is told by its content.
      const path = join(place.inside, draws.chance(0.1) ? `x${extname(draws.pick(made).name)}` : name);
      put(draws, place, path, aimed(draws, bytes, place.outside));
      const { video, duration } = await probe(path);
      expectValid(
        !video || (video.width > 0 && video.height > 0 && Number.isFinite(duration)),
        "its size or length is none",
      );
      let frames = 0;
      for await (const frame of openVideo(path, { width: 32, height: 32, fps: 8 })) {
        expectValid(frame.data.length === 32 * 32 * 3, "a frame has another size");
        if (++frames >= 32) break;
      }
      return frames;
    };
  },
};

const prepared: Kind = {
  name: "prepared film",
  share: 120,
  growth,
  async prepare(base) {
    const made = await makeFilms(base);
    return async (draws, place) => {
      const { name, bytes } = draws.pick(made);
      const path = join(place.inside, name);
      writeFileSync(path, aimed(draws, bytes, place.outside));
      const { summary } = await prepare([path], join(place.inside, "set"), {
        ...quick,
        clips: { shortest: 0.5, longest: 1 },
      });
      return summary.problems;
    };
  },
};

const pictures: Kind = {
  name: "picture",
  share: 900,
  growth,
  async prepare(base) {
    const data = Uint8Array.from({ length: 48 * 40 * 3 }, (_, i) => (i * 5) & 255);
    const size = { width: 48, height: 40 };
    const made: { name: string; bytes: Buffer }[] = [
      { name: "a.png", bytes: Buffer.from(await encodeImage({ ...size, data }, "png")) },
      { name: "b.jpg", bytes: Buffer.from(await encodeImage({ ...size, data }, "jpeg")) },
    ];
    const others = [
      ["c.webp", "libwebp", "yuv420p"],
      ["d.bmp", "bmp", "bgr24"],
      ["e.tiff", "tiff", "rgb24"],
      ["f.gif", "gif", "rgb8"],
      ["h.apng", "apng", "rgba"],
    ] as const;
    for (const [name, encoder, format] of others) {
      const path = join(base, name);
      const graph = `testsrc2=s=48x40:r=5,trim=end_frame=${name === "h.apng" ? 3 : 1},format=${format}`;
      const container = name === "h.apng" || name === "f.gif" || name === "c.webp" ? {} : { container: "image2" };
      await makeFilm(path, {
        graph,
        encoder,
        ...container,
        ...("container" in container ? { muxerOptions: { update: "1" } } : {}),
      });
      made.push({ name, bytes: readFileSync(path) });
    }
    for (const [name, more] of [
      ["i.heic", {}],
      ["j.heic", { type: "grid" }],
    ] as const) {
      const path = join(base, name);
      await makeHeic(path, { graph: "testsrc2=s=64x64", width: 64, height: 64, ...more });
      made.push({ name, bytes: readFileSync(path) });
    }
    return async (draws, place) => {
      const { name, bytes } = draws.pick(made);
      const path = join(place.inside, name);
      put(draws, place, path, changedBytes(draws, bytes, place.outside, draws.chance(0.7) ? 300 : bytes.length));
      using reader = await ImageReader.open(path);
      const { data: pixels } = await reader.picture({ width: 32, height: 32 });
      expectValid(pixels.length === 32 * 32 * 3, "it has another size");
      return reader.info;
    };
  },
};

const recipes: Kind = {
  name: "recipe in a film",
  share: 500,
  async prepare(base) {
    const path = join(base, "a.mp4");
    const room = JSON.stringify(recipe).length + 3000;
    const text = JSON.stringify({ ...recipe, loras: [{ ...recipe.loras[0], exclude: ["blocks\\.0"] }] }).padEnd(room);
    const writer = await VideoWriter.create(path, { width: 32, height: 32, fps: 8, metadata: { [RECIPE_KEY]: text } });
    for (let i = 0; i < 3; i++) await writer.write(new Uint8Array(32 * 32 * 3).fill(i));
    await writer.finish();
    const whole = readFileSync(path);
    const at = whole.indexOf(text.trimEnd(), 0, "utf8");
    expectValid(at > 0, "the recipe is not in the film");
    return async (draws, place) => {
      const file = join(place.inside, "a.mp4");
      const changed = Buffer.from(JSON.stringify(changedJson(draws, JSON.parse(text), place.outside)) ?? "");
      const cut = changed.subarray(0, room);
      const bytes = Buffer.from(whole);
      Buffer.concat([cut, Buffer.alloc(room - cut.length, " ")]).copy(bytes, at);
      put(draws, place, file, draws.chance(0.15) ? changedBytes(draws, bytes, place.outside) : bytes);
      if (draws.chance(0.6)) return readCli(draws, ["show", file]);
      return (await readRecipe(file)).task;
    };
  },
};

export const mediaKinds: readonly Kind[] = [filmKind, prepared, pictures, recipes];
