// npm run bench [-- CASE…] [--quick] [--rounds N]: our figure and the peer's from one run, in turn, as a ratio.
import { availableParallelism, cpus } from "node:os";
import { parseArgs } from "node:util";
import { openDevice } from "../src/device/open-device.ts";
import { vaeDecode } from "./cases/autoencoder.ts";
import { format, type Row } from "./cases/row.ts";
import { stableDiffusionCpp } from "./cases/stable-diffusion-cpp.ts";
import { textEncoder } from "./cases/text-encoder.ts";
import { forward, loraStep } from "./cases/transformer.ts";
import { benchMatmul } from "./matmul.ts";
import { peerHint, peerInstalled } from "./peer.ts";
import { load, parseRounds } from "./rounds.ts";
import { findStableDiffusionCpp, stableDiffusionCppHint } from "./stable-diffusion-cpp.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: "boolean", default: false }, rounds: { type: "string" } },
});
const rounds = parseRounds(values.rounds);
const layers = values.quick ? 3 : 30;
const { device } = await openDevice("cpu");

const python = () => (peerInstalled() ? undefined : `the peer is not installed; ${peerHint}`);
const sdCpp = () =>
  findStableDiffusionCpp() ? undefined : `stable-diffusion.cpp is not here; ${stableDiffusionCppHint}`;

interface Case {
  /** Why it cannot be run here. */
  missing?: () => string | undefined;
  run(): Promise<Row | undefined>;
}

/** Over in a moment, so more at a time. */
const tiny = { model: "tiny-t2v", layers: 3, frames: 9, rounds, passes: 20 } as const;

const cases: Record<string, Case> = {
  matmul: { run: async () => void (await benchMatmul(device, rounds)) },
  forward: { missing: python, run: () => forward(device, { model: "t2v-1.3B", layers, frames: 17, rounds }) },
  lora: { missing: python, run: () => loraStep(device, { model: "t2v-1.3B", layers, frames: 9, rounds }) },
  "tiny-forward": { missing: python, run: () => forward(device, tiny) },
  "tiny-lora": { missing: python, run: () => loraStep(device, tiny) },
  umt5: { missing: python, run: () => textEncoder(device, { layers: values.quick ? 2 : 8, rounds }) },
  vae: { missing: python, run: () => vaeDecode(device, { frames: values.quick ? 5 : 9, rounds }) },
  "stable-diffusion.cpp": {
    missing: sdCpp,
    run: () => {
      const size = values.quick ? { width: 416, height: 240, frames: 5 } : { width: 832, height: 480, frames: 17 };
      return stableDiffusionCpp(device, { size, rounds });
    },
  },
};
const known = Object.keys(cases);
const wanted = positionals.length > 0 ? positionals : known;
const unknown = wanted.filter((name) => !known.includes(name));
if (unknown.length > 0) {
  console.error(`no such bench: ${unknown.join(", ")}; there are ${known.join(", ")}`);
  process.exit(2);
}

console.log(`${cpus()[0]?.model}, ${availableParallelism()} threads, Node ${process.version}, ${load()}`);
for (const name of wanted) {
  const { missing, run } = cases[name]!;
  const reason = missing?.();
  if (reason) {
    console.log(`${name}: ${reason}`);
    continue;
  }
  const row = await run();
  if (row) console.log(format(row));
  device.trim();
}
