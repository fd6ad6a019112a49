// Frame windows: against the diagrams of musubi's documentation, lists derived from its rules, and a digest of its answers.
import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type Extraction,
  extractions,
  type FrameRules,
  floorFrames,
  frameWindows,
  keptFrames,
  targetFrames,
  uniformStarts,
} from "../../src/dataset/frames.ts";

const rules = (extraction: Extraction, lengths: number[], more: Partial<FrameRules> = {}): FrameRules => ({
  extraction,
  lengths,
  stride: 1,
  sample: 1,
  maxFrames: 129,
  ...more,
});
const windows = (count: number, from: FrameRules) =>
  frameWindows(count, from).windows.map(({ first, frames }) => `${first}+${frames}`);

describe("lengths", () => {
  it("are floored to 4n+1", () => {
    expect([1, 2, 4, 5, 8, 9, 80, 81, 82].map(floorFrames)).toEqual([1, 1, 1, 5, 5, 9, 77, 81, 81]);
  });

  it("are made distinct and ascending, with a word for each that changed", () => {
    expect(targetFrames([45, 1, 24, 22, 45])).toEqual({
      lengths: [1, 21, 45],
      floored: [
        { from: 22, to: 21 },
        { from: 24, to: 21 },
      ],
    });
    expect(targetFrames([81, 1, 21]).floored).toEqual([]);
  });
});

// The pictures of "frame_extraction Options" in musubi's docs/dataset_config.md, all of a clip of 40 frames.
describe("the documentation's clip of 40 frames", () => {
  it("head [1, 13, 25]", () => {
    expect(windows(40, rules("head", [1, 13, 25]))).toEqual(["0+1", "0+13", "0+25"]);
  });

  it("chunk [13, 25]: three pieces of 13, one of 25, the rest dropped", () => {
    expect(windows(40, rules("chunk", [13, 25]))).toEqual(["0+13", "13+13", "26+13", "0+25"]);
  });

  it("slide [1, 13, 25] with a stride of 10", () => {
    // Starts 0, 10, 20 … up to 40 − N: 39, 27 and 15.
    expect(windows(40, rules("slide", [1, 13, 25], { stride: 10 }))).toEqual([
      ...["0+1", "10+1", "20+1", "30+1"],
      ...["0+13", "10+13", "20+13"],
      ...["0+25", "10+25"],
    ]);
  });

  it("uniform [1, 13, 25] with 4 samples", () => {
    // From 0 to 40 − N in three equal steps, floored: 39/3 = 13; 27/3 = 9; 15/3 = 5.
    expect(windows(40, rules("uniform", [1, 13, 25], { sample: 4 }))).toEqual([
      ...["0+1", "13+1", "26+1", "39+1"],
      ...["0+13", "9+13", "18+13", "27+13"],
      ...["0+25", "5+25", "10+25", "15+25"],
    ]);
  });

  it("full with max_frames 31, clips of 20, 25 and 35", () => {
    const of = (count: number) => windows(count, rules("full", [], { maxFrames: 31 }));
    // The documentation's third picture shows 31 frames; its text and its code floor them to 29.
    expect([of(20), of(25), of(35)]).toEqual([["0+17"], ["0+25"], ["0+29"]]);
  });
});

describe("clips that do not fit", () => {
  it("give nothing for a length they do not reach, and say so", () => {
    const found = frameWindows(44, rules("uniform", [21, 45], { sample: 2 }));
    expect(found.windows).toEqual([
      { first: 0, frames: 21 },
      { first: 23, frames: 21 },
    ]);
    expect(found.tooShort).toEqual([45]);
  });

  it("of exactly the length give one item, however many windows are asked: they would share a cache file", () => {
    const found = frameWindows(45, rules("uniform", [45], { sample: 2 }));
    expect(found.windows).toEqual([{ first: 0, frames: 45 }]);
    expect(found.merged).toEqual([{ frames: 45, asked: 2, kept: 1 }]);
    // 47 frames, 4 windows: ⌊0⌋, ⌊2/3⌋, ⌊4/3⌋, 2 → 0, 0, 1, 2.
    expect(frameWindows(47, rules("uniform", [45], { sample: 4 })).merged).toEqual([{ frames: 45, asked: 4, kept: 3 }]);
  });

  it("full takes any clip that has a frame", () => {
    expect(windows(1, rules("full", []))).toEqual(["0+1"]);
    expect(windows(3, rules("full", []))).toEqual(["0+1"]);
    expect(windows(0, rules("full", []))).toEqual([]);
  });
});

describe("all ways", () => {
  it("stay inside the clip, in 4n+1 lengths, without doubles", () => {
    const length = fc.integer({ min: 0, max: 40 }).map((n) => 4 * n + 1);
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 400 }),
        fc.constantFrom(...extractions),
        fc.uniqueArray(length, { minLength: 1, maxLength: 3 }),
        fc.record({
          stride: fc.integer({ min: 1, max: 50 }),
          sample: fc.integer({ min: 1, max: 12 }),
          maxFrames: fc.integer({ min: 1, max: 200 }),
        }),
        (count, extraction, lengths, more) => {
          const found = frameWindows(count, rules(extraction, lengths, more));
          for (const { first, frames } of found.windows) {
            expect(first >= 0 && first + frames <= count).toBe(true);
            expect(frames % 4).toBe(1);
          }
          expect(new Set(found.windows.map(({ first, frames }) => `${first}+${frames}`)).size).toBe(
            found.windows.length,
          );
          if (extraction !== "full") {
            expect(found.tooShort).toEqual(lengths.filter((frames) => frames > count));
          }
        },
      ),
    );
  });

  it("are musubi's for 15,600 clips and settings", () => {
    // The digest is of the same lines printed by the extraction block of VideoDataset.retrieve_latent_cache_batches at
    // 30c658c, doubles removed as its cache files remove them.
    const ways = [
      ...([
        ["head", 1, 1, 129],
        ["chunk", 1, 1, 129],
        ["slide", 1, 1, 129],
        ["slide", 3, 1, 129],
        ["slide", 10, 1, 129],
      ] as const),
      ...([2, 3, 4, 7, 10, 49] as const).map((sample) => ["uniform", 1, sample, 129] as const),
      ...([
        ["full", 1, 1, 129],
        ["full", 1, 1, 31],
      ] as const),
    ];
    const lines: string[] = [];
    for (let count = 1; count <= 200; count++)
      for (const lengths of [[1], [21], [45], [1, 21], [1, 13, 25], [5, 81]])
        for (const [extraction, stride, sample, maxFrames] of ways) {
          const list = windows(count, rules(extraction, lengths, { stride, sample, maxFrames }));
          lines.push(
            `${count} ${extraction} ${lengths.join(", ")} ${stride} ${sample} ${maxFrames}: ${list.join(" ")}`,
          );
        }
    expect(lines.length).toBe(15_600);
    expect(createHash("sha256").update(lines.join("\n")).digest("hex")).toBe(
      "bfc766069f791c776f5344588194eb086863d51ef4ecbebafc050cbac8307b55",
    );
  });

  it("uniform rounds as numpy does: the product is floored, not the quotient's parts", () => {
    // 49 samples over 0…48 step by exactly 1; over 0…100 in 4: 33.33, 66.67.
    expect(uniformStarts(48, 49)).toEqual(Array.from({ length: 49 }, (_, i) => i));
    expect(uniformStarts(100, 4)).toEqual([0, 33, 66, 100]);
    expect(uniformStarts(0, 3)).toEqual([0, 0, 0]);
    expect(uniformStarts(9, 1)).toEqual([0]);
  });
});

describe("skipping to the model's rate", () => {
  it("keeps the first frame of every new slot", () => {
    // 30 → 16: i·16/30 floored: 0 .53 1.07 1.6 2.13 2.67 3.2 3.73 4.27 → new numbers at i = 0, 2, 4, 6, 8.
    expect(keptFrames(9, 30, 16)).toEqual([0, 2, 4, 6, 8]);
    // 24 → 16: 0 .67 1.33 2 2.67 3.33 → i = 0, 2, 3, 5.
    expect(keptFrames(6, 24, 16)).toEqual([0, 2, 3, 5]);
  });

  it("keeps everything of a source that is as slow as the model, or slower", () => {
    expect(keptFrames(5, 16, 16)).toEqual([0, 1, 2, 3, 4]);
    expect(keptFrames(5, 8, 16)).toEqual([0, 1, 2, 3, 4]);
  });

  it("thins to the ratio of the rates", () => {
    const rate = fc.double({ min: 16, max: 240, noNaN: true });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 500 }), rate, (count, sourceFps) => {
        const kept = keptFrames(count, sourceFps, 16);
        const exact = Math.ceil((count * 16) / sourceFps);
        // The running sum may land on either side of a whole number.
        expect(Math.abs(kept.length - exact)).toBeLessThanOrEqual(1);
        expect(kept[0]).toBe(0);
      }),
    );
  });
});
