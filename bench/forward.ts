// npm run bench:forward -- --model ti2v-5B --size 832*480 --frames 17 [--rounds N]: a full-size DiT forward on random
// weights, and on the cpu device how near it comes to oneDNN's products alone.
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
import { bareProduct, productFlops } from "./bare-product.ts";
import { type Contender, formatRatio, interleaved, load, parseRounds, ratioOf, Times } from "./rounds.ts";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "t2v-1.3B" },
    size: { type: "string", default: "832*480" },
    frames: { type: "string", default: "17" },
    dtype: { type: "string", default: "bf16" },
    device: { type: "string", default: "auto" },
    layers: { type: "string" },
    rounds: { type: "string" },
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
const forward = async () => {
  using _run = openScope(device);
  const output = await transformer.forward({ latents: noise, timesteps: [500], texts: [text] }).read();
  if (!output.every(Number.isFinite)) throw new Error("the forward pass gave NaN or infinity");
};

await forward();
const resident = peakResident();
console.log(
  `peak resident ${formatBytes(resident)} (planned ${formatBytes(plan.held + before)}; ${formatBytes(resident - weights)} above the weights, ${formatBytes(before)} before anything)`,
);
console.log(`peak device   ${formatBytes(device.memory().peak)} (planned ${formatBytes(plan.bytes.peak)})`);

/** The products of one block without biases and activations, by oneDNN alone. */
function blockProducts(): { run: Contender; flops: number } & Disposable {
  const { dim, ffnDim } = config;
  const widths = [...Array<[number, number]>(6).fill([dim, dim]), [dim, ffnDim], [ffnDim, dim]] as const;
  const shapes = widths.map(([inputs, outputs]) => ({ rows: tokens, inputs, outputs, dtype }) as const);
  const products = shapes.map(bareProduct);
  return {
    run() {
      for (const product of products) product.run();
    },
    flops: shapes.reduce((sum, shape) => sum + productFlops(shape), 0),
    [Symbol.dispose]() {
      for (const product of products) product[Symbol.dispose]();
    },
  };
}

const gigaflops = (flops: number, { median }: Times) => `${(flops / median / 1e9).toFixed(0)} GFLOP/s`;
const describe = (times: Times) =>
  `${times}, ${formatFlops(plan.flops.forward)}, ${gigaflops(plan.flops.forward, times)}`;
// A single round serves those who ask for memory alone.
const rounds = parseRounds(values.rounds, 1);
if (device.name === "cpu") {
  using products = blockProducts();
  const times = await interleaved({ products: products.run, forward }, rounds);
  // Both as seconds a FLOP: their ratio is the share of the products' rate.
  const perFlop = (seconds: Times, flops: number) => new Times(seconds.seconds.map((value) => value / flops));
  const share = ratioOf(perFlop(times.products, products.flops), perFlop(times.forward, plan.flops.forward));
  console.log(`forward       ${describe(times.forward)}`);
  console.log(
    `products      ${gigaflops(products.flops, times.products)} alone; the forward's share ${formatRatio(share)}`,
  );
} else console.log(`forward       ${describe((await interleaved({ forward }, rounds)).forward)}`);
console.log(`${rounds} rounds, ${load()}`);
