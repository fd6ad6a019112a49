// Every measure catches its own fault in a generated clip and leaves clean ones.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { measureNames } from "../../src/protocol/prepare-config.ts";
import { cleanClips, type Fault, faultyClip } from "../support/clips.ts";
import { temporaryFolder } from "../support/film.ts";
import { type Prepared, prepare } from "../support/prepared.ts";

const folder = temporaryFolder();

/** The reason each fault must be dropped for. */
const caught: Partial<Record<Fault, string>> = {
  blurred: "sharpness-low",
  "motion-blurred": "motion-blur-high",
  shaking: "shake-high",
  still: "motion-low",
  racing: "motion-high",
  dark: "brightness-low",
  ramping: "brightness-change-high",
  flickering: "flicker-high",
  noisy: "noise-high",
  watermarked: "overlay-high",
  blocky: "blockiness-high",
  small: "resolution-low",
  banded: "banding-high",
  woven: "combing-high",
  stuttering: "repeats-high",
  blended: "ghosting-high",
  jumping: "jumps-high",
  "color-noisy": "color-noise-high",
  faint: "contrast-low",
  blown: "clipping-high",
  compressed: "quantizer-high",
};

/** What is told of a clip that is kept all the same: it may be meant. */
const told: Partial<Record<Fault, string>> = { tinted: "color-cast-high", grey: "saturation-low" };

describe("clips with one fault", () => {
  let set: Prepared;
  beforeAll(async () => {
    const clean = await cleanClips(folder);
    const faults = [...Object.keys(caught), ...Object.keys(told), "letterboxed", "pillarboxed"] as Fault[];
    const faulty: string[] = [];
    for (const fault of faults) faulty.push(await faultyClip(folder, fault));
    set = await prepare([...clean, ...faulty], join(folder, "set"), {
      model: "t2v-A14B",
      resolution: [480, 272],
      clips: { shortest: 1 },
      // All are made from one clip.
      duplicates: { detect: false },
      video: { preset: "ultrafast" },
    });
  });

  it.each(Object.entries(caught))("%s is dropped for %s", (fault, code) => {
    const item = set.items.get(fault)!;
    expect(item.verdict).toBe("drop");
    expect(item.reasons.map((reason) => reason.code)).toContain(code);
    // A reason tells the measured number and the limit.
    const { message } = item.reasons.find((reason) => reason.code === code)!;
    expect(message).toMatch(/-?[\d.]+, at (least|most) [\d.]+ \(/);
    expect(item.file).toBeUndefined();
  });

  it.each(Object.entries(told))("%s is told %s and kept", (fault, code) => {
    const item = set.items.get(fault)!;
    expect(item.verdict).toBe("keep");
    expect(item.findings!.map((finding) => finding.code)).toContain(code);
  });

  it("faults are not confused: only shaking and racing pictures move too fast, only one clip is noisy, and so on", () => {
    const others = (code: string) =>
      [...set.items.values()].filter((item) => item.reasons.some((reason) => reason.code === code)).map(({ id }) => id);
    expect(others("sharpness-low")).toEqual(["blurred"]);
    expect(others("motion-blur-high")).toEqual(["motion-blurred"]);
    expect(others("shake-high")).toEqual(["shaking"]);
    expect(others("motion-low")).toEqual(["still"]);
    expect(others("motion-high").filter((id) => id !== "shaking")).toEqual(["racing"]);
    expect(others("brightness-low")).toEqual(["dark"]);
    expect(others("brightness-change-high")).toEqual(["ramping"]);
    expect(others("flicker-high")).toEqual(["flickering"]);
    expect(others("noise-high")).toEqual(["noisy"]);
    expect(others("overlay-high")).toEqual(["watermarked"]);
    expect(others("blockiness-high")).toEqual(["blocky"]);
    expect(others("resolution-low")).toEqual(["small"]);
  });

  it.each(["clean", "gradients", "pan", "one-thing"])("the clean clip %s is kept", (name) => {
    const item = set.items.get(name)!;
    expect(item.reasons).toEqual([]);
    expect(item.frames).toBe(48);
    expect(existsSync(join(folder, "set", item.file!))).toBe(true);
    for (const measure of measureNames) expect(item.measures[measure], measure).toBeDefined();
  });

  it("black bars are cropped away and cost nothing else", () => {
    const letterboxed = set.items.get("letterboxed")!;
    expect(letterboxed.verdict).toBe("keep");
    expect(letterboxed.content).toEqual({ x: 0, y: 52, width: 640, height: 264 });
    expect(letterboxed.size!.width / letterboxed.size!.height).toBeGreaterThan(2.2);
    const pillarboxed = set.items.get("pillarboxed")!;
    expect(pillarboxed.content).toEqual({ x: 218, y: 0, width: 204, height: 368 });
    // Not enlarged: smaller than its target, it keeps its own size.
    expect(pillarboxed.size).toEqual({ width: 192, height: 368 });
  });
});

describe("limits", () => {
  it("of the user decide, and false only measures", async () => {
    const blurred = await faultyClip(folder, "blurred");
    const config = {
      model: "t2v-A14B" as const,
      resolution: [480, 272] as [number, number],
      clips: { shortest: 1 },
      video: { preset: "ultrafast" as const },
    };
    const lax = await prepare([blurred], join(folder, "lax"), { ...config, quality: { sharpness: false } });
    expect(lax.items.get("blurred")!.verdict).toBe("keep");
    expect(lax.items.get("blurred")!.measures.sharpness).toMatchObject({ verdict: "pass" });
    expect(lax.items.get("blurred")!.measures.sharpness!.min).toBeUndefined();
    const clean = join(folder, "clean.mkv");
    const strict = await prepare([clean], join(folder, "strict"), { ...config, quality: { sharpness: { min: 0.95 } } });
    expect(strict.items.get("clean")!.reasons.map((reason) => reason.code)).toEqual(["sharpness-low"]);
  });
});

const shared = new URL("../../../shared/media/", import.meta.url).pathname;
describe.skipIf(!existsSync(shared))("real films and pictures (../shared/media)", () => {
  it("pass, one clip each, except the black pose skeleton", async () => {
    const { manifest, items } = await prepare([shared], join(folder, "real"), {
      model: "t2v-A14B",
      resolution: [416, 240],
      video: { preset: "ultrafast" },
    });
    expect(manifest.items).toHaveLength(9);
    const dropped = manifest.items.filter((item) => item.verdict === "drop").map(({ id }) => id);
    expect(dropped).toEqual(["dance-skeleton"]);
    // 16 frames a second from 30: by timestamps.
    expect(items.get("motorcycle-4k")).toMatchObject({ in: 0, out: 4, frames: 64 });
    // A film that already has the rate keeps every frame.
    expect(items.get("press-clay")).toMatchObject({ frames: 114 });
    expect(items.get("press-clay")!.caption).toContain("press-clay.txt");
  });
});
