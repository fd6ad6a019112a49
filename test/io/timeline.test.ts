// Films whose timestamps do not simply run on: joined recordings, clocks that were set, frames that stay for hours. All of
// what was recorded is read, in order, at steady times, from any moment on; what cannot be read is said.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { AV_NOPTS_VALUE } from "node-av/constants";
import { Packet } from "node-av/lib";
import { describe, expect, it } from "vitest";
import { PacketClock } from "../../src/io/video/continuity.ts";
import { FrameFilter } from "../../src/io/video/frame-filter.ts";
import { probe } from "../../src/io/video/probe.ts";
import { openVideo } from "../../src/io/video/read.ts";
import { VideoReader } from "../../src/io/video/reader.ts";
import { timelineOf } from "../../src/io/video/timeline.ts";
import { makeFilm, makeSound, remux, temporaryFolder } from "../support/film.ts";

const folder = temporaryFolder();
const at = (name: string) => join(folder, name);

/** A film whose frames get brighter from `from`, so that each can be told from the others. */
async function part(name: string, seconds: number, options: { encoder?: string; from?: number; offset?: number } = {}) {
  const { encoder = "libx264", from = 20, offset } = options;
  await makeFilm(at(name), {
    graph: `color=black:s=64x48:r=25,trim=end=${seconds},format=yuv420p,geq=lum='${from}+N/2':cb=128:cr=128`,
    encoder,
    encoderOptions: { g: "10", ...(encoder === "libx264" ? { bf: "2" } : { b: "4000000" }) },
    muxerOptions: offset === undefined ? {} : { output_ts_offset: String(offset) },
  });
  return at(name);
}

function joinFiles(name: string, ...parts: string[]): string {
  writeFileSync(at(name), Buffer.concat(parts.map((path) => readFileSync(path))));
  return at(name);
}

interface Seen {
  times: number[];
  greys: number[];
}

async function seen(reader: VideoReader, start = 0): Promise<Seen> {
  const found: Seen = { times: [], greys: [] };
  for await (const { frame, time } of reader.frames({ start })) {
    found.times.push(time);
    found.greys.push(frame.data![0]![24 * frame.linesize[0]! + 32]!);
  }
  return found;
}

/** Frames come at 25 a second from 0 on, each as bright as it was drawn. */
function expectAll({ times, greys }: Seen, frames: number, grey: (frame: number) => number, from = 0): void {
  expect(times).toHaveLength(frames - from);
  times.forEach((time, i) => void expect(time).toBeCloseTo((from + i) / 25, 1));
  for (let i = 1; i < times.length; i++) expect(times[i]! - times[i - 1]!).toBeCloseTo(1 / 25, 1);
  greys.forEach((value, i) => void expect(Math.abs(value - grey(from + i))).toBeLessThan(4));
}

describe("recordings joined end to end", () => {
  it.each([
    ["ts", "libx264"],
    ["ts", "mpeg2video"],
    ["mpg", "mpeg2video"],
    ["mkv", "libx264"],
    ["webm", "libvpx"],
    ["avi", "mpeg4"],
  ])("in .%s with %s are read whole, from any moment on, again and again", async (ending, encoder) => {
    const first = await part(`${encoder}-a.${ending}`, 2, { encoder });
    const second = await part(`${encoder}-b.${ending}`, 3, { encoder, from: 120 });
    const path = joinFiles(`${encoder}-joined.${ending}`, first, second);
    const grey = (frame: number) => (frame < 50 ? 20 + frame / 2 : 120 + (frame - 50) / 2);
    await using reader = await VideoReader.open(path);
    expectAll(await seen(reader), 125, grey);
    (await reader.glimpse(1))?.free();
    expectAll(await seen(reader), 125, grey);
    // The joint may be a frame's time off.
    const { times, greys } = await seen(reader);
    for (const from of [10, 49, 50, 51, 100, 124])
      expect(await seen(reader, times[from]! + 0.01)).toEqual({ times: times.slice(from), greys: greys.slice(from) });
    expect(await reader.missing()).toBeUndefined();
    const { duration, joints } = await timelineOf(path);
    expect(duration).toBeCloseTo(5, 0);
    expect(joints).toBe(ending === "avi" ? 0 : 1);
  });

  it("three of them, of which the middle one began later", async () => {
    const parts = [await part("one.ts", 2), await part("two.ts", 2, { from: 80, offset: 5000 }), at("one.ts")];
    const path = joinFiles("three.ts", ...parts);
    await using reader = await VideoReader.open(path);
    const grey = (frame: number) => (frame >= 50 && frame < 100 ? 80 : 20) + (frame % 50) / 2;
    expectAll(await seen(reader), 150, grey);
    expect(reader.joints).toBe(2);
    expectAll(await seen(reader, 5.01), 150, grey, 125);
    expect((await timelineOf(path)).duration).toBeCloseTo(6, 1);
  });

  it("without timestamps are counted through", async () => {
    const raw = await part("raw.m2v", 2, { encoder: "mpeg2video" });
    const path = joinFiles("raw-joined.m2v", raw, raw);
    await using reader = await VideoReader.open(path);
    const grey = (frame: number) => 20 + (frame % 50) / 2;
    expectAll(await seen(reader), 100, grey);
    expectAll(await seen(reader, 3.01), 100, grey, 75);
  });

  it.each([
    ["mp4", "contains more videos after the first, which are ignored"],
    ["mov", "contains more videos after the first, which are ignored"],
    ["flv", "% of the file could not be read"],
  ])("in .%s, where only the first can be read, are told", async (ending, words) => {
    const first = await part(`single.${ending}`, 1);
    await using whole = await VideoReader.open(first);
    await seen(whole);
    expect(await whole.missing()).toBeUndefined();
    await using reader = await VideoReader.open(joinFiles(`double.${ending}`, first, first));
    expectAll(await seen(reader), 25, (frame) => 20 + frame / 2);
    expect(await reader.missing()).toContain(words);
  });

  it("the second in a stream of its own is told", async () => {
    await remux(at("pid-a.ts"), [{ from: await part("pid-a.mp4", 2), id: 0x100 }]);
    await remux(at("pid-b.ts"), [{ from: await part("pid-b.mp4", 4), id: 0x200 }]);
    await using reader = await VideoReader.open(joinFiles("pids.ts", at("pid-a.ts"), at("pid-b.ts")));
    await seen(reader);
    expect(await reader.missing()).toMatch(/^about [34]\.\d s are in another stream, which is ignored$/);
    // Side by side, as programmes of one broadcast are, they are none of ours.
    await remux(at("both.ts"), [{ from: at("pid-a.mp4") }, { from: at("pid-b.mp4") }]);
    await using both = await VideoReader.open(at("both.ts"));
    await seen(both);
    expect(both.strays).toBeLessThan(60);
  });
});

describe("clocks", () => {
  it("may pass their 33rd bit", async () => {
    const path = await part("wrap.ts", 4, { offset: 2 ** 33 / 90_000 - 3 });
    await using reader = await VideoReader.open(path);
    const grey = (frame: number) => 20 + frame / 2;
    expectAll(await seen(reader), 100, grey);
    for (const from of [20, 60, 90]) expectAll(await seen(reader, (from + 0.2) / 25), 100, grey, from);
  });

  it("set ahead by minutes in a broadcast leave no gap", async () => {
    const path = joinFiles(
      "ahead.ts",
      await part("before.ts", 2),
      await part("after.ts", 2, { from: 80, offset: 400 }),
    );
    expect((await probe(path)).duration).toBeGreaterThan(300);
    await using reader = await VideoReader.open(path);
    expectAll(await seen(reader), 100, (frame) => (frame < 50 ? 20 + frame / 2 : 80 + (frame - 50) / 2));
    expect((await timelineOf(path)).duration).toBeCloseTo(4, 1);
  });

  it.each(["mp4", "mkv"])("a frame of .%s that stays for hours is shown for a moment", async (ending) => {
    const path = at(`hours.${ending}`);
    await makeFilm(path, {
      graph: "testsrc2=s=64x48:r=25,trim=end_frame=100,setpts=N+gte(N\\,50)*360000,format=yuv420p",
    });
    expect((await probe(path)).duration).toBeGreaterThan(14_000);
    const { duration, joints } = await timelineOf(path);
    expect(duration).toBeLessThan(10);
    expect(joints).toBeGreaterThan(0);
    let frames = 0;
    for await (const _ of openVideo(path, { fps: 16 })) frames++;
    expect(frames).toBeGreaterThan(60);
    expect(frames).toBeLessThan(70);
  });

  it("a picture that stays for half a minute does so", async () => {
    const path = at("slides.mp4");
    await makeFilm(path, { graph: "testsrc2=s=64x48:r=1,trim=end_frame=3,setpts=30*N,format=yuv420p" });
    await using reader = await VideoReader.open(path);
    expect((await seen(reader)).times).toEqual([0, 30, 60]);
    expect(reader.joints).toBe(0);
  });

  it("a film that begins after its sound begins at 0", async () => {
    await makeSound(at("sound.mp4"));
    await remux(at("late.ts"), [{ from: at("sound.mp4") }, { from: await part("late.mp4", 2), offset: 3 }]);
    await using reader = await VideoReader.open(at("late.ts"));
    expectAll(await seen(reader), 50, (frame) => 20 + frame / 2);
  });

  it("run on after any jumps, and one wrong packet among right ones does no harm (property)", () => {
    const jump = fc.record({
      after: fc.integer({ min: 20, max: 60 }),
      by: fc.integer({ min: -90_000_00, max: -90_000 }),
    });
    fc.assert(
      fc.property(fc.array(jump, { maxLength: 5 }), fc.option(fc.integer({ min: 1, max: 15 })), (jumps, wrong) => {
        const clock = new PacketClock(1 / 90_000, 0.04);
        const times: number[] = [];
        using packet = new Packet();
        packet.alloc();
        let stamp = 900_000_000n;
        const give = (value: bigint) => {
          packet.dts = value;
          packet.pts = value + 7200n;
          packet.duration = 3600n;
          clock.mend(packet);
          expect(packet.pts - packet.dts).toBe(7200n);
          times.push(Number(packet.dts));
          packet.unref();
        };
        for (const { after, by } of [...jumps, { after: 30, by: 0 }]) {
          for (let i = 0; i < after; i++) {
            give(i === wrong ? stamp - 450_000n : stamp);
            stamp += 3600n;
          }
          stamp += BigInt(by);
        }
        for (let i = 1; i < times.length; i++) expect(times[i]! - times[i - 1]!).toBe(3600);
      }),
    );
  });

  it.each([
    ["mkv", { bf: "4", "x264-params": "b-pyramid=normal:ref=5" }],
    ["mkv", { bf: "16", "x264-params": "b-adapt=0:b-pyramid=strict:scenecut=0" }],
    ["mp4", { bf: "4", "x264-params": "b-pyramid=normal" }],
    ["ts", { bf: "4", "x264-params": "b-pyramid=normal" }],
    ["avi", { bf: "0" }],
  ])("of a film in one piece are left alone: .%s, %j, at few frames a second too", async (ending, encoderOptions) => {
    for (const rate of [2, 16]) {
      const path = at(`plain-${rate}-${Object.values(encoderOptions).join("").replace(/\W/g, "")}.${ending}`);
      const graph = `mandelbrot=s=64x48:r=${rate}:start_scale=0.3:end_scale=0.05:end_pts=200,trim=end_frame=48,format=yuv420p`;
      await makeFilm(path, { graph, encoderOptions });
      expect((await timelineOf(path)).joints).toBe(0);
      await using reader = await VideoReader.open(path);
      for (let run = 0; run < 2; run++) {
        const { times } = await seen(reader);
        expect(reader.joints).toBe(0);
        expect(times).toHaveLength(48);
        times.forEach((time, i) => void expect(time).toBeCloseTo(i / rate, 2));
        (await reader.glimpse(1))?.free();
      }
    }
  });

  it("packets without any time are left as they are", () => {
    const clock = new PacketClock(1 / 90_000, 0.04);
    using packet = new Packet();
    packet.alloc();
    for (const pts of [90_000n, AV_NOPTS_VALUE, 0n, AV_NOPTS_VALUE]) {
      packet.pts = pts;
      packet.dts = AV_NOPTS_VALUE;
      clock.mend(packet);
      expect(packet.pts === AV_NOPTS_VALUE).toBe(pts === AV_NOPTS_VALUE);
      packet.unref();
    }
  });
});

describe("which stream", () => {
  it("a larger picture of a single frame is no film", async () => {
    await makeFilm(at("cover.mp4"), { graph: "testsrc2=s=640x640:r=1,trim=end_frame=1,format=yuv420p" });
    await remux(at("covered.mp4"), [{ from: at("cover.mp4") }, { from: await part("small.mp4", 2) }]);
    const { video, duration } = await probe(at("covered.mp4"));
    expect(video).toMatchObject({ width: 64, height: 48 });
    expect(duration).toBeCloseTo(2, 1);
  });
});

describe("palettes", () => {
  it.each([
    ["avi", "rawvideo"],
    ["nut", "rawvideo"],
    ["avi", "msrle"],
  ])("in .%s (%s) give their colours from any moment on, also after a glimpse", async (ending, encoder) => {
    const path = at(`palette-${encoder}.${ending}`);
    const source = "color=0xe03020:s=64x48:r=8,trim=end=3";
    await makeFilm(path, {
      graph: `${source},split[a][b];[a]palettegen=stats_mode=full[p];[b][p]paletteuse`,
      encoder,
      encoderOptions: encoder === "rawvideo" ? {} : { g: "8" },
    });
    expect((await probe(path)).video!.pixelFormat).toBe("pal8");
    await using reader = await VideoReader.open(path);
    (await reader.glimpse(1))?.free();
    for (const start of [0, 1.1, 2]) {
      let frames = 0;
      for await (const { data } of openVideo(path, { start })) {
        frames++;
        for (const [i, value] of [0xe0, 0x30, 0x20].entries()) expect(Math.abs(data[i]! - value)).toBeLessThan(8);
      }
      expect(frames).toBe(24 - Math.floor(start * 8));
    }
    using glimpse = (await reader.glimpse(2))!;
    using toRgb = new FrameFilter<true>(() => "format=rgb24");
    const [out] = await toRgb.push(glimpse, true);
    using rgb = out!.frame;
    expect(Math.abs(rgb.data![0]![0]! - 0xe0)).toBeLessThan(8);
  });
});
