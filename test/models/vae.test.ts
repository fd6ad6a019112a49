// The autoencoders against themselves: chunks against the whole clip, memory, gradients. The official numbers are in
// golden.test.ts; tiles in vae-tiling.test.ts.
import { afterAll, describe, expect, it } from "vitest";
import { elementCount } from "../../src/base/shape.ts";
import { createNullDevice } from "../../src/device/null/null-device.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { latentFrames, type VaeConfig, vaeConfigFrom, vaeConfigs, vaeStride } from "../../src/models/wan/vae/config.ts";
import { type VaeOptions, WanVae } from "../../src/models/wan/vae/vae.ts";
import { vaeShapes } from "../../src/models/wan/weight-shapes.ts";
import { RandomWeights } from "../../src/nn/random-weights.ts";
import { concat, meanSquaredError, slice } from "../../src/tensor/ops/index.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { Tape } from "../../src/tensor/tape.ts";
import { empty, type Tensor } from "../../src/tensor/tensor.ts";
import { type DrawnOptions, DrawnWeights, drawn } from "../support/drawn-weights.ts";

const { device } = await openDevice("auto");
afterAll(() => device[Symbol.dispose]());

const kinds = ["vae21", "vae22"] as const;
type Kind = (typeof kinds)[number];

const tiny = (kind: Kind): VaeConfig => ({ ...vaeConfigs[kind], dim: 4, decDim: 4 });

function build(kind: Kind, drawnOptions: DrawnOptions = {}, options: VaeOptions = { dtype: "f32" }) {
  const weights = new DrawnWeights(device, drawnOptions);
  return Object.assign(new WanVae(weights, tiny(kind), options), { weights });
}

/** ‖a − b‖ / ‖b‖ */
async function distance(a: Tensor, b: Tensor): Promise<number> {
  expect(a.shape).toEqual(b.shape);
  const [x, y] = [await a.read(), await b.read()];
  const norm = (values: Float32Array) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  return norm(x.map((value, i) => value - y[i]!)) / norm(y);
}

/** One latent pixel high, two wide. */
const video = (kind: Kind, frames: number, seed = 5): Tensor => {
  const [, height, width] = vaeStride(vaeConfigs[kind]);
  return drawn(device, [3, frames, height, width * 2], seed);
};
const latents = (kind: Kind, frames: number, seed = 6): Tensor =>
  drawn(device, [vaeConfigs[kind].zDim, frames, 2, 2], seed);

describe.each(kinds)("%s", (kind) => {
  it("encodes chunks to what the whole clip gives", async () => {
    using vae = build(kind);
    using _scope = openScope(device);
    const clip = video(kind, 9);
    using stream = vae.encoder({ height: clip.shape[2]!, width: clip.shape[3]! });
    const whole = stream.push(clip);
    expect(await distance(vae.encode(clip), whole)).toBeLessThan(1e-6);
  });

  it("decodes chunks to what all latents at once give", async () => {
    using vae = build(kind);
    using _scope = openScope(device);
    const frames = latents(kind, 3);
    using stream = vae.decoder({ height: 2, width: 2 });
    const whole = stream.push(frames);
    expect(whole.shape[1]).toBe(9);
    expect(await distance(vae.decode(frames), whole)).toBeLessThan(1e-6);
  });

  it("hands out chunks of 1, 4, 4 frames, and takes them", async () => {
    using vae = build(kind);
    using _scope = openScope(device);
    const frames = latents(kind, 3);
    const parts = [...vae.decodeChunks(frames)];
    expect(parts.map((part) => part.shape[1])).toEqual([1, 4, 4]);
    const clip = concat(parts, 1);
    expect(await distance(clip, vae.decode(frames))).toBe(0);
    const back = [...vae.encodeChunks(parts)];
    expect(back.map((part) => part.shape[1])).toEqual([1, 1, 1]);
    expect(await distance(concat(back, 1), vae.encode(clip))).toBe(0);
  });

  it("sees no later frame", async () => {
    using vae = build(kind);
    using _scope = openScope(device);
    const clip = video(kind, 9);
    const other = concat([slice(clip, 1, 0, 5), video(kind, 4, 99)], 1);
    const [a, b] = [vae.encode(clip), vae.encode(other)];
    expect(await distance(slice(a, 1, 0, 2), slice(b, 1, 0, 2))).toBe(0);
    expect(await distance(slice(a, 1, 2, 1), slice(b, 1, 2, 1))).toBeGreaterThan(1e-2);
    const [c, d] = [vae.decode(a), vae.decode(b)];
    expect(await distance(slice(c, 1, 0, 5), slice(d, 1, 0, 5))).toBe(0);
    expect(await distance(slice(c, 1, 5, 4), slice(d, 1, 5, 4))).toBeGreaterThan(1e-2);
  });

  it("drops frames beyond 4n+1", async () => {
    using vae = build(kind);
    using _scope = openScope(device);
    const clip = video(kind, 8);
    expect(latentFrames(vae.config, 8)).toBe(2);
    expect(await distance(vae.encode(clip), vae.encode(slice(clip, 1, 0, 5)))).toBe(0);
  });

  it("normalises latents by the published statistics", async () => {
    using vae = build(kind);
    using _scope = openScope(device);
    const clip = video(kind, 1);
    const [raw, normalized] = [vae.encode(clip, { normalized: false }), vae.encode(clip)];
    const { mean, std } = vae.config.statistics;
    const [x, y] = [await raw.read(), await normalized.read()];
    const area = raw.size / vae.config.zDim;
    x.forEach((value, i) => {
      const channel = Math.floor(i / area);
      expect(y[i]).toBeCloseTo((value - mean[channel]!) / std[channel]!, 4);
    });
    expect(await distance(vae.decode(normalized), vae.decode(raw, { normalized: false }))).toBeLessThan(1e-4);
  });

  it("limits pixels unless told otherwise", async () => {
    using vae = build(kind, { trainable: true });
    using _scope = openScope(device);
    const bias = vae.weights.parameters.get("decoder.head.2.bias")!;
    bias.write(Float32Array.from({ length: bias.size }, (_, i) => (i % 2 === 0 ? 1 : -1)));
    const frames = latents(kind, 1);
    const raw = await vae.decode(frames, { clamped: false }).read();
    expect(Math.max(...raw)).toBeGreaterThan(1);
    expect(Math.min(...raw)).toBeLessThan(-1);
    const clamped = await vae.decode(frames).read();
    expect(clamped).toEqual(raw.map((value) => Math.max(-1, Math.min(1, value))));
  });

  it("computes in bf16 to about its precision", async () => {
    using exact = build(kind);
    using half = build(kind, {}, { dtype: "bf16" });
    using _scope = openScope(device);
    expect(await distance(half.decode(latents(kind, 2)), exact.decode(latents(kind, 2)))).toBeLessThan(3e-2);
    expect(await distance(half.encode(video(kind, 5)), exact.encode(video(kind, 5)))).toBeLessThan(3e-2);
  });

  it("carries gradients through cached features: chunks and the whole clip agree for every parameter", async () => {
    // Whole, nothing is cached; in chunks, most of what a frame sees comes out of the cache.
    const gradients = async (whole: boolean) => {
      using vae = build(kind, { trainable: true });
      using _scope = openScope(device);
      using tape = new Tape(device);
      const clip = video(kind, 5);
      const raw = { normalized: false, clamped: false };
      using encoder = vae.encoder({ height: 0, width: 0 }, raw);
      using decoder = vae.decoder({ height: 0, width: 0 }, raw);
      const mean = whole ? encoder.push(clip) : vae.encode(clip, raw);
      const output = whole ? decoder.push(mean) : vae.decode(mean, raw);
      const loss = meanSquaredError(output, clip);
      tape.backward(loss);
      const values = new Map<string, Float32Array>();
      for (const [name, parameter] of vae.weights.parameters) values.set(name, await parameter.gradient!.read());
      return values;
    };
    const live = device.memory().live;
    const [chunked, whole] = [await gradients(false), await gradients(true)];
    expect([...chunked.keys()].length).toBeGreaterThan(150);
    for (const [name, expected] of whole) {
      const actual = chunked.get(name)!;
      const norm = Math.hypot(...expected);
      const error = Math.hypot(...expected.map((value, i) => value - actual[i]!));
      expect(norm, name).toBeGreaterThan(0);
      expect(error / norm, name).toBeLessThan(1e-4);
    }
    expect(device.memory().live).toBe(live);
  });

  it("has the gradient that the loss's slope shows", async () => {
    using vae = build(kind, { trainable: true });
    using _scope = openScope(device);
    const clip = video(kind, 5);
    const raw = { normalized: false, clamped: false };
    const loss = () => meanSquaredError(vae.decode(vae.encode(clip, raw), raw), clip);
    {
      using tape = new Tape(device);
      tape.backward(loss());
    }
    // It only acts from the second chunk on, through cached frames. Its slope is nearly straight over this step.
    const name = [...vae.weights.shapes.keys()].filter((key) => /^encoder.*time_conv.weight$/.test(key)).at(-1)!;
    const parameter = vae.weights.parameters.get(name)!;
    const gradient = await parameter.gradient!.read();
    const values = await parameter.read();
    // Along the gradient itself, where the slope is ‖g‖ and float32 has the most digits to show it.
    const norm = Math.hypot(...gradient);
    const step = 1e-2;
    const at = async (t: number) => {
      using _inner = openScope(device);
      parameter.write(values.map((value, i) => value + (t * gradient[i]!) / norm));
      return await loss().item();
    };
    const slope = ((await at(step)) - (await at(-step))) / (2 * step);
    expect(Math.abs(slope / norm - 1)).toBeLessThan(1e-2);
  });

  it("frees everything, even when a clip is abandoned or a chunk is refused", () => {
    const live = device.memory().live;
    {
      using vae = build(kind);
      using _scope = openScope(device);
      for (const part of vae.decodeChunks(latents(kind, 3))) {
        part[Symbol.dispose]();
        break;
      }
      const wrong = [video(kind, 1), video(kind, 3)];
      expect(() => [...vae.encodeChunks(wrong)]).toThrowError(expect.objectContaining({ code: "vae.chunk" }));
      expect(() => vae.decode(drawn(device, [3, 1, 2, 2], 1))).toThrowError(
        expect.objectContaining({ code: "shape.mismatch" }),
      );
      expect(() => vae.encode(empty(device, [3, 0, 32, 32], "f32"))).toThrowError(
        expect.objectContaining({ code: "vae.empty" }),
      );
    }
    expect(device.memory().live).toBe(live);
  });

  it("builds one half alone", () => {
    using decoder = build(kind, {}, { dtype: "f32", half: "decoder" });
    expect([...decoder.weights.shapes.keys()].some((name) => name.startsWith("encoder."))).toBe(false);
    using _scope = openScope(device);
    expect(decoder.decode(latents(kind, 1)).shape[1]).toBe(1);
    expect(() => decoder.encode(video(kind, 1))).toThrowError(expect.objectContaining({ code: "vae.half-missing" }));
  });

  it("needs memory that does not grow with the clip", () => {
    const peak = (frames: number, direction: "encode" | "decode") => {
      using vae = build(kind);
      using _scope = openScope(device);
      const input = direction === "decode" ? latents(kind, frames) : undefined;
      const single = video(kind, 1);
      const four = video(kind, 4);
      device.resetPeak();
      const before = device.memory().live;
      if (input) for (const part of vae.decodeChunks(input)) part[Symbol.dispose]();
      else {
        using stream = vae.encoder({ height: single.shape[2]!, width: single.shape[3]! });
        stream.push(single)[Symbol.dispose]();
        for (let i = 1; i < frames; i++) stream.push(four)[Symbol.dispose]();
      }
      return device.memory().peak - before;
    };
    for (const direction of ["encode", "decode"] as const) {
      expect(peak(4, direction)).toBe(peak(3, direction));
      expect(peak(3, direction)).toBeGreaterThan(0);
    }
  });
});

describe("at full size, on the null device", () => {
  const decode = (kind: Kind, width: number, height: number, frames: number) => {
    const planned = createNullDevice();
    using vae = new WanVae(new RandomWeights(planned), vaeConfigs[kind], { dtype: "f32" });
    using _scope = openScope(planned);
    const [stride, rows, columns] = vaeStride(vae.config);
    const count = (frames - 1) / stride + 1;
    const input = empty(planned, [vae.config.zDim, count, height / rows, width / columns], "f32");
    const { live } = planned.memory();
    planned.counters.reset();
    planned.resetPeak();
    for (const part of vae.decodeChunks(input)) part[Symbol.dispose]();
    expect(planned.memory().live).toBe(live);
    return { flops: planned.counters.total.flops, peak: planned.memory().peak - live };
  };

  it("counts the published cost of decoding, within 1 %", () => {
    expect(Math.abs(decode("vae22", 1280, 704, 121).flops / 2011e12 - 1)).toBeLessThan(0.01);
    expect(Math.abs(decode("vae21", 1280, 720, 81).flops / 639e12 - 1)).toBeLessThan(0.01);
  });

  it("peaks alike for 5 seconds and for 20", () => {
    expect(decode("vae22", 1280, 704, 481).peak).toBe(decode("vae22", 1280, 704, 121).peak);
    expect(decode("vae21", 832, 480, 321).peak).toBe(decode("vae21", 832, 480, 81).peak);
  });

  it("has the published parameters", () => {
    const planned = createNullDevice();
    const shapes = (kind: Kind) => {
      const weights = new DrawnWeights(planned);
      using _vae = new WanVae(weights, vaeConfigs[kind], { dtype: "f32" });
      return weights.shapes;
    };
    for (const kind of kinds) {
      expect(Object.fromEntries(shapes(kind))).toEqual(Object.fromEntries(vaeShapes(vaeConfigs[kind])));
    }
    const count = [...shapes("vae21").values()].reduce((sum, shape) => sum + elementCount(shape), 0);
    expect(count).toBe(126_892_531);
  });
});

describe("configurations", () => {
  const official = {
    dim: 8,
    z_dim: 16,
    dim_mult: [1, 2, 4, 4],
    num_res_blocks: 2,
    temperal_downsample: [false, true, true],
  };

  it("reads the official arguments", () => {
    expect(vaeConfigFrom(official)).toMatchObject({ kind: "vae21", dim: 8, decDim: 8, patchSize: 1 });
    expect(vaeConfigFrom({ ...official, dec_dim: 4, z_dim: 48 })).toMatchObject({
      kind: "vae22",
      decDim: 4,
      patchSize: 2,
    });
    expect(vaeStride(vaeConfigFrom(official))).toEqual([4, 8, 8]);
    for (const wrong of [{ attn_scales: [0.5] }, { temperal_downsample: [true, true, true] }]) {
      expect(() => vaeConfigFrom({ ...official, ...wrong })).toThrowError(
        expect.objectContaining({ code: "vae.unsupported" }),
      );
    }
  });

  it("refuses sizes that 2.2 cannot fold", () => {
    using vae = build("vae22");
    using _scope = openScope(device);
    expect(() => vae.encode(drawn(device, [3, 1, 24, 32], 1))).toThrowError(
      expect.objectContaining({ code: "vae.size" }),
    );
  });
});
