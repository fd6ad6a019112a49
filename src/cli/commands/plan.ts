// kinora plan: what a forward pass or a whole training run costs, before anything loads.
import { KinoraError } from "../../base/errors.ts";
import { formatBytes, formatCount, formatFlops, formatInteger, formatSeconds } from "../../base/units.ts";
import type { ResultOf } from "../../jobs/table.ts";
import { modelNames } from "../../protocol/model-media.ts";
import { command } from "../command.ts";
import { follow, perform, STOPPED } from "../follow.ts";
import { parseChoice, parseNumber, parseSize, parseWholeNumber } from "../parse.ts";
import { tellProbing } from "../progress.ts";
import type { Printer } from "../terminal.ts";
import { onlyFile, parseOverride } from "./train.ts";

export const planCommand = command({
  name: "plan",
  usage: "CONFIG.toml | --model MODEL [--size W*H] [--frames F]",
  options: {
    model: { type: "string", value: "MODEL", help: `one of ${modelNames.join(", ")}` },
    size: { type: "string", value: "W*H", help: "pixels (default: the model's usual size)" },
    frames: { type: "string", value: "F", help: "frames, 4n + 1 (default: the model's usual count)" },
    dtype: { type: "string", value: "bf16|f32", default: "bf16", help: "dtype of the weights and large products" },
    set: {
      type: "string",
      value: "KEY=VALUE",
      multiple: true,
      help: "for a configuration: override a setting, as in kinora train",
    },
    tflops: {
      type: "string",
      value: "T",
      help: "for a configuration: assume this speed instead of measuring this device",
    },
  },
  details: `
With a training configuration: device memory by bucket and phase, arithmetic per step, and hours, from the dataset
and the checkpoint headers. Time is based on a one-second measurement of the device, or on --tflops (what the
device reaches in matrix products, not its data sheet); reading and decoding clips is not included.

With --model: one forward pass.
Runs the same code on a device that only counts. FLOPs count a multiply-add as two; bytes are exact for
tensors and leave out the text encoder, the autoencoder and the process itself.`,
  async run(values, positionals, out) {
    if (positionals.length > 0) return planTraining(onlyFile(positionals), values, out);
    if (values.model === undefined) {
      throw new KinoraError("cli.missing-option", "kinora plan needs a configuration or --model", {
        hint: `one of ${modelNames.join(", ")}`,
      });
    }
    const plan = await perform(out, "plan-forward", {
      model: values.model,
      size: values.size === undefined ? undefined : parseSize(values.size),
      frames: values.frames === undefined ? undefined : parseWholeNumber("--frames", values.frames),
      dtype: parseChoice("--dtype", values.dtype, ["bf16", "f32"]),
    });
    out.answer(plan, () => describe(plan));
    return 0;
  },
});

function describe(plan: ResultOf<"plan-forward">): string {
  const { model, size, frames, dtype, steps } = plan;
  const { bytes } = plan;
  const rows = [
    [
      "parameters",
      `${formatCount(plan.parameters)}${plan.experts === 2 ? " in each of two experts, loaded one at a time" : ""}`,
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
  const tflops = values.tflops === undefined ? undefined : parseNumber("--tflops", values.tflops);
  if (tflops !== undefined && tflops <= 0)
    throw new KinoraError("cli.bad-number", "--tflops is invalid", {
      expected: "a positive number",
      actual: values.tflops,
      hint: "e.g. --tflops 150",
    });
  const request = { config: file, set: values.set.map(parseOverride), tflops };
  const plan = await follow(out, "plan-run", request, {
    show(event) {
      if (event.type === "note") out.say(`note: ${event.text}`);
      else if (event.type === "planned") out.progress(`counting size ${event.done} of ${event.of}`);
      else tellProbing(event.event, out);
    },
    until: () => "this size",
    stopped: () => ({ value: { stopped: true }, text: "stopped" }),
  });
  if (!plan) return STOPPED;
  out.answer(plan, () => describeRun(plan));
  return 0;
}

function describeRun(plan: ResultOf<"plan-run">): string {
  const { device, speed } = plan.speed;
  const { seconds } = plan;
  const experts = plan.experts > 1 ? " in each of two experts, loaded one at a time" : "";
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
    `${plan.name}: ${plan.what} on ${plan.model}, ${plan.steps} steps`,
    `  ${formatCount(plan.trained)} parameters train${experts}`,
    "",
    "sizes",
    ...sizes,
    "",
    "device memory",
    `  at most        ${formatBytes(plan.peak)}`,
    `  in training    ${categories.join(", ")} (each at its own peak)`,
    ...phases,
    `plus host memory: about ${formatBytes(plan.host)}`,
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
