// How a film is sampled, as it is asked for: sampler, schedule, guidance, step cache and noise, checked against their tables
// and the model, defaults filled in. What comes of it: film-settings.ts.
import { KinoraError } from "../base/errors.ts";
import { findRow, type NamedRow, type RowSettings } from "../base/table.ts";
import type { WanModel } from "../models/wan/params.ts";
import type { CacheSubject } from "./caches/coefficients.ts";
import { type CacheChoice, createCache, settleCache } from "./caches/index.ts";
import { createGuidance, type GuidanceChoice, layered, settleGuidance } from "./guidance/index.ts";
import { DEFAULT_NOISE, parseNoise } from "./noise/index.ts";
import { DEFAULT_SAMPLER, type SamplerName, samplerOf } from "./schedulers/index.ts";
import { type ScheduleName, scheduleOf } from "./schedulers/schedules/index.ts";

/** What a program's users find set for them; each value can be given otherwise. */
interface Profile extends NamedRow {
  sampler: SamplerName;
  schedule: ScheduleName;
  noise: string;
}

export const profiles = [
  { name: "official", help: "Wan's own", sampler: DEFAULT_SAMPLER, schedule: "official", noise: DEFAULT_NOISE },
  { name: "comfy", help: "ComfyUI's", sampler: "euler", schedule: "simple", noise: "torch-cpu" },
] as const satisfies readonly Profile[];

export interface ExpertGuidance {
  low: GuidanceChoice;
  high: GuidanceChoice;
}

/** As asked; whatever is absent comes from the profile or the model. */
export interface SamplingOptions {
  /** A name of `profiles`. Default `official`. */
  profile?: string | undefined;
  sampler?: string | undefined;
  /** The sampler's own settings. */
  samplerOptions?: RowSettings | undefined;
  /** Of noise levels. */
  schedule?: string | undefined;
  /** The schedule's own settings. */
  scheduleOptions?: RowSettings | undefined;
  steps?: number | undefined;
  shift?: number | undefined;
  /** The scale of CFG or another kind of guidance, for all or per expert. */
  guidance?: GuidanceChoice | ExpertGuidance | undefined;
  /** Kinds that lie over it, or take its place, one after the other. */
  guidanceLayers?: readonly Exclude<GuidanceChoice, number>[] | undefined;
  cache?: CacheChoice | undefined;
  noise?: string | undefined;
}

/** Checked; what is absent is the official schedule, or no cache. */
export interface Sampling {
  sampler: SamplerName;
  samplerOptions?: RowSettings;
  schedule?: ScheduleName;
  scheduleOptions?: RowSettings;
  steps: number;
  shift: number;
  guidance: ExpertGuidance;
  cache?: CacheChoice;
  noise: string;
}

/** Throws `generate.*`, `sampler.options`, `schedule.options`, `scheduler.*`, `noise.*`. */
export function settleSampling(options: SamplingOptions, model: WanModel, subject: CacheSubject): Sampling {
  const { defaults } = model;
  const profile = findRow(profiles, options.profile ?? "official", {
    code: "generate.unknown-profile",
    what: "profile",
  });
  const sampler = samplerOf(options.sampler ?? profile.sampler);
  const schedule = scheduleOf(options.schedule ?? profile.schedule);
  const samplerOptions = sampler.settle(options.samplerOptions);
  const scheduleOptions = schedule.settle(options.scheduleOptions);
  const steps = options.steps ?? schedule.steps(scheduleOptions) ?? defaults.steps;
  const shift = options.shift ?? defaults.shift;
  sampler.create({ steps, shift, schedule: schedule.name, scheduleOptions }, samplerOptions);
  const base = guidanceOf(options.guidance ?? defaults.guidance);
  const over = (choice: GuidanceChoice) => settleGuidance(layered(choice, options.guidanceLayers ?? []));
  const guidance = { low: over(base.low), high: over(base.high) };
  for (const choice of [guidance.low, guidance.high]) {
    createGuidance(choice);
    checkBlocks(choice, model);
  }
  const cache = options.cache && settleCache(options.cache);
  if (cache) createCache(cache, subject);
  const noise = options.noise ?? profile.noise;
  parseNoise(noise);
  const filled = (settings: RowSettings) => Object.values(settings).some((value) => value !== undefined);
  return {
    sampler: sampler.name,
    ...(filled(samplerOptions) ? { samplerOptions } : {}),
    ...(schedule.name === "official" ? {} : { schedule: schedule.name }),
    ...(filled(scheduleOptions) ? { scheduleOptions } : {}),
    ...{ steps, shift, guidance },
    ...(cache ? { cache } : {}),
    noise,
  };
}

/** A guidance for each expert, from one for both or from a pair. Throws `generate.bad-guidance`. */
export function guidanceOf(
  guidance: GuidanceChoice | ExpertGuidance | readonly [low: number, high: number],
): ExpertGuidance {
  const { low, high } =
    typeof guidance === "number" || "kind" in guidance
      ? { low: guidance, high: guidance }
      : "low" in guidance
        ? (guidance as ExpertGuidance)
        : { low: guidance[0], high: guidance[1] };
  return { low: settleGuidance(low), high: settleGuidance(high) };
}

/** Blocks that are left out must be the model's. */
function checkBlocks(choice: GuidanceChoice, { name, dit }: WanModel): void {
  if (typeof choice === "number") return;
  const { kind, blocks, over } = choice;
  const beyond = (blocks as number[] | undefined)?.find((block) => block >= dit.layers);
  if (beyond !== undefined) {
    throw new KinoraError("generate.bad-guidance", `${kind} skips a block that ${name} does not have`, {
      expected: `blocks 0 to ${dit.layers - 1}`,
      actual: `${beyond}`,
      hint: `e.g. ${kind} with blocks [${Math.floor(dit.layers / 3)}]`,
    });
  }
  if (over !== undefined) checkBlocks(over, { name, dit } as WanModel);
}
