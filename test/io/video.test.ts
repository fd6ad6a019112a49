// Reading and writing films: times, colours, turning, interlacing, damage.
import { copyFileSync, existsSync, readdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { probe } from "../../src/io/video/probe.ts";
import { openVideo, type ReadOptions, type RgbFrame } from "../../src/io/video/read.ts";
import { VideoReader } from "../../src/io/video/reader.ts";
import { resample } from "../../src/io/video/resample.ts";
import { VideoWriter } from "../../src/io/video/write.ts";
import { displayMatrices, makeFilm, makeSound, temporaryFolder } from "../support/film.ts";

const folder = temporaryFolder();
const at = (name: string) => join(folder, name);

async function read(path: string, options: ReadOptions = {}): Promise<RgbFrame[]> {
  const frames: RgbFrame[] = [];
  for await (const frame of openVideo(path, options)) frames.push(frame);
  return frames;
}

function pixel(frame: RgbFrame, x: number, y: number): number[] {
  const at = (y * frame.width + x) * 3;
  return [...frame.data.subarray(at, at + 3)];
}

function near(actual: readonly number[], wanted: readonly number[], tolerance: number) {
  for (const [i, value] of wanted.entries())
    expect(Math.abs(actual[i]! - value), `${actual} against ${wanted}`).toBeLessThanOrEqual(tolerance);
}

/** A film whose frame i shows its own number: tens as the grey of its left half, ones of its right. */
async function countingFilm(path: string, frames: number, fps: number) {
  await using writer = await VideoWriter.create(path, { width: 64, height: 48, fps, crf: 4 });
  for (let i = 0; i < frames; i++) {
    const picture = new Uint8Array(64 * 48 * 3).fill(30 + 20 * Math.floor(i / 10));
    for (let y = 0; y < 48; y++) picture.fill(30 + 20 * (i % 10), (y * 64 + 32) * 3, (y + 1) * 64 * 3);
    await writer.write(picture);
  }
  await writer.finish();
}
const numberOf = (frame: RgbFrame) => {
  const [tens, ones] = [8, 56].map((x) => Math.round((pixel(frame, x, 24)[1]! - 30) / 20));
  return tens! * 10 + ones!;
};

describe("VideoWriter and openVideo", () => {
  it("give back what was written, with rate, matrix and metadata in the file", async () => {
    for (const matrix of ["bt601", "bt709"] as const) {
      const path = at(`round "${matrix}" ü\n'.mp4`);
      await using writer = await VideoWriter.create(path, {
        width: 64,
        height: 48,
        fps: 24000 / 1001,
        crf: 2,
        matrix,
        metadata: { comment: "seed=1; é", kinora_run: '{"a":1}' },
      });
      const picture = new Uint8Array(64 * 48 * 3);
      for (let i = 0; i < 64 * 48; i++) picture.set([210, 60, 30], i * 3);
      for (let i = 0; i < 10; i++) await writer.write(picture);
      expect((await writer.finish()).frames).toBe(10);
      const { video, metadata, duration } = await probe(path);
      expect(video!.fps).toBeCloseTo(23.976, 3);
      expect(duration).toBeCloseTo(10 / 23.976, 3);
      expect(video!.color).toEqual({ matrix, range: "limited", transfer: "sdr", assumed: false });
      expect(metadata).toMatchObject({ comment: "seed=1; é", kinora_run: '{"a":1}' });
      const frames = await read(path);
      expect(frames).toHaveLength(10);
      for (const frame of frames) near(pixel(frame, 30, 20), [210, 60, 30], 2);
    }
  });

  it("puts the index first, gives equal bytes for equal input, and leaves nothing where it did not finish", async () => {
    await countingFilm(at("one.mp4"), 12, 16);
    await countingFilm(at("two.mp4"), 12, 16);
    const bytes = readFileSync(at("one.mp4"));
    expect(bytes.equals(readFileSync(at("two.mp4")))).toBe(true);
    expect(bytes.indexOf("moov")).toBeLessThan(bytes.indexOf("mdat"));
    {
      await using writer = await VideoWriter.create(at("never.mp4"), { width: 64, height: 48, fps: 16 });
      await writer.write(new Uint8Array(64 * 48 * 3));
    }
    expect(readdirSync(folder).filter((name) => name.includes("never") || name.includes("partial"))).toEqual([]);
  });

  it("refuses odd sides and frames of the wrong length", async () => {
    await expect(VideoWriter.create(at("odd.mp4"), { width: 63, height: 48, fps: 16 })).rejects.toMatchObject({
      code: "video.bad-size",
    });
    await using writer = await VideoWriter.create(at("short.mp4"), { width: 64, height: 48, fps: 16 });
    await expect(writer.write(new Uint8Array(5))).rejects.toMatchObject({ code: "video.bad-frame" });
    await expect(VideoWriter.create(at("no/such/x.mp4"), { width: 64, height: 48, fps: 16 })).rejects.toMatchObject({
      code: "io.not-found",
    });
  });
});

describe("times", () => {
  it("comes back to the first frame where a container has no index", async () => {
    for (const [name, encoder] of [
      ["no-index.ts", "mpeg2video"],
      ["no-index.mpg", "mpeg2video"],
      ["h264.ts", "libx264"],
    ] as const) {
      await makeFilm(at(name), { graph: "testsrc2=s=64x48:r=25:d=2,format=yuv420p", encoder });
      await using reader = await VideoReader.open(at(name));
      (await reader.glimpse(1))?.free();
      for (const start of [0, 0.02, 0.2, 1.9]) {
        const times: number[] = [];
        for await (const { time } of reader.frames({ start })) times.push(time);
        expect(times[0]!, `${name} from ${start}`).toBeCloseTo(Math.floor(start * 25 + 1e-6) / 25, 3);
        expect(times.length, `${name} from ${start}`).toBe(50 - Math.floor(start * 25 + 1e-6));
      }
    }
  });

  it("reads exactly the frames of a range, wherever the key frames are", async () => {
    await countingFilm(at("count.mp4"), 90, 30);
    const all = await read(at("count.mp4"));
    expect(all.map(numberOf)).toEqual(Array.from({ length: 90 }, (_, i) => i));
    for (const [start, end, first, last] of [
      [0, 1, 0, 29],
      [1.5, 2, 45, 59],
      [2.51, 9, 75, 89],
    ] as const) {
      const numbers = (await read(at("count.mp4"), { start, end })).map(numberOf);
      expect(numbers[0]).toBe(first);
      expect(numbers.at(-1)).toBe(last);
      expect(numbers).toHaveLength(last - first + 1);
    }
    await using reader = await VideoReader.open(at("count.mp4"));
    for (const start of [2, 0, 1]) {
      for await (const { time } of reader.frames({ start })) {
        expect(time).toBeCloseTo(start, 6);
        break;
      }
    }
  });

  it("resamples by timestamps: 30 to 16, 8 to 16, and 16 to 16 untouched", async () => {
    const slots = (await read(at("count.mp4"), { fps: 16 })).map(numberOf);
    // The frame on screen in the middle of the slot.
    expect(slots).toEqual(Array.from({ length: 48 }, (_, k) => Math.floor(((k + 0.5) / 16) * 30 + 1e-9)));
    await countingFilm(at("slow.mp4"), 8, 8);
    expect((await read(at("slow.mp4"), { fps: 16 })).map(numberOf)).toEqual([
      0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7,
    ]);
    await countingFilm(at("same.mp4"), 20, 16);
    expect((await read(at("same.mp4"), { fps: 16 })).map(numberOf)).toEqual(Array.from({ length: 20 }, (_, i) => i));
  });

  it("resamples a film with a variable frame rate by its timestamps", async () => {
    // Frames 0–19 at 40 ms, then 20–29 at 100 ms: 0.8 s and 1 s.
    const path = at("vfr.mkv");
    await makeFilm(path, {
      graph:
        "color=gray:s=64x48:r=25:d=1.2,format=yuv420p,geq=lum='60+4*N':cb=128:cr=128,settb=1/1000,setpts='if(lt(N,20),N*40,800+(N-20)*100)'",
      encoderOptions: { crf: "4", bf: "0" },
    });
    const frames = await read(path, { fps: 16 });
    const numbers = frames.map((frame) => Math.abs(Math.round(((pixel(frame, 5, 5)[1]! * 219) / 255 + 16 - 60) / 4)));
    const expected = Array.from({ length: frames.length }, (_, k) => {
      const t = ((k + 0.5) / 16) * 1000;
      return t < 800 ? Math.floor(t / 40) : Math.min(29, 20 + Math.floor((t - 800) / 100));
    });
    expect(frames.length).toBeGreaterThanOrEqual(27);
    expect(numbers).toEqual(expected);
  });

  it("keeps every slot within half a slot of its source frame, for any timestamps (property)", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.double({ min: 0.001, max: 0.4, noNaN: true }), { minLength: 1, maxLength: 40 }),
        fc.constantFrom(8, 16, 24),
        async (steps, fps) => {
          const items: { time: number; duration: number; held: number }[] = [];
          let time = 0;
          for (const step of steps) {
            items.push({ time, duration: step, held: 0 });
            time += step;
          }
          let kept = 0;
          const keep = (item: (typeof items)[number]) => {
            kept++;
            return item;
          };
          const slots: number[] = [];
          const from = (async function* () {
            yield* items;
          })();
          const options = { fps, keep, drop: () => void kept-- };
          for await (const { slot, item } of resample(from, options)) {
            slots.push(slot);
            const middle = (slot + 0.5) / fps;
            expect(item.time).toBeLessThanOrEqual(middle);
            const next = items[items.indexOf(item) + 1];
            expect(next === undefined || next.time > middle).toBe(true);
          }
          expect(kept).toBe(0);
          expect(slots).toEqual(slots.map((_, k) => k));
          expect(Math.abs(slots.length - time * fps)).toBeLessThanOrEqual(0.5 + 1e-6);
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe("colour", () => {
  // AVCOL_SPC: 1 BT.709, 6 SMPTE 170M; AVCOL_RANGE: 1 limited, 2 full.
  it.each([
    ["bt709", "limited", 1, 1],
    ["bt709", "full", 1, 2],
    ["smpte170m", "limited", 6, 1],
    ["smpte170m", "full", 6, 2],
  ] as const)("%s %s comes out as the RGB that went in", async (matrix, range, space, rangeTag) => {
    for (const rgb of [
      [220, 40, 60],
      [30, 180, 70],
      [250, 250, 250],
    ]) {
      const hex = rgb.map((value) => value.toString(16).padStart(2, "0")).join("");
      const path = at(`${matrix}-${range}-${hex}.mkv`);
      await makeFilm(path, {
        graph: `color=0x${hex}:s=64x48:r=10:d=0.3,format=gbrp,scale=out_color_matrix=${matrix}:out_range=${range}:flags=accurate_rnd,format=yuv420p`,
        color: { space, range: rangeTag },
        encoderOptions: { crf: "2" },
      });
      const [frame] = await read(path);
      near(pixel(frame!, 20, 20), rgb, 3);
    }
  });

  it("tone-maps PQ and HLG to a picture in range that keeps order, grey grey and red red", async () => {
    for (const [name, trc, transfer] of [
      ["pq", 16, "smpte2084"],
      ["hlg", 18, "arib-std-b67"],
    ] as const) {
      const path = at(`hdr-${name}.mkv`);
      // Grey bars from black to SDR white, and a red one, carried into BT.2020 as an HDR camera would.
      await makeFilm(path, {
        graph:
          "color=black:s=256x64:r=10:d=0.3,format=gbrp,geq=r='if(gte(X,192),200,X*1.2)':g='if(gte(X,192),20,X*1.2)':b='if(gte(X,192),20,X*1.2)'," +
          `zscale=tin=709:pin=709:min=gbr:rin=full:t=linear:p=2020:m=gbr:npl=203,format=gbrpf32le,zscale=p=2020:t=${transfer}:m=2020_ncl:r=limited:npl=203,format=yuv420p10le`,
        encoder: "libx265",
        encoderOptions: { crf: "8", preset: "ultrafast", "x265-params": "log-level=none" },
        color: { space: 9, range: 1, trc, primaries: 9 },
      });
      const info = await probe(path);
      expect(info.video!.color).toMatchObject({ matrix: "bt2020", transfer: name });
      const [frame] = await read(path);
      const greys = [10, 60, 110, 160].map((x) => pixel(frame!, x, 32));
      for (const [r, g, b] of greys) near([r!, b!], [g!, g!], 8);
      for (let i = 1; i < greys.length; i++) expect(greys[i]![1]).toBeGreaterThan(greys[i - 1]![1]! + 15);
      const [r, g, b] = pixel(frame!, 230, 32);
      expect(r! - Math.max(g!, b!)).toBeGreaterThan(80);
    }
  });
});

describe("geometry", () => {
  const graph =
    "color=black:s=64x48:r=10:d=0.3,format=gbrp,geq=r='if(lt(X,32),250,0)':g='if(lt(Y,24),250,0)':b=0,format=yuv420p";

  it.each([
    ["clockwise", 48, 64, (x: number, y: number) => [y, 47 - x]],
    ["half", 64, 48, (x: number, y: number) => [63 - x, 47 - y]],
    ["counterclockwise", 48, 64, (x: number, y: number) => [63 - y, x]],
  ] as const)("turns a film that is stored to be shown turned %s", async (turn, width, height, stored) => {
    const path = at(`turn-${turn}.mp4`);
    await makeFilm(path, { graph, displayMatrix: displayMatrices[turn] });
    const info = await probe(path);
    expect([info.video!.width, info.video!.height]).toEqual([width, height]);
    const [frame] = await read(path);
    expect([frame!.width, frame!.height]).toEqual([width, height]);
    for (const [x, y] of [
      [8, 8],
      [width - 8, 8],
      [8, height - 8],
      [width - 8, height - 8],
    ] as const) {
      const [sx, sy] = stored(x, y);
      near(pixel(frame!, x, y), [sx! < 32 ? 250 : 0, sy! < 24 ? 250 : 0, 0], 12);
    }
    // A crop is in the picture as shown.
    const [corner] = await read(path, { crop: { x: width / 2, y: 0, width: width / 2, height: height / 2 } });
    near(pixel(corner!, 4, 4), pixel(frame!, width - 8, 8), 12);
  });

  it("makes pixels square", async () => {
    const path = at("anamorphic.mkv");
    await makeFilm(path, { graph: "testsrc2=s=720x576:r=10:d=0.2,setsar=16/11,format=yuv420p" });
    const [frame] = await read(path);
    expect([frame!.width, frame!.height]).toEqual([1047, 576]);
  });

  it("removes interlacing", async () => {
    const path = at("interlaced.mkv");
    // A bar that moves 8 pixels a field leaves combs on its edges unless deinterlaced.
    await makeFilm(path, {
      graph:
        "color=black:s=192x144:r=50:d=0.6,format=yuv420p,geq=lum='if(lt(mod(X+8*N,96),48),200,30)':cb=128:cr=128,tinterlace=interleave_top,setfield=tff",
      encoderOptions: { flags: "+ildct+ilme", "x264-params": "tff=1" },
    });
    expect((await probe(path)).video!.interlaced).toBe(true);
    const combs = (frame: RgbFrame) => {
      let sum = 0;
      for (let y = 40; y < 100; y++)
        for (let x = 8; x < 184; x++) {
          const [above, here, below] = [y - 1, y, y + 1].map((row) => pixel(frame, x, row)[1]!);
          sum += Math.max(0, Math.abs(2 * here! - above! - below!) - 60);
        }
      return sum;
    };
    const raw = await read(path, { deinterlace: false });
    const clean = await read(path);
    expect(clean).toHaveLength(raw.length);
    expect(combs(raw[5]!)).toBeGreaterThan(20_000);
    expect(combs(clean[5]!)).toBeLessThan(combs(raw[5]!) / 10);
  });
});

describe("bad input", () => {
  it("names what is wrong with files that cannot be read", async () => {
    writeFileSync(at("text.mp4"), "this is no film\n".repeat(100));
    writeFileSync(at("empty.mp4"), "");
    await makeSound(at("sound.m4a"));
    await countingFilm(at("whole.mp4"), 30, 16);
    await makeFilm(at("tail.mp4"), { graph: "testsrc2=s=64x48:r=10:d=2,format=yuv420p" });
    truncateSync(at("tail.mp4"), Math.floor(readFileSync(at("tail.mp4")).length * 0.6));
    await makeFilm(at("none.mkv"), { graph: "testsrc2=s=64x48:r=10:d=0.1,trim=start=5,format=yuv420p" });
    const code = async (name: string) => {
      try {
        await read(at(name));
        return "none";
      } catch (error) {
        return (error as { code: string }).code;
      }
    };
    expect(await code("text.mp4")).toBe("media.unreadable");
    expect(await code("empty.mp4")).toBe("media.empty");
    expect(await code("sound.m4a")).toBe("media.no-video");
    expect(await code("tail.mp4")).toBe("media.unreadable");
    expect(await code("missing.mp4")).toBe("media.not-found");
    expect(await code(".")).toBe("media.is-folder");
    symlinkSync(at("loop-b"), at("loop-a"));
    symlinkSync(at("loop-a"), at("loop-b"));
    expect(await code("loop-a")).toBe("media.io-error");
  });

  it("reads what is left of a film cut off behind its index, and marks damage in the middle", async () => {
    const path = at("cut.mp4");
    await makeFilm(path, {
      graph: "testsrc2=s=320x240:r=20:d=6,format=yuv420p",
      encoderOptions: { g: "20", "x264-params": "scenecut=0" },
      muxerOptions: { movflags: "+faststart" },
    });
    const whole = await read(path);
    expect(whole).toHaveLength(120);
    copyFileSync(path, at("damaged.mp4"));
    truncateSync(path, Math.floor(readFileSync(path).length * 0.5));
    const left = await read(path);
    expect(left.length).toBeGreaterThan(30);
    expect(left.length).toBeLessThan(80);

    const bytes = readFileSync(at("damaged.mp4"));
    const middle = Math.floor(bytes.length * 0.5);
    for (let i = 0; i < 3000; i++) bytes[middle + i] = (i * 7919) & 255;
    writeFileSync(at("damaged.mp4"), bytes);
    const damaged = await read(at("damaged.mp4"));
    const marked = damaged.filter((frame) => frame.corrupt);
    expect(marked.length).toBeGreaterThan(0);
    expect(marked.length).toBeLessThan(60);
    // Every frame that looks other than it should is marked.
    const byTime = new Map(whole.map((frame) => [frame.time.toFixed(3), frame]));
    let wrong = 0;
    for (const frame of damaged) {
      const good = byTime.get(frame.time.toFixed(3))!;
      let difference = 0;
      for (let i = 0; i < frame.data.length; i++) difference += Math.abs(frame.data[i]! - good.data[i]!);
      if (difference / frame.data.length < 1) continue;
      wrong++;
      expect(frame.corrupt, `frame at ${frame.time}`).toBe(true);
    }
    expect(wrong).toBeGreaterThan(0);
  });
});

const shared = new URL("../../../shared/media/", import.meta.url).pathname;
describe.skipIf(!existsSync(shared))("real films (../shared/media)", () => {
  it("gives the frames their headers promise", async () => {
    for (const name of readdirSync(shared).filter((entry) => entry.endsWith(".mp4"))) {
      const { video } = await probe(join(shared, name));
      let count = 0;
      for await (const frame of openVideo(join(shared, name), { width: 64, height: 48, scaler: "area" })) {
        expect(frame.corrupt).toBe(false);
        count++;
      }
      expect(count, name).toBe(video!.frameCount);
    }
  });
});
