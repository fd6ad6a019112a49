// Scene detection: finds hard cuts, fades, dissolves and blank stretches to the frame, and nothing where there are none.
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { flowBetween, speedOf } from "../../src/dataset/prepare/flow.ts";
import { SceneDetector, type SceneFrame } from "../../src/dataset/prepare/scenes.ts";
import { type SmallPicture, smallPicture, smallSize, toneOf } from "../../src/dataset/prepare/small.ts";
import { packed, readNative } from "../../src/io/video/read.ts";
import { VideoReader } from "../../src/io/video/reader.ts";
import { makeFilm, temporaryFolder } from "../support/film.ts";

const folder = temporaryFolder();
const fps = 16;

const { width, height } = smallSize(16, 9);

/** Smooth random texture, another for every seed, moved by (dx, dy): luma of a small picture. */
function texture(seed: number, dx = 0, dy = 0): Float64Array {
  const luma = new Float64Array(width * height).fill(90 + ((seed * 37) % 70));
  for (let wave = 0; wave < 14; wave++) {
    const random = (k: number) => {
      const value = Math.sin(seed * 127.1 + wave * 311.7 + k * 74.7) * 43758.5453;
      return value - Math.floor(value);
    };
    const [fx, fy, phase, high] = [
      (random(1) - 0.5) * 0.9,
      (random(2) - 0.5) * 0.9,
      random(3) * 6.3,
      6 + 14 * random(4),
    ];
    // sin(a + b) from tables, one for each side.
    const columns = Array.from({ length: width }, (_, x) => fx * (x + dx) + phase);
    const [sines, cosines] = [columns.map(Math.sin), columns.map(Math.cos)];
    for (let y = 0; y < height; y++) {
      const [sine, cosine] = [high * Math.sin(fy * (y + dy)), high * Math.cos(fy * (y + dy))];
      for (let x = 0; x < width; x++) luma[y * width + x]! += sines[x]! * cosine + cosines[x]! * sine;
    }
  }
  return luma;
}

function pictureOf(luma: ArrayLike<number>, change = (value: number, _x: number, _y: number) => value): SmallPicture {
  const all = new Uint8Array((width * height * 3) / 2).fill(128);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      all[y * width + x] = Math.max(16, Math.min(235, Math.round(change(luma[y * width + x]!, x, y))));
  return smallPicture(all, width, height);
}

const plain = new Float64Array(width * height);

/** Where scenes begin and which frames belong to none, by frame number. */
function decide(pictures: readonly SmallPicture[], settings = { detect: true, cut: 11, fade: 20 }) {
  const detector = new SceneDetector<SceneFrame & { index: number }>(settings, fps);
  const begins: number[] = [];
  const between: number[] = [];
  const order: number[] = [];
  let before: SmallPicture | undefined;
  const take = (decided: Iterable<{ frame: { index: number }; decision: { kind: string; begins?: boolean } }>) => {
    for (const { frame, decision } of decided) {
      order.push(frame.index);
      if (decision.kind === "between") between.push(frame.index);
      else if (decision.begins) begins.push(frame.index);
    }
  };
  for (const [index, small] of pictures.entries()) {
    const flow = before && flowBetween(before, small);
    take(detector.push({ small, tone: toneOf(small), flow, corrupt: false, index }));
    before = small;
  }
  take(detector.finish());
  expect(order).toEqual(pictures.map((_, i) => i));
  return { begins, between };
}

const pan = (seed: number, speed: number, count: number) =>
  Array.from({ length: count }, (_, t) => pictureOf(texture(seed, speed * t)));

/** `share` of a and the rest of b. */
function mix(a: SmallPicture, b: SmallPicture, share: number): SmallPicture {
  return pictureOf(a.y, (value, x, y) => share * value + (1 - share) * b.y[y * width + x]!);
}

describe("hard cuts", () => {
  it("are found to the frame", () => {
    const { begins, between } = decide([...pan(1, 0.5, 20), ...pan(2, -1, 13), ...pan(3, 0, 25), ...pan(4, 2, 20)]);
    expect(begins).toEqual([0, 20, 33, 58]);
    expect(between).toEqual([]);
  });

  it("are not seen in pans, jolts of the camera, flicker or things passing by", () => {
    expect(decide(pan(5, 6, 50)).begins).toEqual([0]);
    const shaky = Array.from({ length: 40 }, (_, t) =>
      pictureOf(texture(6, 5 * Math.sin(t * 2.1), 4 * Math.cos(t * 1.7))),
    );
    expect(decide(shaky).begins).toEqual([0]);
    const flicker = Array.from({ length: 40 }, (_, t) => pictureOf(texture(7), (value) => value + 22 * (t % 2)));
    expect(decide(flicker).begins).toEqual([0]);
    const passing = Array.from({ length: 40 }, (_, t) =>
      pictureOf(texture(8), (value, x) => (Math.abs(x - 5 * t + 20) < 20 ? 210 : value)),
    );
    expect(decide(passing)).toEqual({ begins: [0], between: [] });
  });

  it("are not looked for where that is switched off", () => {
    expect(decide([...pan(1, 0, 20), ...pan(2, 0, 20)], { detect: false, cut: 11, fade: 20 }).begins).toEqual([0]);
  });
});

describe("soft transitions", () => {
  const a = pan(11, 0.3, 40);
  const b = pan(12, -0.3, 40);
  const black = pictureOf(plain);

  it("are left out: a fade through black", () => {
    const out = a.slice(20, 36).map((frame, t) => mix(frame, black, 1 - (t + 1) / 16));
    const back = b.slice(0, 12).map((frame, t) => mix(frame, black, (t + 1) / 12));
    const { begins, between } = decide([...a.slice(0, 20), ...out, black, black, black, ...back, ...b.slice(12)]);
    expect(begins).toHaveLength(2);
    // The middle of the fades and all of the black is in no scene; nothing far from it is missing.
    for (let i = 24; i <= 46; i++) expect(between, `frame ${i}`).toContain(i);
    expect(Math.min(...between)).toBeGreaterThan(14);
    expect(Math.max(...between)).toBeLessThan(58);
  });

  it("are left out: a dissolve from one picture to another", () => {
    const during = Array.from({ length: 14 }, (_, t) => mix(a[20 + t]!, b[t]!, 1 - (t + 1) / 15));
    const { begins, between } = decide([...a.slice(0, 20), ...during, ...b.slice(14)]);
    expect(begins).toHaveLength(2);
    expect(between.length).toBeGreaterThan(6);
    for (const index of between) {
      expect(index).toBeGreaterThan(15);
      expect(index).toBeLessThan(40);
    }
  });

  it("are not seen where a smooth gradient moves", () => {
    const gradient = Array.from({ length: 40 }, (_, t) =>
      pictureOf(plain, (_, x, y) => 126 + 90 * Math.sin((x + 3 * t) / 40) * Math.cos(y / 50)),
    );
    expect(decide(gradient)).toEqual({ begins: [0], between: [] });
  });

  it("leave slow changes of light to the brightness measure", () => {
    const slow = Array.from({ length: 64 }, (_, t) =>
      pictureOf(texture(13), (value) => value * (0.6 + 0.4 * (t / 64))),
    );
    expect(decide(slow)).toEqual({ begins: [0], between: [] });
  });
});

describe("flow", () => {
  it("measures a pan's speed, and none in noise or changing light", () => {
    for (const speed of [0.5, 1, 3, 8]) {
      const [first, second] = pan(21, speed, 2);
      const flow = flowBetween(first!, second!);
      expect(speedOf(flow) * width).toBeGreaterThan(speed * 0.6);
      expect(speedOf(flow) * width).toBeLessThan(speed * 1.4 + 0.3);
      // The texture of the next frame has moved to the left.
      expect(flow.globalX).toBeLessThan(-0.6 * speed);
      expect(flow.globalX).toBeGreaterThan(-1.4 * speed - 0.3);
      expect(Math.abs(flow.globalY)).toBeLessThan(0.5 + speed / 10);
    }
    const still = pan(22, 0, 1)[0]!;
    let seed = 1;
    const noisy = pictureOf(still.y, (value) => {
      seed = (seed * 16807) % 2147483647;
      return value + ((seed % 5) - 2) * 0.5;
    });
    expect(speedOf(flowBetween(still, noisy)) * width).toBeLessThan(0.05);
    const lighter = pictureOf(still.y, (value) => value + 15);
    expect(speedOf(flowBetween(still, lighter)) * width).toBeLessThan(0.05);
  });
});

describe("a decoded film", () => {
  it("is cut where its parts were joined", async () => {
    const path = join(folder, "parts.mp4");
    const parts = [
      "testsrc2=s=320x180:r=16:d=2",
      "mandelbrot=s=320x180:r=16,trim=end=2",
      "gradients=s=320x180:r=16:d=2:n=6:seed=9:speed=0.02",
    ];
    const joined = parts.map((part, i) => `${part},format=yuv420p,setsar=1[p${i}]`).join(";");
    await makeFilm(path, { graph: `${joined};[p0][p1][p2]concat=n=3,settb=1/16,setpts=N` });
    await using reader = await VideoReader.open(path);
    const pictures: SmallPicture[] = [];
    for await (const { frame } of readNative(reader, { fps, width, height, format: "yuv420p", scaler: "area" }))
      pictures.push(smallPicture(packed(frame), width, height));
    expect(pictures).toHaveLength(96);
    expect(decide(pictures)).toEqual({ begins: [0, 32, 64], between: [] });
  });
});
