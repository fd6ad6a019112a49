// UMT5 at its full width (fewer layers and words where memory or patience is short) against transformers.
import { join } from "node:path";
import { relativeError } from "../../scripts/golden/fixture.ts";
import type { Device } from "../../src/device/device.ts";
import { loadTextEncoder } from "../../src/models/wan/load.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { Peer, PeerRecord, peerFolder } from "../peer.ts";
import { compare, type Pace, type Row } from "./row.ts";

export async function textEncoder(device: Device, { layers, ...pace }: { layers: number } & Pace): Promise<Row> {
  const folder = peerFolder(`umt5-${layers}`);
  await using peer = await Peer.start("umt5", folder, { layers });
  using record = new PeerRecord(folder);
  using encoder = loadTextEncoder(device, join(folder, "model"), { dtype: "bf16", pack: true });
  const ids = Int32Array.from(record.values("ids"));
  let output = new Float32Array();
  const ours = async () => {
    using _run = openScope(device);
    output = (await encoder.encode(ids).read()) as typeof output;
  };
  return await compare(
    `UMT5, ${layers} layers of XXL, 512 tokens, bf16`,
    pace,
    () => peer.turn(),
    ours,
    () => ({
      difference: relativeError(output, record.values("out")),
    }),
  );
}
