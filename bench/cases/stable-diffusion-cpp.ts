// The 1.3B's forward pass against stable-diffusion.cpp, random weights of the official layout on both sides. Times alone:
// the program hands no velocity over.
import { join } from "node:path";
import type { Device } from "../../src/device/device.ts";
import { planForward } from "../../src/models/wan/forward-cost.ts";
import { latentSize, type VideoSize } from "../../src/models/wan/geometry.ts";
import { loadDit } from "../../src/models/wan/load.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import { vaeConfigs } from "../../src/models/wan/vae/config.ts";
import { ditShapes, vaeShapes } from "../../src/models/wan/weight-shapes.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { empty } from "../../src/tensor/tensor.ts";
import { writeNetwork } from "../full-size-checkpoint.ts";
import { peerFolder } from "../peer.ts";
import { findStableDiffusionCpp, sampleByStableDiffusionCpp } from "../stable-diffusion-cpp.ts";
import { compare, type Pace, type Row } from "./row.ts";

export async function stableDiffusionCpp(device: Device, { size, ...pace }: { size: VideoSize } & Pace): Promise<Row> {
  const model = wanModels["t2v-1.3B"];
  const folder = peerFolder("stable-diffusion.cpp");
  const transformer = join(folder, "transformer.safetensors");
  const autoencoder = join(folder, "Wan2.1_VAE.safetensors");
  await writeNetwork(transformer, ditShapes(model.dit), "bf16");
  await writeNetwork(autoencoder, vaeShapes(vaeConfigs.vae21), "bf16");
  const film = { transformer, autoencoder, ...size, out: join(folder, "film.avi") };
  const program = findStableDiffusionCpp()!;
  using dit = loadDit(device, transformer, { dtype: "bf16", pack: true });
  using _scope = openScope(device);
  const { shape } = latentSize(model, size);
  const latents = empty(device, [1, ...shape], "f32");
  device.kernels.normal(latents, { seed: 1n, stream: 0, offset: 0 });
  const text = empty(device, [model.dit.textLength, model.dit.textDim], "bf16");
  device.kernels.fill(text, 0);
  const ours = async () => {
    using _run = openScope(device);
    await dit.forward({ latents, timesteps: [500], texts: [text] }).read();
  };
  const { flops } = planForward(model, size, { dtype: "bf16" });
  const name = `t2v-1.3B forward, ${size.width}×${size.height}×${size.frames}, bf16, stable-diffusion.cpp`;
  return await compare(
    name,
    pace,
    () => sampleByStableDiffusionCpp(program, film),
    ours,
    () => ({
      flops: flops.forward,
    }),
  );
}
