// Conditions: a picture becomes the same latents by chunks as whole, and stands in the transformer's input where it should.
import { afterAll, describe, expect, it } from "vitest";
import { openDevice } from "../../src/device/open-device.ts";
import {
  type HostCondition,
  hasPictureLatents,
  imposeGiven,
  type LatentShape,
  loadCondition,
  modelInput,
  pictureLatents,
} from "../../src/models/wan/conditioning.ts";
import { vaeConfigFrom } from "../../src/models/wan/vae/config.ts";
import { WanVae } from "../../src/models/wan/vae/vae.ts";
import { RandomWeights } from "../../src/nn/random-weights.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { fromValues } from "../../src/tensor/tensor.ts";
import { draws } from "../support/drawn-weights.ts";

const { device } = await openDevice("auto");
const stages = { dim_mult: [1, 2, 4, 4], num_res_blocks: 2, temperal_downsample: [false, true, true] };
const vae = new WanVae(new RandomWeights(device, { seed: 3n }), vaeConfigFrom({ dim: 8, z_dim: 16, ...stages }), {
  dtype: "f32",
});
afterAll(() => {
  vae[Symbol.dispose]();
  expect(device.memory().live).toBe(0);
  device[Symbol.dispose]();
});

const next = draws(5);
const values = (count: number) => Float32Array.from({ length: count }, next);
const picture = { planes: values(3 * 16 * 32), width: 32, height: 16 };

describe("latents of a picture", () => {
  it("are those of the picture and grey frames behind it, or of the picture alone", async () => {
    const video = new Float32Array(3 * 9 * 512);
    for (let c = 0; c < 3; c++) video.set(picture.planes.subarray(c * 512, (c + 1) * 512), c * 9 * 512);
    using _scope = openScope(device);
    const whole = await vae.encode(fromValues(device, video, [3, 9, 16, 32])).read();
    for (const image of ["channels", "channels+clip"] as const) {
      const { values: latents, shape } = await pictureLatents(vae, image, picture, 9);
      expect(shape).toEqual([16, 3, 2, 4]);
      expect(latents).toEqual(whole);
      expect(hasPictureLatents(image)).toBe(true);
    }
    const first = await pictureLatents(vae, "first-frame", picture, 9);
    expect(first.shape).toEqual([16, 1, 2, 4]);
    for (let c = 0; c < 16; c++) {
      expect(first.values.slice(c * 8, c * 8 + 8)).toEqual(whole.slice(c * 24, c * 24 + 8));
    }
    expect(hasPictureLatents("first-frame")).toBe(false);
  });

  it("stop when asked", async () => {
    const stopped = pictureLatents(vae, "channels", picture, 9, AbortSignal.abort());
    await expect(stopped).rejects.toMatchObject({ name: "AbortError" });
  });

  it("are not there for models without pictures, and not yet for both ends", async () => {
    for (const image of ["none", "first-last+clip"] as const) {
      await expect(pictureLatents(vae, image, picture, 9)).rejects.toMatchObject({ code: "conditioning.unsupported" });
    }
  });
});

describe("the transformer's input", () => {
  const shape: LatentShape = [2, 3, 2, 4];
  const noisy = values(48);
  const read = async (condition: HostCondition) => {
    using loaded = loadCondition(device, condition);
    using _scope = openScope(device);
    const text = fromValues(device, values(8), [2, 4]);
    const write = (out: ReturnType<typeof fromValues>) => out.write(noisy);
    const input = modelInput(device, [{ shape, timestep: 700, text, condition: loaded, write }], 2);
    return {
      latents: await input.latents.read(),
      shape: input.latents.shape,
      timesteps: input.timesteps[0],
      images: await input.images?.[0]?.read(),
    };
  };

  it("has masked channels and CLIP features behind and beside it", async () => {
    const [latents, clip] = [values(48), values(10)];
    const input = await read({
      image: "channels+clip",
      latents: { values: latents, shape },
      clip: { values: clip, shape: [2, 5] },
    });
    expect(input.shape).toEqual([1, 8, 3, 2, 4]);
    const mask = Array.from({ length: 4 * 24 }, (_, i) => (i % 24 < 8 ? 1 : 0));
    expect(input.latents).toEqual(Float32Array.of(...noisy, ...mask, ...latents));
    expect(input.timesteps).toBe(700);
    expect(input.images).toEqual(clip);
  });

  it("holds a given first frame, clean in time too, as the latents on the host do", async () => {
    const first = values(16);
    const condition: HostCondition = { image: "first-frame", latents: { values: first, shape: [2, 1, 2, 4] } };
    const input = await read(condition);
    const host = noisy.slice();
    imposeGiven(host, condition, shape);
    expect(input.latents).toEqual(host);
    expect(host).not.toEqual(noisy);
    expect(input.timesteps).toEqual(Float32Array.of(0, 0, 700, 700, 700, 700));
  });
});
