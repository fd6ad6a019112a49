// Autoencoders that carry the statistics of their latents in their file: used both ways, refused where broken.
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { openDevice } from "../../src/device/open-device.ts";
import { SafetensorsFile } from "../../src/io/safetensors.ts";
import { writeSafetensors } from "../../src/io/safetensors-writer.ts";
import { checkAutoencoder } from "../../src/models/wan/check-files.ts";
import { loadVae } from "../../src/models/wan/load.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import { LATENT_STATISTICS, vaeConfigFrom } from "../../src/models/wan/vae/config.ts";
import { vaeShapes } from "../../src/models/wan/weight-shapes.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { fromValues } from "../../src/tensor/tensor.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { writeRandomNetwork } from "../support/tiny-checkpoint.ts";

const path = temporaryFolder();
const { device } = await openDevice("auto");
afterAll(() => device[Symbol.dispose]());

const official = { dim: 4, z_dim: 16, dim_mult: [1, 2, 4, 4], num_res_blocks: 1 };
const config = vaeConfigFrom({ ...official, temperal_downsample: [false, true, true] }, "vae21");

/** The same weights with other metadata. */
async function fileWith(name: string, statistics?: string): Promise<string> {
  await writeRandomNetwork(path("plain.safetensors"), vaeShapes(config), 3);
  using plain = SafetensorsFile.open(path("plain.safetensors"));
  const tensors = plain.names.map((tensor) => ({
    name: tensor,
    ...plain.info(tensor),
    bytes: plain.bytes(tensor).slice(),
  }));
  const file = path(`${name}.safetensors`);
  await writeSafetensors(file, tensors, statistics === undefined ? {} : { [LATENT_STATISTICS]: statistics });
  return file;
}

/** The weights in a folder of their own with a config.json. */
async function folderWith(name: string, json: object | string): Promise<string> {
  mkdirSync(path(name), { recursive: true });
  const file = join(path(name), "diffusion_pytorch_model.safetensors");
  renameSync(await fileWith(`${name}-weights`), file);
  writeFileSync(join(path(name), "config.json"), typeof json === "string" ? json : JSON.stringify(json));
  return file;
}

const mean = Array.from({ length: 16 }, (_, i) => 0.1 * i - 0.5);
const std = Array.from({ length: 16 }, (_, i) => 0.5 + 0.1 * i);

describe("latent statistics in a file", () => {
  it("normalise what is encoded, and nothing else", async () => {
    const file = await fileWith("own", JSON.stringify({ mean, std }));
    using vae = loadVae(device, file, { dtype: "f32" });
    expect(vae.config.statistics).toEqual({ mean, std });
    using _scope = openScope(device);
    const video = fromValues(
      device,
      Float32Array.from({ length: 3 * 64 }, (_, i) => Math.sin(i)),
      [3, 1, 8, 8],
    );
    const raw = await vae.encode(video, { normalized: false }).read();
    const normalized = await vae.encode(video).read();
    for (const [c, value] of raw.entries()) expect(normalized[c]).toBeCloseTo((value - mean[c]!) / std[c]!, 5);
  });

  it("are the published ones where the file says nothing, and that is told", async () => {
    const file = await fileWith("silent");
    using vae = loadVae(device, file, { dtype: "f32" });
    expect(vae.config.statistics).toEqual(config.statistics);
    const { notes } = checkAutoencoder(file, wanModels["t2v-1.3B"]);
    expect(notes).toEqual([expect.stringMatching(/without latent statistics: the published/)]);
    expect(
      checkAutoencoder(await fileWith("telling", JSON.stringify({ mean, std })), wanModels["t2v-1.3B"]).notes,
    ).toEqual([]);
  });

  it("are refused to be guessed for other latents", async () => {
    const own = vaeConfigFrom({ ...official, z_dim: 8, temperal_downsample: [false, true, true] }, "vae21");
    await writeRandomNetwork(path("eight.safetensors"), vaeShapes(own), 3);
    expect(() => loadVae(device, path("eight.safetensors"), { dtype: "f32" })).toThrow(
      expect.objectContaining({ code: "vae.statistics", message: expect.stringContaining("8 latent channels") }),
    );
  });

  it.each([
    ["no JSON", "{mean"],
    ["too few", JSON.stringify({ mean: mean.slice(1), std })],
    ["a deviation of 0", JSON.stringify({ mean, std: std.map(() => 0) })],
    ["no numbers", JSON.stringify({ mean, std: std.map(String) })],
    ["a number that is none", `{"mean": [${mean.map(() => "1e999")}], "std": [${std}]}`],
  ])("are refused: %s", async (name, json) => {
    const file = await fileWith(name.replaceAll(" ", "-"), json);
    expect(() => loadVae(device, file, { dtype: "f32" })).toThrow(
      expect.objectContaining({ code: "vae.statistics", message: expect.stringContaining(file) }),
    );
  });
});

describe("a config.json beside the weights", () => {
  const sizes = { _class_name: "AutoencoderKLWan", base_dim: 4, z_dim: 16, dim_mult: [1, 2, 4, 4], num_res_blocks: 1 };

  it("gives the statistics, whether the file or its folder is named", async () => {
    const more = { temperal_downsample: [false, true, true], patch_size: null, scale_factor_spatial: 8 };
    const file = await folderWith("vae", { ...sizes, ...more, latents_mean: mean, latents_std: std });
    for (const named of [file, dirname(file)]) {
      using vae = loadVae(device, named, { dtype: "f32" });
      expect(vae.config.statistics).toEqual({ mean, std });
    }
    expect(checkAutoencoder(file, wanModels["t2v-1.3B"]).notes).toEqual([]);
  });

  it.each([
    ["base_dim", 96],
    ["z_dim", 48],
    ["patch_size", 2],
    ["scale_factor_spatial", 16],
    ["scale_factor_temporal", 8],
    ["temperal_downsample", [true, true, false]],
    ["attn_scales", [0.5]],
  ])("is refused where it speaks of another autoencoder: %s", async (key, value) => {
    const file = await folderWith(`other-${key}`, { ...sizes, [key]: value, latents_mean: mean, latents_std: std });
    expect(() => loadVae(device, file, { dtype: "f32" })).toThrow(
      expect.objectContaining({ code: "vae.config", message: expect.stringContaining(key) }),
    );
  });

  it("is refused where it is damaged, and passed over where it is another network's", async () => {
    const broken = await folderWith("broken", "{");
    expect(() => loadVae(device, broken, { dtype: "f32" })).toThrow(expect.objectContaining({ code: "vae.config" }));
    const short = await folderWith("short", { ...sizes, latents_mean: mean.slice(1), latents_std: std });
    expect(() => loadVae(device, short, { dtype: "f32" })).toThrow(
      expect.objectContaining({ code: "vae.statistics", message: expect.stringContaining("config.json") }),
    );
    const half = await folderWith("half", { ...sizes, latents_mean: mean });
    expect(() => loadVae(device, half, { dtype: "f32" })).toThrow(expect.objectContaining({ code: "vae.statistics" }));
    using vae = loadVae(device, await folderWith("dit", { model_type: "t2v", dim: 5120 }), { dtype: "f32" });
    expect(vae.config.statistics).toEqual(config.statistics);
  });
});
