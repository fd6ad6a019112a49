// What the scripts that train kinora-tiny share: a run that is saved, goes on where it was, follows a rate schedule and
// keeps its curve.
import { appendFileSync, existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { formatSeconds } from "../../src/base/units.ts";
import type { Device } from "../../src/device/device.ts";
import { SafetensorsFile } from "../../src/io/safetensors.ts";
import { writeSafetensors } from "../../src/io/safetensors-writer.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { globalNorm, type Optimizer } from "../../src/train/optimizers/optimizer.ts";

export interface RunOptions {
  device: Device;
  folder: string;
  name: string;
  steps: number;
  /** Stops after this long, to go on another time. */
  minutes: number;
  rate: number;
  optimizer: Optimizer;
  parameters: ReadonlyMap<string, Tensor>;
  /** Stops behind the step at hand, as Ctrl-C does; the state is saved. */
  signal?: AbortSignal;
  /** Moving averages of the parameters, where the run keeps them. */
  averages?: ReadonlyMap<string, Tensor>;
}

/** What one step reports; `loss` is smoothed for the log. */
export interface StepReport {
  loss: number;
  [figure: string]: number;
}

const SAVE_MINUTES = 3;
const WARM_UP = 100;

/** Runs `step` until the end of the schedule or of the time. Rate: warm-up, then a cosine to a twentieth. */
export async function trainRun(
  options: RunOptions,
  step: (index: number) => Promise<StepReport>,
  afterUpdate: (index: number) => void = () => {},
): Promise<void> {
  const { device, folder, name, steps, optimizer } = options;
  mkdirSync(folder, { recursive: true });
  const state = join(folder, `${name}.safetensors`);
  const log = join(folder, `${name}.jsonl`);
  const tensors = new Map<string, Tensor>([
    ...options.parameters,
    ...prefixed("average", options.averages ?? new Map()),
    ...prefixed("optimizer", optimizer.state().tensors),
  ]);
  if (existsSync(state)) {
    using file = SafetensorsFile.open(state);
    for (const [key, tensor] of tensors) tensor.writeBytes(file.bytes(key));
    optimizer.restore({ step: Number(file.metadata.step) });
  }
  const save = async () => {
    const entries = [];
    for (const [key, tensor] of tensors) {
      entries.push({ name: key, dtype: tensor.dtype, shape: tensor.shape, bytes: await tensor.readBytes() });
    }
    await writeSafetensors(state, entries, { step: String(optimizer.step) });
  };
  let stopped = false;
  const stop = () => {
    stopped = true;
  };
  process.once("SIGINT", stop);
  const started = performance.now();
  const minutes = () => (performance.now() - started) / 60_000;
  const first = optimizer.step;
  console.log(`${name}: from step ${first} of ${steps}`);
  let smoothed: number | undefined;
  let saved = 0;
  while (optimizer.step < steps && minutes() < options.minutes && !stopped && !options.signal?.aborted) {
    // Signals arrive only between turns of the event loop, and a step on the cpu device takes none.
    await nextTurn();
    const index = optimizer.step;
    const report = await step(index);
    const norm = await globalNorm(device, options.parameters);
    const cosine = 0.05 + 0.475 * (1 + Math.cos((Math.PI * index) / steps));
    const rate = options.rate * Math.min(1, (index + 1) / WARM_UP) * cosine;
    await optimizer.update(rate, Math.min(1, 1 / norm));
    afterUpdate(index);
    smoothed = smoothed === undefined ? report.loss : 0.98 * smoothed + 0.02 * report.loss;
    if (index % 20 === 0) {
      const row = { step: index, ...report, smoothed, norm, rate, minutes: minutes() };
      appendFileSync(log, `${JSON.stringify(row)}\n`);
      const left = (minutes() / (index + 1 - first)) * (steps - index);
      const figures = Object.entries(report).map(([key, value]) => `${key} ${value.toFixed(4)}`);
      console.log(
        `step ${index}  smoothed ${smoothed.toFixed(4)}  ${figures.join("  ")}  norm ${norm.toFixed(2)}  ${formatSeconds(minutes() * 60)}, ${formatSeconds(left * 60)} left`,
      );
    }
    if (minutes() - saved > SAVE_MINUTES) {
      await save();
      saved = minutes();
    }
  }
  process.off("SIGINT", stop);
  await save();
}

const prefixed = (prefix: string, tensors: ReadonlyMap<string, Tensor>): [string, Tensor][] =>
  [...tensors].map(([key, tensor]) => [`${prefix}:${key}`, tensor]);
