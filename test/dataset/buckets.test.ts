// Bucket sizes and crops: against lists derived by hand from musubi's rule, and against a digest of musubi's own answers.
import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bucketFor, bucketSizes, cropFor } from "../../src/dataset/buckets.ts";

const text = (size: { width: number; height: number } | undefined) => size && `${size.width}x${size.height}`;

describe("bucket sizes", () => {
  // The rule: area A = W·H, s = ⌊√A⌋. Widths run from ⌊s/2⌋ floored to the step, up to below s + step; the height of a
  // width w is ⌊A/w⌋ floored to the step; every size counts in both orientations.
  // 256×160: A = 40,960, s = 202, widths from ⌊101⌋→96 below 218: 96…208.
  //   96 → 426→416, 112 → 365→352, 128 → 320, 144 → 284→272, 160 → 256, 176 → 232→224, 192 → 213→208, 208 → 196→192.
  it("of 256×160 in steps of 16 are the derived ones, in both orientations, by width", () => {
    expect(bucketSizes([256, 160], 16).map(text)).toEqual([
      ...["96x416", "112x352", "128x320", "144x272", "160x256", "176x224", "192x208", "208x192"],
      ...["224x176", "256x160", "272x144", "320x128", "352x112", "416x96"],
    ]);
  });

  // 256×256 in steps of 32: s = 256, widths 128…256: 128 → 512, 160 → 409→384, 192 → 341→320, 224 → 292→288, 256 → 256.
  it("of 256×256 in steps of 32 are the derived ones", () => {
    expect(bucketSizes([256, 256], 32).map(text)).toEqual([
      ...["128x512", "160x384", "192x320", "224x288", "256x256", "288x224", "320x192", "384x160", "512x128"],
    ]);
  });

  it("go by the area alone", () => {
    expect(bucketSizes([960, 544], 16)).toBe(bucketSizes([544, 960], 16));
  });

  it("hold no empty side where musubi divides by zero (areas under 32×32)", () => {
    expect(bucketSizes([16, 16], 16).map(text)).toEqual(["16x16"]);
    expect(bucketSizes([17, 17], 16).map(text)).toEqual(["16x16"]);
  });

  it("stay within the area, near it, in whole steps", () => {
    const area = fc.integer({ min: 64, max: 1500 });
    fc.assert(
      fc.property(area, area, fc.constantFrom(16, 32), (w, h, step) => {
        for (const { width, height } of bucketSizes([w, h], step)) {
          expect([width % step, height % step]).toEqual([0, 0]);
          expect(width * height).toBeLessThanOrEqual(w * h);
          // Flooring one side loses less than a step of it.
          expect((Math.min(width, height) + step) * (Math.max(width, height) + step)).toBeGreaterThan(w * h);
        }
      }),
    );
  });
});

describe("the bucket of a picture", () => {
  const rules = { resolution: [960, 544] as const, step: 16 };

  it("is the nearest in aspect, the narrower on a tie", () => {
    expect(text(bucketFor(1920, 1080, rules))).toBe("960x544"); // 1.7778: 960/544 = 1.7647; 976/528 = 1.848
    expect(text(bucketFor(1080, 1920, rules))).toBe("544x960");
    expect(text(bucketFor(1024, 1024, rules))).toBe("720x720"); // 720² ≤ 522,240; 736 → 704
    expect(text(bucketFor(10_000, 100, rules))).toBe("1472x352"); // The widest there is: ⌊722/2⌋ → 352, ⌊522,240/352⌋ = 1483 → 1472.
    // 48×48 has the buckets 16×144, 32×64, 48×48, 64×32, 144×16; 0.75 and 1.5 lie halfway, exactly.
    const small = { resolution: [48, 48] as const, step: 16 };
    expect(bucketSizes(small.resolution, small.step).map(text)).toEqual([
      "16x144",
      "32x64",
      "48x48",
      "64x32",
      "144x16",
    ]);
    expect(text(bucketFor(300, 400, small))).toBe("32x64");
    expect(text(bucketFor(300, 200, small))).toBe("48x48");
  });

  it("is the resolution itself without buckets, floored to the step", () => {
    expect(text(bucketFor(100, 2000, { ...rules, enabled: false, noUpscale: true }))).toBe("960x544");
    expect(text(bucketFor(100, 2000, { resolution: [960, 540], step: 16, enabled: false }))).toBe("960x528");
  });

  it("keeps a small picture's own size with noUpscale", () => {
    expect(text(bucketFor(640, 360, { ...rules, noUpscale: true }))).toBe("640x352");
    expect(text(bucketFor(640, 360, rules))).toBe("960x544");
    // As large as the area: kept; one row more: a bucket.
    expect(text(bucketFor(544, 960, { ...rules, noUpscale: true }))).toBe("544x960");
    expect(text(bucketFor(1920, 1040, { ...rules, noUpscale: true }))).toBe("976x528");
    expect(bucketFor(15, 400, { ...rules, noUpscale: true })).toBeUndefined();
  });

  it("is musubi's for 47,628 pictures, resolutions and steps, with the scaled size and the crop", () => {
    // The digest is of the same lines printed by musubi's BucketSelector.get_bucket_resolution (16: "wan"; 32: its one
    // architecture with that step), without and with no_upscale, and the arithmetic of resize_image_to_bucket, at 30c658c.
    const resolutions = [
      ...([
        [960, 544],
        [544, 960],
        [768, 768],
        [384, 208],
        [768, 416],
        [1280, 704],
        [832, 480],
        [255, 257],
        [96, 64],
      ] as const),
    ];
    const lines: string[] = [];
    for (const step of [16, 32])
      for (const resolution of resolutions)
        for (let w = 64; w < 2049; w += 37)
          for (let h = 64; h < 2049; h += 41) {
            const bucket = bucketFor(w, h, { resolution, step })!;
            const kept = bucketFor(w, h, { resolution, step, noUpscale: true });
            const { scaled, left, top } = cropFor(w, h, bucket);
            lines.push(
              `${step} ${resolution.join("x")} ${w}x${h} ${text(bucket)} ${text(kept)} ${text(scaled)}+${left}+${top}`,
            );
          }
    expect(lines.length).toBe(47_628);
    expect(createHash("sha256").update(lines.join("\n")).digest("hex")).toBe(
      "3f24419a596b095fbab5cb45db76796067677fee55cbec7cb778664068d7cb84",
    );
  });
});

describe("the crop", () => {
  it("covers the bucket and keeps the centre", () => {
    // 1920×1040 to 960×544: scale 544/1040, width ⌊1920·544/1040 + ½⌋ = ⌊1004.81⌋ = 1004, of which 44 go, 22 a side.
    const crop = cropFor(1920, 1040, { width: 960, height: 544 });
    expect(crop.scaled).toEqual({ width: 1004, height: 544 });
    expect([crop.left, crop.top]).toEqual([22, 0]);
    expect(crop.source.x).toBeCloseTo((22 * 1920) / 1004, 9);
    expect(crop.source.height).toBe(1040);
    expect(crop.lost).toBeCloseTo(44 / 1004, 9);
  });

  it("lies within the picture and has the bucket's size, whatever the picture", () => {
    const side = fc.integer({ min: 16, max: 16_000 });
    fc.assert(
      fc.property(side, side, (width, height) => {
        const bucket = bucketFor(width, height, { resolution: [832, 480], step: 16 })!;
        const { scaled, left, top, source, lost } = cropFor(width, height, bucket);
        expect(left >= 0 && top >= 0).toBe(true);
        expect(left + bucket.width <= scaled.width && top + bucket.height <= scaled.height).toBe(true);
        expect(source.x + source.width).toBeLessThanOrEqual(width + 1e-6);
        expect(source.y + source.height).toBeLessThanOrEqual(height + 1e-6);
        expect(lost).toBeGreaterThan(-1e-9);
      }),
    );
  });
});
