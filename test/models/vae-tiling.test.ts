// Tiles: that they cover the picture, that what is far from a cut is untouched, that no seam shows.
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { createNullDevice } from "../../src/device/null/null-device.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { type VaeConfig, vaeConfigs, vaeStride } from "../../src/models/wan/vae/config.ts";
import { planSpans, planTiles } from "../../src/models/wan/vae/tiling.ts";
import { WanVae } from "../../src/models/wan/vae/vae.ts";
import { RandomWeights } from "../../src/nn/random-weights.ts";
import { concat } from "../../src/tensor/ops/index.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { empty } from "../../src/tensor/tensor.ts";
import { DrawnWeights, drawn } from "../support/drawn-weights.ts";

const { device } = await openDevice("auto");
afterAll(() => device[Symbol.dispose]());

/**
 * Without attention, which sees the whole picture, a pixel depends on its surroundings only; then what is farther from
 * a cut than that must be the very numbers of the untiled picture.
 */
function localVae(config: VaeConfig): WanVae {
  return new WanVae(new DrawnWeights(device, { zero: /proj\.(weight|bias)$/ }), config, { dtype: "f32" });
}

const small = (kind: "vae21" | "vae22"): VaeConfig => ({ ...vaeConfigs[kind], dim: 4, decDim: 4 });

/** Per column of [C, T, H, W]: the root of the mean square of `of(values, i)`. */
function byColumn(values: Float32Array, width: number, of: (i: number) => number): number[] {
  const sums = new Array<number>(width).fill(0);
  for (let i = 0; i < values.length; i++) sums[i % width]! += of(i) ** 2;
  return sums.map((sum) => Math.sqrt((sum * width) / values.length));
}

/** How far two pictures are apart, and how much of each step from one column to the next is not in the picture. */
function compare(tiled: Float32Array, whole: Float32Array, width: number) {
  const error = tiled.map((value, i) => value - whole[i]!);
  const step = (values: Float32Array) => (i: number) => (i % width === width - 1 ? 0 : values[i + 1]! - values[i]!);
  const size = byColumn(whole, width, (i) => whole[i]!);
  const errors = byColumn(error, width, (i) => error[i]!).map((value, x) => value / size[x]!);
  const wholeSteps = byColumn(whole, width, step(whole));
  const steps = byColumn(error, width, step(error)).map((value, x) => value / (wholeSteps[x]! || 1));
  return { errors, worstStep: Math.max(...steps) };
}

describe("planSpans", () => {
  const cases = fc.record({
    length: fc.integer({ min: 1, max: 200 }),
    tile: fc.integer({ min: 1, max: 64 }),
    share: fc.double({ min: 0, max: 0.99, noNaN: true }),
    scale: fc.constantFrom(1, 8),
  });

  it("covers everything, overlaps enough, and its weights sum to one", () => {
    fc.assert(
      fc.property(cases, ({ length, tile, share, scale }) => {
        const overlap = Math.floor(tile * share);
        const spans = planSpans(length, tile, overlap, scale);
        const total = new Float64Array(length * scale);
        for (const [i, { start, length: size, weights }] of spans.entries()) {
          expect(size).toBe(Math.min(tile, length));
          expect(weights.length).toBe(size * scale);
          if (i > 0) expect(spans[i - 1]!.start + size - start).toBeGreaterThanOrEqual(overlap);
          expect(Math.min(...weights)).toBeGreaterThanOrEqual(0);
          for (const [p, weight] of weights.entries()) total[start * scale + p]! += weight;
        }
        expect(Math.max(...total.map((sum) => Math.abs(sum - 1)))).toBeLessThan(1e-5);
      }),
      { numRuns: 200 },
    );
  });

  it("fades linearly where two spans overlap", () => {
    const [left, right] = planSpans(12, 8, 4, 1);
    expect([...left!.weights]).toEqual([1, 1, 1, 1, 0.875, 0.625, 0.375, 0.125]);
    expect([...right!.weights]).toEqual([0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1]);
  });

  it("refuses tiles the autoencoder cannot use, and needs none for a small picture", () => {
    const size = { height: 10, width: 10 };
    for (const tiling of [
      { size: 100, overlap: 16 },
      { size: 64, overlap: 12 },
      { size: 64, overlap: 64 },
      { size: 0, overlap: 0 },
      { size: 64, overlap: -16 },
    ]) {
      expect(() => planTiles(size, tiling, 16, "decode")).toThrowError(expect.objectContaining({ code: "vae.tiling" }));
    }
    expect(planTiles(size, { size: 160, overlap: 16 }, 16, "decode")).toBeUndefined();
    expect(planTiles(size, { size: 144, overlap: 16 }, 16, "decode")!.tiles.length).toBe(4);
  });
});

describe.each(["vae21", "vae22"] as const)("%s in tiles", (kind) => {
  const [, stride] = vaeStride(vaeConfigs[kind]);
  const tiling = { size: 32 * stride, overlap: 16 * stride };

  it("decodes to the untiled picture away from the cut, without a seam", async () => {
    using vae = localVae(small(kind));
    using _scope = openScope(device);
    const latents = drawn(device, [vae.config.zDim, 1, 1, 48], 7);
    const width = 48 * stride;
    const whole = await vae.decode(latents).read();
    const blended = await vae.decode(latents, { tiling }).read();
    const { errors, worstStep } = compare(blended, whole, width);
    // Tiles cover latent columns 0–31 and 16–47; only between 16 and 32 do both count.
    expect(Math.max(...errors.slice(0, 16 * stride), ...errors.slice(32 * stride))).toBeLessThan(1e-6);
    expect(worstStep).toBeLessThan(0.3);
    // The same cut without overlap does show.
    const cut = await vae.decode(latents, { tiling: { size: 24 * stride, overlap: 0 } }).read();
    expect(compare(cut, whole, width).worstStep).toBeGreaterThan(0.8);
  });

  it("encodes to the untiled latents away from the cut", async () => {
    using vae = localVae(small(kind));
    using _scope = openScope(device);
    const width = 72;
    const video = drawn(device, [3, 1, stride, width * stride], 8);
    const whole = vae.encode(video, { normalized: false });
    const options = { normalized: false, tiling: { size: 52 * stride, overlap: 32 * stride } };
    const blended = vae.encode(video, options);
    const { errors } = compare(await blended.read(), await whole.read(), width);
    expect(Math.max(...errors.slice(0, 20), ...errors.slice(52))).toBeLessThan(1e-6);
    expect(Math.max(...errors)).toBeLessThan(0.5);
  });

  it("gives the same chunk by chunk, all tiles side by side, and frees everything", async () => {
    const live = device.memory().live;
    {
      using vae = localVae(small(kind));
      using _scope = openScope(device);
      const options = { tiling: { size: 2 * stride, overlap: stride } };
      const latents = drawn(device, [vae.config.zDim, 2, 2, 3], 7);
      const video = vae.decode(latents, options);
      expect(video.shape).toEqual([3, 5, 2 * stride, 3 * stride]);
      const frames = [...vae.decodeChunks(latents, options)];
      expect(await concat(frames, 1).read()).toEqual(await video.read());
      const back = vae.encode(video, options);
      expect(back.shape).toEqual(latents.shape);
      expect(await concat([...vae.encodeChunks(frames, options)], 1).read()).toEqual(await back.read());
      for (const part of vae.decodeChunks(latents, options)) {
        part[Symbol.dispose]();
        break;
      }
    }
    expect(device.memory().live).toBe(live);
  });
});

describe("memory in tiles, at full size", () => {
  const peak = (frames: number, tiling: { size: number; overlap: number } | undefined, streamed: boolean) => {
    const planned = createNullDevice();
    using vae = new WanVae(new RandomWeights(planned), vaeConfigs.vae22, { dtype: "bf16" });
    using _scope = openScope(planned);
    const latents = empty(planned, [48, (frames - 1) / 4 + 1, 44, 80], "f32");
    const { live } = planned.memory();
    planned.resetPeak();
    if (streamed) for (const part of vae.decodeChunks(latents, { tiling })) part[Symbol.dispose]();
    else vae.decode(latents, { tiling });
    return planned.memory().peak - live;
  };
  const tiling = { size: 256, overlap: 64 };

  it("is less than a third of the untiled", () => {
    expect(peak(121, tiling, false)).toBeLessThan(peak(121, undefined, false) / 3);
  });

  it("does not grow with the frames where the video is not held", () => {
    expect(peak(241, tiling, true)).toBe(peak(121, tiling, true));
  });
});
