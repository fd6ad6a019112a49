// How latents become films: tiny autoencoders, tiles by the memory there is, smaller ones where it runs out.
import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { KinoraError } from "../../src/base/errors.ts";
import { probeMedia } from "../../src/dataset/probe.ts";
import type { Device } from "../../src/device/device.ts";
import { loadDecoder } from "../../src/models/wan/load.ts";
import { countTiles, decodeInTiles, encodeInTiles, tileSpans } from "../../src/models/wan/vae/overlapping-tiles.ts";
import type { TinyVaeConfig } from "../../src/models/wan/vae/tiny-vae.ts";
import { WanVae } from "../../src/models/wan/vae/vae.ts";
import { tinyVaeShapes } from "../../src/models/wan/weight-shapes.ts";
import { decodePlans, parseVaeTiling } from "../../src/sample/decoding.ts";
import type { GenerateEvent } from "../../src/sample/events.ts";
import { latentsPath } from "../../src/sample/latents-file.ts";
import { codeOf } from "../device/support.ts";
import { randomWeights } from "../support/checkpoint-layouts.ts";
import { DrawnWeights } from "../support/drawn-weights.ts";
import { tinyVae21, writeFile } from "../support/wan-files.ts";
import { resolved, runRequest, tinyOptions, tinyStudio } from "./generate-support.ts";

const { path, t2v, ti2v, picture, hashes, device, film, run } = await tinyStudio();

const tiny = (zDim: number, patchSize: number): TinyVaeConfig => ({
  kind: "tae",
  zDim,
  patchSize,
  encoderWidth: 4,
  decoderWidths: [8, 6, 4, 4],
  encoderFrames: [2, 2, 1],
  decoderFrames: [1, 2, 2],
});

async function tinyFile(zDim: number, patchSize: number): Promise<string> {
  const file = path(`taew-${zDim}.safetensors`);
  return writeFile(file, randomWeights(tinyVaeShapes(tiny(zDim, patchSize)), 3));
}

/** The same device that counts activations, and refuses more than `most` bytes of them at once. */
function limited(inner: Device) {
  const held = new Map<object, number>();
  const limit = { most: Number.POSITIVE_INFINITY, live: 0, peak: 0 };
  const counted: Device = {
    ...inner,
    alloc(bytes, category) {
      if (category !== "activations") return inner.alloc(bytes, category);
      if (limit.live + bytes > limit.most) {
        throw new KinoraError("memory.exhausted", "the device has no more memory", { hint: "take less" });
      }
      const block = inner.alloc(bytes, category);
      held.set(block, bytes);
      limit.live += bytes;
      limit.peak = Math.max(limit.peak, limit.live);
      return block;
    },
    free(block) {
      limit.live -= held.get(block) ?? 0;
      held.delete(block);
      inner.free(block);
    },
  };
  return { counted, limit };
}

describe("tiles", () => {
  it("are read as they are written, and refused where they cannot be", () => {
    expect(parseVaeTiling("auto", 8)).toBe("auto");
    expect(parseVaeTiling("256", 8)).toEqual({ size: 256, overlap: 32 });
    expect(parseVaeTiling("256:64", 16)).toEqual({ size: 256, overlap: 64 });
    expect(parseVaeTiling("comfy", 8)).toEqual({ comfy: { size: 512, overlap: 64, frames: 64, frameOverlap: 8 } });
    for (const text of ["", "big", "64:64", "60", "64:12", "comfy:64", "64:8:9", "-64", "comfy:64:8:4:8"]) {
      expect([text, codeOf(() => parseVaeTiling(text, 8))]).toEqual([text, "generate.bad-tiling"]);
    }
  });

  it("are chosen by what is free: none, the largest that fit, and what to try after them", () => {
    using vae = new WanVae(new DrawnWeights(device), tinyVae21, { dtype: "f32", half: "decoder" });
    const shape = [16, 3, 96, 160] as const;
    const withFree = (free: number) => decodePlans(vae, shape, { capacity: () => ({ total: 1e12, free }) }, "auto");
    const plenty = withFree(1e12);
    expect(plenty.note).toBeUndefined();
    expect(plenty.plans.map(({ tiling }) => tiling?.size)).toEqual([undefined, 512, 256, 128]);
    const little = withFree(150e6);
    expect(little.plans[0]?.tiling?.size).toBeLessThan(1280);
    expect(little.note).toContain("tiles of");
    expect(withFree(1).plans.map(({ tiling }) => tiling?.size)).toEqual([128]);
    expect(decodePlans(vae, shape, { capacity: () => ({ total: 1, free: 1 }) }, "off").plans).toEqual([{}]);
  });

  it("of ComfyUI cover each axis as its code does", () => {
    expect(tileSpans(5, 3, 1)).toEqual([
      { start: 0, count: 3 },
      { start: 2, count: 3 },
    ]);
    expect(tileSpans(7, 4, 2)).toEqual([
      { start: 0, count: 4 },
      { start: 2, count: 4 },
      { start: 4, count: 3 },
    ]);
    expect(tileSpans(3, 9, 1)).toEqual([{ start: 0, count: 3 }]);
    expect(countTiles([16, 5, 4, 6], { tile: [3, 3, 4], overlap: [1, 1, 2] })).toBe(2 * 2 * 2);
  });

  it("of ComfyUI that leave frames out are an error, not pictures of NaN", async () => {
    using vae = new WanVae(new DrawnWeights(device), tinyVae21, { dtype: "f32" });
    const clip = (frames: number) => ({
      values: new Float32Array(3 * frames * 16 * 16).fill(0.1),
      shape: [3, frames, 16, 16],
    });
    // The last frame is in no tile; the last tile's latents lie beyond the clip's.
    for (const [frames, tile, overlap] of [
      [6, 4, 3],
      [11, 5, 2],
    ] as const) {
      const tiles = { tile: [tile, 16, 16], overlap: [overlap, 0, 0] } as const;
      await expect(encodeInTiles(vae, clip(frames), tiles)).rejects.toMatchObject({ code: "vae.tiling" });
    }
    const fitting = await encodeInTiles(vae, clip(13), { tile: [9, 16, 16], overlap: [5, 0, 0] });
    expect(fitting.shape).toEqual([16, 4, 2, 2]);
    expect(fitting.values.every(Number.isFinite)).toBe(true);
    const latents = { values: new Float32Array(16 * 3 * 4 * 4).fill(0.3), shape: [16, 3, 4, 4] };
    const none = { tile: [1, 4, 4], overlap: [1, 0, 0] } as const;
    await expect(decodeInTiles(vae, latents, none)).rejects.toMatchObject({ code: "vae.tiling" });
    const whole = await decodeInTiles(vae, latents, { tile: [9, 9, 9], overlap: [1, 1, 1] });
    expect(whole.shape).toEqual([3, 9, 32, 32]);
    expect(whole.values.every(Number.isFinite)).toBe(true);
  });

  it("make a film of every kind", async () => {
    for (const vaeTiling of ["off", "16:8", "comfy:16:8:8:4"]) {
      const { last, out } = await run({ vaeTiling, keepLatents: false });
      expect(last).toMatchObject({ type: "finished", frames: 5 });
      expect(existsSync(out)).toBe(true);
    }
  });
});

describe("memory that runs out while decoding", () => {
  it("takes smaller tiles, says so, and where none fit the latents stay for --resume", async () => {
    const size = { width: 512, height: 256 };
    const options = tinyOptions(t2v, film(), { size, steps: 1, frames: 5, keepLatents: false });
    const { counted, limit } = limited(device);
    const decoding = (most: number) => (event: GenerateEvent) => {
      if (event.type !== "stage") return;
      limit.most = event.stage === "decode" ? most : Number.POSITIVE_INFINITY;
      limit.peak = 0;
    };
    const whole = await runRequest(counted, resolved(options), { hashes }, decoding(Number.POSITIVE_INFINITY));
    expect(whole.last).toMatchObject({ type: "finished" });
    const asked = { ...options, out: film() };
    const fell = await runRequest(counted, resolved(asked), { hashes }, decoding(limit.peak - 1));
    expect(fell.last).toMatchObject({ type: "finished", frames: 5 });
    expect(fell.of("note").map(({ text }) => text)).toContainEqual(
      expect.stringContaining("out of memory while decoding: retrying with tiles of"),
    );
    const out = film();
    const refused = resolved({ ...options, out });
    await expect(runRequest(counted, refused, { hashes }, decoding(1))).rejects.toMatchObject({
      code: "memory.exhausted",
      hint: expect.stringContaining("`resume`"),
    });
    expect(existsSync(latentsPath(out))).toBe(true);
    const resumed = await runRequest(device, refused, { hashes, resume: true });
    expect(resumed.last).toMatchObject({ type: "finished", frames: 5 });
    expect(resumed.of("step")).toEqual([]);
  }, 300_000);
});

describe("tiny autoencoders", () => {
  it("decode films of the models whose latents they take, and are known by their sizes", async () => {
    const file = await tinyFile(16, 1);
    using decoder = loadDecoder(device, file, { dtype: "f32" });
    expect(decoder).not.toBeInstanceOf(WanVae);
    const { last, out } = await run({ files: { folder: t2v, vae: file } });
    expect(last).toMatchObject({ type: "finished", frames: 5 });
    expect(await probeMedia(out)).toMatchObject({ width: 32, height: 32, frames: 5 });
    const wrong = run({ files: { folder: t2v, vae: await tinyFile(48, 2) } });
    await expect(wrong).rejects.toMatchObject({ code: "checkpoint.wrong-model" });
  });

  it("make previews of whole pictures, and take no picture themselves", async () => {
    const file = await tinyFile(48, 2);
    const options = tinyOptions(ti2v, film(), { task: "tiny-ti2v", size: { width: 64, height: 64 } });
    const previewed = await runRequest(device, resolved(options), { hashes, previewVae: file });
    const previews = previewed.of("preview");
    expect(previews.length).toBe(3);
    for (const { width, height, frames } of previews) {
      expect([width, height, frames.length]).toEqual([64, 64, 1]);
      expect(frames[0]!.length).toBe(64 * 64 * 3);
    }
    const asked = tinyOptions(ti2v, film(), { task: "tiny-ti2v", image: picture, files: { folder: ti2v, vae: file } });
    await expect(runRequest(device, resolved(asked), { hashes })).rejects.toMatchObject({
      code: "generate.tiny-picture",
    });
    const no = { ...options, out: film() };
    await expect(
      runRequest(device, resolved(no), { hashes, previewVae: `${t2v}/vae.safetensors` }),
    ).rejects.toMatchObject({ code: expect.stringMatching(/^(?:weights|io)\./) });
  });
});
