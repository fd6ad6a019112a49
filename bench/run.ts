// npm run bench [-- CASE…] [--quick] [--repeat N]: our figure and the peer's from one run, as a ratio.
import { availableParallelism, cpus } from "node:os";
import { parseArgs } from "node:util";
import { openDevice } from "../src/device/open-device.ts";
import { vaeDecode } from "./cases/autoencoder.ts";
import { format, type Row } from "./cases/row.ts";
import { textEncoder } from "./cases/text-encoder.ts";
import { forward, loraStep } from "./cases/transformer.ts";
import { benchMatmul } from "./matmul.ts";
import { peerHint, peerInstalled } from "./peer.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: "boolean", default: false }, repeat: { type: "string", default: "2" } },
});
const repeat = Number(values.repeat);
const layers = values.quick ? 3 : 30;
const { device } = await openDevice("cpu");

const peers: Record<string, () => Promise<Row>> = {
  forward: () => forward(device, { model: "t2v-1.3B", layers, frames: 17, repeat }),
  lora: () => loraStep(device, { model: "t2v-1.3B", layers, frames: 9, repeat }),
  // Over in a moment, so more often.
  "tiny-forward": () => forward(device, { model: "tiny-t2v", layers: 3, frames: 9, repeat: 20 * repeat }),
  "tiny-lora": () => loraStep(device, { model: "tiny-t2v", layers: 3, frames: 9, repeat: 20 * repeat }),
  umt5: () => textEncoder(device, { layers: values.quick ? 2 : 8, repeat }),
  vae: () => vaeDecode(device, { frames: values.quick ? 5 : 9, repeat }),
};
const known = ["matmul", ...Object.keys(peers)];
const wanted = positionals.length > 0 ? positionals : known;
const unknown = wanted.filter((name) => !known.includes(name));
if (unknown.length > 0) {
  console.error(`no such bench: ${unknown.join(", ")}; there are ${known.join(", ")}`);
  process.exit(2);
}

console.log(`${cpus()[0]?.model}, ${availableParallelism()} threads, Node ${process.version}`);
if (wanted.includes("matmul")) await benchMatmul();
for (const name of wanted) {
  const run = peers[name];
  if (!run) continue;
  if (!peerInstalled()) {
    console.log(`${name}: the peer is not installed; ${peerHint}`);
    continue;
  }
  console.log(format(await run()));
}
