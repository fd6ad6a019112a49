// VAE 2.1 decoding against diffusers, float32 as the official code keeps it.
import { join } from "node:path";
import { relativeError } from "../../scripts/golden/fixture.ts";
import type { Device } from "../../src/device/device.ts";
import { loadVae } from "../../src/models/wan/load.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { fromValues } from "../../src/tensor/tensor.ts";
import { PeerRecord, peerFolder, runPeer } from "../peer.ts";
import { type Row, row, timed } from "./row.ts";

export async function vaeDecode(device: Device, { frames, repeat }: { frames: number; repeat: number }): Promise<Row> {
  const folder = peerFolder("vae21");
  const peer = await runPeer("vae", folder, { frames, repeat });
  using record = new PeerRecord(folder);
  using vae = loadVae(device, join(folder, "model"), { dtype: "f32", half: "decoder" });
  let output = new Float32Array();
  const seconds = await timed(repeat, async () => {
    using _run = openScope(device);
    // diffusers decodes unnormalised latents and clamps.
    const latents = fromValues(device, record.values("z"), record.shape("z"));
    output = (await vae.decode(latents, { normalized: false }).read()) as typeof output;
  });
  return row(`VAE 2.1 decode, 416×240×${frames}, float32`, seconds, peer, relativeError(output, record.values("out")));
}
