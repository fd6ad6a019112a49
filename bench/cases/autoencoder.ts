// VAE 2.1 decoding against diffusers, float32 as the official code keeps it.
import { join } from "node:path";
import { relativeError } from "../../scripts/golden/fixture.ts";
import type { Device } from "../../src/device/device.ts";
import { loadVae } from "../../src/models/wan/load.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { fromValues } from "../../src/tensor/tensor.ts";
import { Peer, PeerRecord, peerFolder } from "../peer.ts";
import { compare, type Pace, type Row } from "./row.ts";

export async function vaeDecode(device: Device, { frames, ...pace }: { frames: number } & Pace): Promise<Row> {
  const folder = peerFolder("vae21");
  await using peer = await Peer.start("vae", folder, { frames });
  using record = new PeerRecord(folder);
  using vae = loadVae(device, join(folder, "model"), { dtype: "f32", half: "decoder" });
  let output = new Float32Array();
  const ours = async () => {
    using _run = openScope(device);
    // diffusers decodes unnormalised latents and clamps.
    const latents = fromValues(device, record.values("z"), record.shape("z"));
    output = (await vae.decode(latents, { normalized: false }).read()) as typeof output;
  };
  return await compare(
    `VAE 2.1 decode, 416×240×${frames}, float32`,
    pace,
    () => peer.turn(),
    ours,
    () => ({
      difference: relativeError(output, record.values("out")),
    }),
  );
}
