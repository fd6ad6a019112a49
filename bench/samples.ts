// npm run bench:samples [-- --rounds N]: what making a training sample costs the host, in plain loops (as it was done
// once) and by kernels; on the cpu device, where the kernels run on the same cores, and on the null device, which shows
// what is left for the host beside a device of its own.
import { parseArgs } from "node:util";
import { philoxNormals } from "../src/base/rng/philox-rng.ts";
import { elementCount } from "../src/base/shape.ts";
import type { Device } from "../src/device/device.ts";
import { createNullDevice } from "../src/device/null/null-device.ts";
import { openDevice } from "../src/device/open-device.ts";
import { pictureCondition } from "../src/models/wan/conditioning.ts";
import { latentSize } from "../src/models/wan/geometry.ts";
import { wanModels } from "../src/models/wan/params.ts";
import { openScope } from "../src/tensor/scope.ts";
import { empty, fromValues } from "../src/tensor/tensor.ts";
import { drawNoise } from "../src/train/step/draws.ts";
import { velocityTarget } from "../src/train/step/flow-matching.ts";
import { trainingInput } from "../src/train/step/model-input.ts";
import { interleaved, load, parseRounds } from "./rounds.ts";

const { values } = parseArgs({ options: { rounds: { type: "string" } } });
const rounds = parseRounds(values.rounds);

type LatentShape = readonly [channels: number, frames: number, height: number, width: number];

/** The same on the host: noise, x_t, the condition behind it, the target; then both handed to the device. */
function byLoops(device: Device, clean: Float32Array, encoded: Float32Array | undefined, shape: LatentShape): void {
  using _scope = openScope(device);
  const count = clean.length;
  const noise = new Float32Array(count);
  philoxNormals(5n, 0, 0, noise);
  const noisy = new Float32Array(count);
  for (let i = 0; i < count; i++) noisy[i] = 0.3 * clean[i]! + 0.7 * noise[i]!;
  let input = noisy;
  const channels = encoded ? 2 * shape[0] + 4 : shape[0];
  if (encoded) {
    const volume = count / shape[0];
    input = new Float32Array(channels * volume);
    input.set(noisy);
    for (let c = 0; c < 4; c++) input.fill(1, count + c * volume, count + c * volume + shape[2] * shape[3]);
    input.set(encoded, count + 4 * volume);
  }
  const target = new Float32Array(count);
  for (let i = 0; i < count; i++) target[i] = noise[i]! - clean[i]!;
  fromValues(device, input, [1, channels, ...shape.slice(1)]);
  fromValues(device, target, shape);
}

function byKernels(device: Device, shape: LatentShape, conditioned: boolean): void {
  using _scope = openScope(device);
  const clean = empty(device, shape, "f32");
  const noise = drawNoise(device, 5n, "noise", shape, { index: 0 });
  const condition = conditioned ? pictureCondition("channels", empty(device, shape, "f32")) : {};
  trainingInput(device, [{ clean, noise, sigma: 0.7, text: clean, condition }], 2);
  velocityTarget(clean, noise);
}

const { device } = await openDevice("auto");
const nothing = createNullDevice();
console.log(`milliseconds a sample, median of ${rounds} rounds, ${load()}\n`);
console.log("| sample | loops on the host | kernels, cpu device | of them normal | host beside another device |");
console.log("|---|---:|---:|---:|---:|");
for (const [name, width, height, frames] of [
  ["t2v-A14B", 832, 480, 81],
  ["t2v-A14B", 1280, 720, 81],
  ["i2v-A14B", 1280, 720, 81],
  ["ti2v-5B", 1280, 704, 121],
] as const) {
  const model = wanModels[name];
  const { shape } = latentSize(model, { width, height, frames });
  const count = elementCount(shape);
  const conditioned = model.image === "channels";
  const clean = new Float32Array(count).fill(0.5);
  const times = await interleaved(
    {
      loops: () => byLoops(device, clean, conditioned ? clean : undefined, shape),
      kernels: () => byKernels(device, shape, conditioned),
      normal: () => {
        using _scope = openScope(device);
        drawNoise(device, 5n, "noise", shape, { index: 0 });
      },
      host: () => byKernels(nothing, shape, conditioned),
    },
    rounds,
  );
  const cells = [times.loops, times.kernels, times.normal].map(({ median }) => (1000 * median).toFixed(0));
  const host = (1000 * times.host.median).toFixed(2);
  console.log(`| ${name} ${width}×${height}×${frames} | ${cells.join(" | ")} | ${host} |`);
}
device[Symbol.dispose]();
