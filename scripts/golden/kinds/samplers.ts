// Fixtures of samplers and schedules: noise levels, trajectories on a closed-form denoiser, and on a tiny transformer.
import type { Device } from "../../../src/device/device.ts";
import type { LatentShape } from "../../../src/models/wan/conditioning.ts";
import { modelInput } from "../../../src/models/wan/conditioning.ts";
import { cfg } from "../../../src/sample/guidance/cfg.ts";
import type { Place } from "../../../src/sample/guidance/guidance.ts";
import { createScheduler } from "../../../src/sample/schedulers/index.ts";
import type { Evaluation, ScheduleOptions, Scheduler } from "../../../src/sample/schedulers/scheduler.ts";
import { comfySigmas, ksamplerSigmas } from "../../../src/sample/schedulers/schedules/comfy.ts";
import { tableSigma } from "../../../src/sample/schedulers/schedules/schedule.ts";
import { marginal } from "../../../src/sample/schedulers/uni-pc.ts";
import { openScope } from "../../../src/tensor/scope.ts";
import type { Fixture } from "../fixture.ts";
import { ditConfig, loadDit, type Precision } from "./networks.ts";
import { joined } from "./pipelines.ts";

export async function sampler(fixture: Fixture, device: Device, dtype: Precision): Promise<void> {
  const { config } = fixture;
  if (config.cases) schedules(fixture);
  else if (config.lightx2v) await distilled(fixture);
  else if (config.dit) await onTransformer(fixture, device, dtype);
  else await onToy(fixture);
}

/** Every recorded list by its own name: `<scheduler>.<steps>.<shift>`, with what KSampler makes of it before that. */
function schedules(fixture: Fixture): void {
  for (const output of fixture.names("outputs.")) {
    const name = output.slice("outputs.".length);
    const ksampler = /^ksampler_(uni_pc|denoise([\d.]+))\.(\w+)\.(\d+)\.([\d.]+)$/.exec(name);
    const plain = /^(\w+)\.(\d+)\.([\d.]+)$/.exec(name);
    const table = /^table\.([\d.]+)$/.exec(name);
    if (table)
      fixture.compare(
        name,
        Array.from({ length: 1000 }, (_, k) => tableSigma(k, Number(table[1]))),
      );
    else if (ksampler) {
      const [, what, denoise, schedule, steps, shift] = ksampler;
      const options = { schedule: schedule!, steps: Number(steps), shift: Number(shift) };
      fixture.compare(
        name,
        ksamplerSigmas(options, what === "uni_pc" ? { withoutPenultimate: true } : { denoise: Number(denoise) }),
      );
    } else if (plain) {
      const [, schedule, steps, shift] = plain;
      fixture.compare(name, comfySigmas({ schedule: schedule!, steps: Number(steps), shift: Number(shift) }));
    }
  }
}

/** Runs every step. `answer` gives the velocity. */
async function walk(
  scheduler: Scheduler,
  start: Float32Array,
  answer: (asked: Evaluation) => Float32Array | Promise<Float32Array>,
  noises: readonly Float32Array[] = [],
) {
  let x = start;
  let drawn = 0;
  const before: Float32Array[] = [];
  const after: Float32Array[] = [];
  const kept: Readonly<Record<string, Float32Array>>[] = [];
  const asked: number[] = [];
  while (scheduler.position < scheduler.timesteps.length) {
    before.push(x);
    const draws = new Map<number, Float32Array>();
    const step = scheduler.step(x, (draw) => {
      if (!draws.has(draw)) draws.set(draw, noises[drawn++]!);
      return draws.get(draw)!;
    });
    let move = step.next();
    while (!move.done) {
      asked.push(move.value.sigma);
      move = step.next(await answer(move.value));
    }
    x = move.value;
    after.push(x);
    kept.push(scheduler.state().tensors);
  }
  return { final: x, before, after, kept, asked, drawn };
}

/** The recorded denoiser w·tanh(x)·(1 − 0.3σ) + c·σ², as a velocity. */
function toyVelocity(fixture: Fixture, divided: boolean): (asked: Evaluation) => Float32Array {
  const [w, c] = [fixture.values("inputs.w"), fixture.values("inputs.c")];
  return ({ sample, sigma }) =>
    sample.map((x, i) => {
      const difference = x - (w[i]! * Math.tanh(x) * (1 - 0.3 * sigma) + c[i]! * sigma ** 2);
      return divided ? difference / sigma : difference;
    });
}

async function onToy(fixture: Fixture): Promise<void> {
  const {
    scheduler: schedule,
    steps,
    shift,
    samplers,
  } = fixture.config as {
    scheduler: string;
    steps: number;
    shift: number;
    samplers: string[];
  };
  const options: ScheduleOptions = { schedule, steps, shift };
  const sigmas = comfySigmas(options);
  fixture.compareInput("sigmas", sigmas);
  fixture.compareInput("sigmas_ksampler_uni_pc", ksamplerSigmas(options, { withoutPenultimate: true }));
  const pool = split(fixture, "inputs.noise_pool");
  for (const name of samplers) {
    const given = name.endsWith("_ksampler");
    // Without KSampler the list is taken as it is.
    const listed: ScheduleOptions =
      name.startsWith("uni_pc") && !given
        ? { steps: sigmas.length - 1, shift, schedule: "manual", scheduleOptions: { sigmas: Array.from(sigmas) } }
        : options;
    const scheduler = createScheduler(name.replace(/_ksampler$/, ""), listed);
    const run = await walk(scheduler, fixture.values("inputs.noise"), toyVelocity(fixture, true), pool);
    fixture.compare(`${name}.final`, run.final);
    fixture.compare(`${name}.model_sigmas`, run.asked);
    fixture.compare(`${name}.noise_used`, [run.drawn]);
    fixture.compare(`${name}.x`, joined(reported(name, scheduler, run)));
    const pairs = noiseSigmas(name, scheduler.sigmas, run.asked);
    if (fixture.has(`outputs.${name}.noise_sigmas`)) fixture.compare(`${name}.noise_sigmas`, pairs.flat());
  }
}

/** What ComfyUI's callback shows before each step. */
function reported(name: string, { sigmas }: Scheduler, run: Awaited<ReturnType<typeof walk>>): readonly Float32Array[] {
  if (name === "deis" || name === "ipndm") return run.before.map(() => run.before[0]!);
  if (!name.startsWith("uni_pc")) return run.before;
  // UniPC shows its own variables, after the corrector; the last is already at its end.
  const end = marginal(Math.fround(0.001)).alpha;
  return run.kept.map(({ base }, i) => (sigmas[i + 1] === 0 ? run.final.map((value) => value * end) : base!));
}

/** From which level to which each noise was drawn; the stochastic solver's first is for the level in between. */
function noiseSigmas(name: string, sigmas: Float32Array, asked: readonly number[]): number[][] {
  const steps = Array.from(sigmas.subarray(0, -2), (sigma, i) => [sigma, sigmas[i + 1]!]);
  return name === "dpmpp_sde"
    ? steps.flatMap(([from, to], i) => [
        [from!, asked[2 * i + 1]!],
        [from!, to!],
      ])
    : steps;
}

function split(fixture: Fixture, name: string): Float32Array[] {
  const values = fixture.values(name);
  const [count] = fixture.shape(name) as [number];
  const size = values.length / count;
  return Array.from({ length: count }, (_, i) => values.subarray(i * size, (i + 1) * size));
}

async function distilled(fixture: Fixture): Promise<void> {
  type Case = { steps: number; shift?: number; flow_shift?: number; denoising_step_list?: number[] };
  const families: [name: string, sampler: string, schedule: (given: Case) => ScheduleOptions][] = [
    [
      "lightx2v",
      "euler",
      ({ denoising_step_list: list, shift }) => ({
        ...{ steps: list!.length, shift: shift!, schedule: "distilled" },
        // The lists that go with a number of steps need not be given.
        ...(list!.some((step, i) => step !== 1000 - (1000 * i) / list!.length) ? { scheduleOptions: { list } } : {}),
      }),
    ],
    ["diffusers_euler", "euler", ({ steps, shift }) => ({ steps, shift: shift!, schedule: "diffusers" })],
    ["diffusers_unipc", "unipc", ({ steps, flow_shift }) => ({ steps, shift: flow_shift! })],
  ];
  for (const [name, kind, schedule] of families) {
    for (const [i, given] of (fixture.config[name] as Case[]).entries()) {
      const scheduler = createScheduler(kind, schedule(given));
      const at = `${name}.${i}`;
      fixture.compare(`${at}.sigmas`, name === "lightx2v" ? scheduler.sigmas.subarray(0, -1) : scheduler.sigmas);
      fixture.compare(`${at}.timesteps`, scheduler.timesteps);
      const { after } = await walk(scheduler, fixture.values("inputs.noise"), toyVelocity(fixture, false));
      fixture.compare(`${at}.latents`, joined(after));
    }
  }
}

async function onTransformer(fixture: Fixture, device: Device, dtype: Precision): Promise<void> {
  const { dit, scheduler: schedule, steps, shift, guide } = fixture.config;
  using model = loadDit(device, fixture.weights(), ditConfig(dit), dtype);
  using _scope = openScope(device);
  const texts = ["inputs.context", "inputs.context_null"].map((name) => fixture.tensor(device, name));
  const shape = fixture.shape("inputs.noise") as unknown as LatentShape;
  const predict = async ({ sample, timestep }: Evaluation) => {
    const answers: Float32Array[] = [];
    for (const text of texts) {
      using _each = openScope(device);
      const one = {
        shape,
        timestep,
        text,
        condition: undefined,
        write: (out: { write(values: Float32Array): void }) => out.write(sample),
      };
      answers.push(await model.forward(modelInput(device, [one], model.config.patchSize[1])).read());
    }
    return cfg(guide).combine(answers, {} as Place, new Map());
  };
  fixture.compareInput("sigmas", comfySigmas({ schedule, steps, shift }));
  const pool = split(fixture, "inputs.noise_pool");
  const names = new Set(fixture.names("outputs.").map((name) => name.split(".")[1]!));
  for (const name of names) {
    const sigmas = Array.from(fixture.values("inputs.sigmas"));
    const options: ScheduleOptions = name.startsWith("uni_pc")
      ? { steps: sigmas.length - 1, shift, schedule: "manual", scheduleOptions: { sigmas } }
      : { steps, shift, schedule };
    const run = await walk(createScheduler(name, options), fixture.values("inputs.noise"), predict, pool);
    fixture.compare(`${name}.final`, run.final);
    fixture.compare(`${name}.model_sigmas`, run.asked);
  }
}
