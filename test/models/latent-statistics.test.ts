// Autoencoders that carry the statistics of their latents in their file: used both ways, refused where broken.
import { afterAll, describe, expect, it } from "vitest";
import { openDevice } from "../../src/device/open-device.ts";
import { SafetensorsFile } from "../../src/io/safetensors.ts";
import { writeSafetensors } from "../../src/io/safetensors-writer.ts";
import { loadVae } from "../../src/models/wan/load.ts";
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

  it("are the published ones where the file says nothing", async () => {
    using vae = loadVae(device, await fileWith("silent"), { dtype: "f32" });
    expect(vae.config.statistics).toEqual(config.statistics);
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
