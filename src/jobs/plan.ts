// What a forward pass or a training run takes in bytes, arithmetic and time: counted by the same code on the null device.
import { descriptorOf, openDevice } from "../device/open-device.ts";
import { type DeviceSpeed, measureSpeed, secondsOf } from "../device/speed.ts";
import { planForward } from "../models/wan/forward-cost.ts";
import { type WanModel, wanModels } from "../models/wan/params.ts";
import { planForwardContract, planRunContract } from "../protocol/jobs/plan.ts";
import { findModel } from "../protocol/model-media.ts";
import type { SettledConfig } from "../train/config/read.ts";
import { planRun } from "../train/plan/run-plan.ts";
import { job, quickJob, type Work } from "./job.ts";
import { settledConfig } from "./train-config.ts";

export const planForwardJob = quickJob(planForwardContract, (request) => {
  const model: WanModel = wanModels[findModel(request.model)];
  const { defaults } = model;
  const { frames = defaults.frames, dtype = "bf16" } = request;
  const { width, height } = request.size ?? defaults;
  const plan = planForward(model, { width, height, frames }, { dtype });
  return { model: model.name, size: { width, height }, frames, dtype, ...plan, steps: defaults.steps };
});

export const planRunJob = job(planRunContract, async function* (request, { signal }): Work<typeof planRunContract> {
  const config = await settledConfig(request);
  const { settings, notes } = config;
  for (const text of notes) yield { type: "note", text };
  const run = planRun(settings, (await descriptorOf(config.device)).memoryModel);
  for (;;) {
    const { done, value } = await run.next();
    if (!done) {
      signal.throwIfAborted();
      if (value.type === "planned" || value.type === "dataset") yield value;
      continue;
    }
    const speed = await speedOf(config, request.tflops);
    const phases = value.phases.map(({ name, work }) => [name, secondsOf(work, speed.speed)] as const);
    // Previews are told by the round.
    const total = phases.reduce((sum, [name, seconds]) => sum + (name === "previews" ? 0 : seconds), 0);
    return {
      name: settings.name,
      what: whatTrains(config),
      experts: settings.experts.train.length,
      ...value,
      speed,
      seconds: { step: secondsOf(value.step, speed.speed), phases: Object.fromEntries(phases), total },
    };
  }
});

const whatTrains = ({ settings }: SettledConfig): string =>
  settings.kind === "lora" ? `LoRA of rank ${settings.lora.rank}` : "full fine-tune";

async function speedOf(
  { settings, device: choice }: SettledConfig,
  tflops: number | undefined,
): Promise<{ device: string; speed: DeviceSpeed }> {
  if (tflops !== undefined) {
    const flopsPerSecond = tflops * 1e12;
    // A byte of memory for 200 operations, a launch in ten microseconds: the proportions of today's accelerators.
    const speed = { flopsPerSecond, bytesPerSecond: flopsPerSecond / 200, secondsPerCall: 1e-5 };
    return { device: `a device of ${tflops} TFLOP/s`, speed };
  }
  const { device, descriptor } = await openDevice(choice);
  using opened = device;
  return {
    device: `this machine's ${opened.name} device`,
    speed: await measureSpeed(opened, settings.dtype, descriptor.speedSizes),
  };
}
