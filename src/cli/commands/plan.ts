// kinora plan: what a forward pass or a whole training run costs, before anything loads.
import { KinoraError } from "../../base/errors.ts";
import { finished } from "../../base/generators.ts";
import { formatBytes, formatCount, formatFlops, formatInteger, formatSeconds } from "../../base/units.ts";
import { descriptorOf, openDevice } from "../../device/open-device.ts";
import { measureSpeed, secondsOf } from "../../device/speed.ts";
import { type ForwardPlan, planForward } from "../../models/wan/forward-cost.ts";
import { type WanModel, wanModels } from "../../models/wan/params.ts";
import { findModel } from "../../protocol/model-media.ts";
import { readTrainConfig, type SettledConfig } from "../../train/config/read.ts";
import { planRun, type RunPlan } from "../../train/plan/run-plan.ts";
import { command } from "../command.ts";
import { parseChoice, parseSize, parseWholeNumber } from "../parse.ts";
import { tellProbing } from "../progress.ts";
import type { Printer } from "../terminal.ts";
import { onlyFile, parseOverride } from "./train.ts";

export const planCommand = command({
  name: "plan",
  usage: "CONFIG.toml | --model MODEL [--size W*H] [--frames F]",
  options: {
    model: { type: "string", value: "MODEL", help: `one of ${Object.keys(wanModels).join(", ")}` },
    size: { type: "string", value: "W*H", help: "pixels; the model's usual size where absent" },
    frames: { type: "string", value: "F", help: "frames, 4n + 1; the model's usual count where absent" },
    dtype: { type: "string", value: "bf16|f32", default: "bf16", help: "what the weights and large products are in" },
    set: { type: "string", value: "KEY=VALUE", multiple: true, help: "for a configuration: as in kinora train" },
    tflops: {
      type: "string",
      value: "T",
      help: "for a configuration: estimate time for a device of this speed instead of measuring this one",
    },
  },
  details: `
With a training configuration: device memory of every bucket and phase, arithmetic of a step, and hours, from its data
set and the headers of its checkpoints. Time goes by a second's measurement of the device, or by --tflops (what the
device reaches in products, not its data sheet); it leaves out reading and decoding the clips.

With --model: one forward pass.
Counts the same code that runs, on a device that allocates nothing. FLOPs count a multiply-add as two; bytes are exact
for tensors and do not count the text encoder, the autoencoder or the process itself.`,
  async run(values, positionals, out) {
    if (positionals.length > 0) return planTraining(onlyFile(positionals), values, out);
    if (values.model === undefined) {
      throw new KinoraError("cli.missing-option", "kinora plan needs a configuration or --model", {
        hint: `one of ${Object.keys(wanModels).join(", ")}`,
      });
    }
    const model: WanModel = wanModels[findModel(values.model)];
    const { defaults } = model;
    const { width, height } = values.size === undefined ? defaults : parseSize(values.size);
    const frames = values.frames === undefined ? defaults.frames : parseWholeNumber("--frames", values.frames);
    const dtype = parseChoice("--dtype", values.dtype, ["bf16", "f32"]);
    const plan = planForward(model, { width, height, frames }, { dtype });
    const header = { model: model.name, size: { width, height }, frames, dtype };
    out.answer({ ...header, ...plan }, () => describe(plan, header, defaults.steps));
    return 0;
  },
});

function describe(
  plan: ForwardPlan,
  {
    model,
    size,
    frames,
    dtype,
  }: { model: string; size: { width: number; height: number }; frames: number; dtype: string },
  steps: number,
): string {
  const { bytes } = plan;
  const rows = [
    [
      "parameters",
      `${formatCount(plan.parameters)}${plan.experts === 2 ? " each of two experts; one is needed at a time" : ""}`,
    ],
    ["tokens", formatInteger(plan.tokens)],
    [
      "forward",
      `${formatFlops(plan.flops.forward)} (${steps} steps with guidance: ${formatFlops(plan.flops.forward * steps * 2)})`,
    ],
    ["peak memory", formatBytes(bytes.peak)],
    ["  weights", formatBytes(bytes.weights)],
    ["  activations", formatBytes(bytes.activations)],
    ...(bytes.workspace > 0 ? [["  workspace", formatBytes(bytes.workspace)]] : []),
  ];
  const lines = rows.map(([name, value]) => `  ${name!.padEnd(14)} ${value}`);
  return `${model} at ${size.width}×${size.height}, ${frames} frames, ${dtype}\n${lines.join("\n")}`;
}

async function planTraining(
  file: string,
  values: { set: string[]; tflops: string | undefined },
  out: Printer,
): Promise<number> {
  const config = await readTrainConfig(file, values.set.map(parseOverride));
  for (const note of config.notes) out.note(`note: ${note}`);
  const plan = await finished(planRun(config.settings, (await descriptorOf(config.device)).memoryModel), (event) => {
    if (event.type === "planned") out.progress(`counting size ${event.done} of ${event.of}`);
    else if (event.type === "dataset") tellProbing(event.event, out);
  });
  const speed = await speedOf(config, values.tflops);
  const seconds = {
    step: secondsOf(plan.step, speed.speed),
    phases: Object.fromEntries(plan.phases.map(({ name, work }) => [name, secondsOf(work, speed.speed)])),
  };
  const total = Object.entries(seconds.phases).reduce((sum, [name, s]) => sum + (name === "previews" ? 0 : s), 0);
  out.answer({ ...plan, speed, seconds: { ...seconds, total } }, () =>
    describeRun(plan, config, speed, { ...seconds, total }),
  );
  return 0;
}

interface PlannedSpeed {
  device: string;
  speed: Awaited<ReturnType<typeof measureSpeed>>;
}

async function speedOf({ settings, device: choice }: SettledConfig, tflops: string | undefined): Promise<PlannedSpeed> {
  if (tflops !== undefined) {
    const value = Number(tflops);
    if (!(value > 0))
      throw new KinoraError("cli.bad-number", "--tflops is wrong", {
        expected: "a positive number",
        actual: tflops,
        hint: "e.g. --tflops 150",
      });
    // A byte of memory for 200 operations, a launch in ten microseconds: the proportions of today's accelerators.
    return {
      device: `a device of ${value} TFLOP/s`,
      speed: { flopsPerSecond: value * 1e12, bytesPerSecond: (value * 1e12) / 200, secondsPerCall: 1e-5 },
    };
  }
  const { device, descriptor } = await openDevice(choice);
  try {
    return {
      device: `this machine's ${device.name} device`,
      speed: await measureSpeed(device, settings.dtype, descriptor.speedSizes),
    };
  } finally {
    device[Symbol.dispose]();
  }
}

function describeRun(
  plan: RunPlan,
  { settings }: SettledConfig,
  { device, speed }: PlannedSpeed,
  seconds: { step: number; phases: Record<string, number>; total: number },
): string {
  const experts = settings.experts.train.length > 1 ? " in each of two experts, one in memory at a time" : "";
  const sizes = plan.buckets.map(
    ({ width, height, frames, batch, tokens, peak, work, batches }) =>
      `  ${`${width}x${height}x${frames}`.padEnd(14)} batch ${batch}  ${formatInteger(tokens).padStart(8)} tokens  ${formatBytes(peak).padStart(8)}  ${formatFlops(work.flops).padStart(12)} a batch  ${batches} batches`,
  );
  const worst = plan.buckets.reduce((a, b) => (b.peak > a.peak ? b : a));
  const categories = Object.entries(worst.bytes)
    .filter(([, bytes]) => bytes > 0)
    .map(([name, bytes]) => `${name} ${formatBytes(bytes)}`);
  const phases = plan.phases.map(
    ({ name, peak }) =>
      `  ${name.padEnd(14)} ${formatBytes(peak).padStart(8)}  about ${formatSeconds(seconds.phases[name]!)}${name === "previews" ? " each time" : ""}`,
  );
  return [
    `${settings.name}: ${settings.kind === "lora" ? `LoRA of rank ${settings.lora.rank}` : "full fine-tune"} on ${plan.model}, ${plan.steps} steps`,
    `  ${formatCount(plan.trained)} parameters train${experts}`,
    "",
    "sizes",
    ...sizes,
    "",
    "device memory",
    `  at most        ${formatBytes(plan.peak)}`,
    `  in training    ${categories.join(", ")} (each at its own most)`,
    ...phases,
    `host memory beside it: about ${formatBytes(plan.host)}`,
    ...(plan.resident > plan.peak
      ? [
          `with the pages of weight files that are read in place, which the system may drop: ${formatBytes(plan.resident + plan.host)} resident`,
        ]
      : []),
    "",
    `arithmetic of a step: ${formatFlops(plan.step.flops)} on average`,
    `time on ${device} (${formatFlops(speed.flopsPerSecond)}/s in products): about ${formatSeconds(seconds.step)} a step, ${formatSeconds(seconds.total)} in all`,
    ...plan.assumed.map((text) => `note: ${text}`),
  ].join("\n");
}
