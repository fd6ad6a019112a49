// npm run bench:forward -- --model ti2v-5B --size 832*480 --frames 17: one full-size DiT forward on random weights.
import { parseArgs } from "node:util";
import { formatBytes, formatFlops } from "../src/base/units.ts";
import { parseSize, parseWholeNumber } from "../src/cli/parse.ts";
import { openDevice } from "../src/device/open-device.ts";
import { WanDit } from "../src/models/wan/dit/dit.ts";
import { planForward } from "../src/models/wan/forward-cost.ts";
import { latentSize } from "../src/models/wan/geometry.ts";
import { type WanModel, wanModels } from "../src/models/wan/params.ts";
import { RandomWeights } from "../src/nn/random-weights.ts";
import { findModel } from "../src/protocol/model-media.ts";
import { openScope } from "../src/tensor/scope.ts";
import { empty } from "../src/tensor/tensor.ts";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "t2v-1.3B" },
    size: { type: "string", default: "832*480" },
    frames: { type: "string", default: "17" },
    dtype: { type: "string", default: "bf16" },
    device: { type: "string", default: "auto" },
    layers: { type: "string" },
    runs: { type: "string", default: "1" },
  },
});

const model: WanModel = wanModels[findModel(values.model)];
const size = { ...parseSize(values.size), frames: parseWholeNumber("--frames", values.frames) };
const dtype = values.dtype === "f32" ? "f32" : "bf16";
const config = values.layers ? { ...model.dit, layers: parseWholeNumber("--layers", values.layers) } : model.dit;
const { device, descriptor } = await openDevice(values.device as "auto");
const { memoryModel } = descriptor;
const plan = planForward({ ...model, dit: config }, size, { dtype, memoryModel });
const { shape, tokens } = latentSize(model, size);
console.log(
  `${model.name}, ${config.layers} layers, ${size.width}×${size.height}×${size.frames} = ${tokens} tokens, ${dtype}, device ${device.name}`,
);

const peakResident = () => process.resourceUsage().maxRSS * 1024;
const timed = <T>(body: () => T): [T, number] => {
  const started = performance.now();
  const result = body();
  return [result, (performance.now() - started) / 1000];
};

const before = peakResident();
const [transformer, drawing] = timed(
  () => new WanDit(new RandomWeights(device, { seed: 1n, pack: true, tiled: true }), config, { dtype }),
);
using _transformer = transformer;
const weights = device.memory().live;
console.log(`weights       ${formatBytes(weights)}, drawn in place in ${drawing.toFixed(1)} s`);

using _scope = openScope(device);
const noise = empty(device, [1, config.inputChannels, ...shape.slice(1)], "f32");
device.kernels.normal(noise, { seed: 2n, stream: 0, offset: 0 });
const text = empty(device, [config.textLength, config.textDim], "f32");
device.kernels.normal(text, { seed: 2n, stream: 1, offset: 0 });
for (let run = 0; run < parseWholeNumber("--runs", values.runs); run++) {
  const started = performance.now();
  using _run = openScope(device);
  const output = await transformer.forward({ latents: noise, timesteps: [500], texts: [text] }).read();
  const seconds = (performance.now() - started) / 1000;
  if (!output.every(Number.isFinite)) throw new Error("the forward pass gave NaN or infinity");
  console.log(
    `forward       ${seconds.toFixed(2)} s, ${formatFlops(plan.flops.forward)}, ${(plan.flops.forward / seconds / 1e9).toFixed(0)} GFLOP/s`,
  );
}
const resident = peakResident();
console.log(
  `peak resident ${formatBytes(resident)} (planned ${formatBytes(plan.held + before)}; ${formatBytes(resident - weights)} above the weights, ${formatBytes(before)} before anything)`,
);
console.log(`peak device   ${formatBytes(device.memory().peak)} (planned ${formatBytes(plan.bytes.peak)})`);
