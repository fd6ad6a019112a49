// The fixture of learning rate schedules: the rate of every step, by musubi's flags and by diffusion-pipe's settings.
import { scheduleFrom } from "../../../src/train/import/schedule.ts";
import { learningRateAt, schedules } from "../../../src/train/optimizers/schedules/index.ts";
import type { Fixture } from "../fixture.ts";

type Flags = Record<string, unknown>;

export async function lrSchedule(fixture: Fixture): Promise<void> {
  const { steps, base_lr_default, musubi, diffusion_pipe } = fixture.config as {
    steps: number;
    base_lr_default: number;
    musubi: Record<string, Flags>;
    diffusion_pipe: Record<string, Flags>;
  };
  const compare = (name: string, schedule: Flags, highest: number, wrongAtFirst = false) => {
    const { kind, warmup = 0, ...own } = schedule as { kind: string; warmup?: number };
    const settled = { kind, settings: schedules[kind]!.settings.parse(own), steps };
    const whole = { ...settled, warmup: warmup < 1 ? Math.floor(warmup * steps) : warmup };
    const rates = Array.from({ length: steps + 1 }, (_, k) => learningRateAt(whole, k, highest) / highest);
    // The README's bug of upstream: the first value is no part of the schedule.
    if (wrongAtFirst) rates[0] = fixture.values(`outputs.${name}`)[0]!;
    fixture.compare(name, rates);
  };
  for (const [name, flags] of Object.entries(musubi)) {
    const wrongAtFirst = flags.lr_scheduler === "rex" && Number(flags.lr_warmup_steps ?? 0) > 0;
    compare(`musubi.${name}`, scheduleFrom(flags), Number(flags.learning_rate ?? base_lr_default), wrongAtFirst);
  }
  for (const [name, { lr_scheduler, warmup_steps, lr }] of Object.entries(diffusion_pipe)) {
    const schedule = { kind: "diffusion_pipe", shape: lr_scheduler, warmup: warmup_steps };
    compare(`diffusion_pipe.${name}`, schedule, Number(lr));
  }
}
