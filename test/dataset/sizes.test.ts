// The sizes near a source's shape, and what the command says of them.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { main } from "../../src/cli/main.ts";
import { clipLengths, sizesNear } from "../../src/dataset/sizes.ts";

const text = ({ width, height }: { width: number; height: number }) => `${width}x${height}`;

describe("sizes near a shape", () => {
  it("of 1920×1040 hold its own in steps of 16, no other height twice over", () => {
    // 24:13. Exactly that in steps of 16 are 384×208 and its multiples up to 1920×1040. Below a height of 320, 0.2 % let
    // nothing else through: at 16·k the next width is off by 16 in 24/13·16·k.
    const sizes = sizesNear({ width: 1920, height: 1040 }, { step: 16, tolerance: 0.002, minSide: 64, mostArea: 1e8 });
    const small = sizes.filter(({ height }) => height < 320).map(text);
    expect(small).toEqual(["384x208"]);
    for (const size of ["1920x1040", "1536x832", "1152x624", "768x416"]) expect(sizes.map(text)).toContain(size);
  });

  it("of 1280×720 in steps of 32 within 3 % are the derived ones from 700,000 pixels on", () => {
    // Heights in steps of 32 from 672; the widths within 16/9 · height / 1.03 … · 1.03:
    // 704: 1215.1…1289.1 → 1216, 1248, 1280; 672: 1159.9…1230.5 → 1184 (1160 → 1184), 1216; 640: 1104.6…1171.9 → 1120, 1152.
    const sizes = sizesNear({ width: 1280, height: 720 }, { step: 32, tolerance: 0.03, minSide: 128, mostArea: 1e8 });
    expect(sizes.filter(({ width, height }) => width * height > 700_000).map(text)).toEqual([
      ...["1280x704", "1248x704", "1216x704", "1216x672", "1184x672", "1152x640", "1120x640"],
    ]);
  });

  it("never enlarge, keep the step and the shape", () => {
    const side = fc.integer({ min: 200, max: 4000 });
    fc.assert(
      fc.property(side, side, fc.constantFrom(16, 32), (width, height, step) => {
        for (const size of sizesNear({ width, height }, { step, tolerance: 0.02, minSide: 64, mostArea: 1e8 })) {
          expect([size.width % step, size.height % step]).toEqual([0, 0]);
          expect(size.width <= width && size.height <= height && Math.min(size.width, size.height) >= 64).toBe(true);
          const off = (size.width * height) / (size.height * width);
          expect(off <= 1.02 + 1e-9 && off >= 1 / 1.02 - 1e-9).toBe(true);
        }
      }),
    );
  });

  it("of a source without measure are those of at most the area asked for, at once", () => {
    for (const [width, height] of [
      [1e8, 1e8],
      [1e15, 1e15],
      [1e12, 1e6],
    ] as const)
      for (const size of sizesNear({ width, height }, { step: 16, tolerance: 0.01, minSide: 64, mostArea: 1e6 }))
        expect(size.width * size.height).toBeLessThanOrEqual(1e6);
  });

  it("go with lengths 1, 5, 9 …", () => {
    expect(clipLengths(21)).toEqual([1, 5, 9, 13, 17, 21]);
    expect(clipLengths(24)).toEqual([1, 5, 9, 13, 17, 21]);
  });
});

describe("kinora dataset sizes", () => {
  async function sizes(...words: string[]): Promise<{ code: number; text: string; notes: string }> {
    const said = { text: "", notes: "" };
    const code = await main(["dataset", "sizes", ...words], {
      data: (part) => {
        said.text += part;
      },
      note: (part) => {
        said.notes += part;
      },
      progress: () => {},
    });
    return { code, ...said };
  }

  it("says tokens, cost and memory of each", async () => {
    const words = [
      "--source",
      "1920x1040",
      "--model",
      "t2v-1.3B",
      "--frames",
      "5,45",
      "--max-tokens",
      "3800",
      "--min-side",
      "200",
    ];
    const { code, text } = await sizes(...words, "--json");
    expect(code).toBe(0);
    const data = JSON.parse(text);
    const row = data.sizes.find((size: { width: number; frames: number }) => size.width === 384 && size.frames === 45);
    // 45 frames are 12 latent frames of 48×26 latents, 2×2 a token: 12·24·13.
    expect(row).toMatchObject({ height: 208, tokens: 3744, cropped: 0 });
    expect(row.cards.map((card: { gigabytes: number }) => card.gigabytes)).toEqual([16, 24, 40, 80]);
    expect(row.cards[3].fits).toBe(true);
    // 832×480×81 is the model's usual clip of 32,760 tokens; the step of 3,744 is cheaper than their ratio.
    expect(row.relativeCost).toBeGreaterThan(0);
    expect(row.relativeCost).toBeLessThan(3744 / 32760);
    for (const size of data.sizes) expect(size.tokens).toBeLessThanOrEqual(3800);
    const narrow = JSON.parse((await sizes(...words, "--json", "--dtype", "fp8")).text);
    const light = narrow.sizes.find(
      (size: { width: number; frames: number }) => size.width === 384 && size.frames === 45,
    );
    // 1.3 G parameters in the blocks take a byte less each.
    expect(row.peakBytes - light.peakBytes).toBeGreaterThan(1e9);
    expect(row.peakBytes - light.peakBytes).toBeLessThan(1.5e9);
  });

  it("says it in a list, and in a table of the longest clips, which --summary gives alone", async () => {
    const words = ["--source", "1920x1040", "--model", "tiny-t2v", "--frames", "5,45", "--max-tokens", "3800"];
    const { text } = await sizes(...words);
    expect(text).toMatch(/384x208x45 +0\.0 % +3,744 /);
    // 49 frames would be 13·24·13 = 4,056 tokens: of the two lengths asked for 45 is the longest, on every card here.
    expect(text).toMatch(/\n384x208 +0\.0 % +45 +[\d.]+ +45 +45 +45 +45\n/);
    expect(text).toMatch(/80 GB: the most is /);
    const brief = await sizes(...words, "--summary");
    expect(brief.text).not.toContain("384x208x45 ");
    expect(brief.text).toMatch(/\n384x208 +0\.0 % +45 /);
  });

  it("lists a small model's own size, and what can train near a source of any size", async () => {
    const { code, text: small } = await sizes("--source", "64x64", "--model", "tiny-t2v");
    expect(code).toBe(0);
    expect(small).toMatch(/^64x64x9 /m);
    const vast = await sizes("--source", "100000000x100000000", "--model", "tiny-t2v", "--summary");
    expect(vast.code).toBe(0);
    expect(vast.text).toMatch(/^64x64 /m);
  });

  it.each([
    [["--source", "1920x1040", "--model", "t2v-1.3B", "--max-tokens", "1000000000"], "request.invalid"],
    [
      ["--source", "9000x9000", "--model", "tiny-t2v", "--tolerance", "90", "--max-tokens", "900000"],
      "dataset.too-many-sizes",
    ],
    [["--model", "t2v-1.3B"], "cli.missing-option"],
    [["--source", "1920", "--model", "t2v-1.3B"], "cli.bad-size"],
    [["--source", "1920x1040", "--model", "t2v-1.3"], "model.unknown"],
    [["--source", "1920x1040", "--model", "t2v-1.3B", "--frames", "20"], "size.frames"],
    [["--source", "1920x1040", "--model", "t2v-1.3B", "--tolerance", "x"], "cli.bad-number"],
    [["--source", "1920x1040", "--model", "t2v-1.3B", "--dtype", "int8"], "cli.bad-value"],
    [["--source", "100x100", "--model", "t2v-1.3B"], "dataset.no-size"],
    [["--source", "1920x1040", "--model", "t2v-1.3B", "--max-tokens", "10"], "dataset.no-size"],
  ])("refuses %j", async (words, code) => {
    const { code: exit, notes } = await sizes(...words);
    expect(exit).toBe(1);
    expect(notes).toContain(`error ${code}`);
  });
});
