// Fixtures of step caches: which calls are computed, what is compared, and the latents after each step of a short loop.
import type { Device } from "../../../src/device/device.ts";
import type { LatentShape } from "../../../src/models/wan/conditioning.ts";
import type { CacheSubject } from "../../../src/sample/caches/coefficients.ts";
import { type CacheChoice, createCache } from "../../../src/sample/caches/index.ts";
import { ratiosFor } from "../../../src/sample/caches/magcache.ts";
import { FilmRun } from "../../../src/sample/film-run.ts";
import { cfg } from "../../../src/sample/guidance/cfg.ts";
import { percentSigma } from "../../../src/sample/guidance/guidance.ts";
import { parseNoise } from "../../../src/sample/noise/index.ts";
import { EulerScheduler } from "../../../src/sample/schedulers/euler.ts";
import { flowTime } from "../../../src/sample/schedulers/schedules/index.ts";
import type { Fixture } from "../fixture.ts";
import { ditConfig, loadDit, type Precision } from "./networks.ts";
import { joined } from "./pipelines.ts";

/** The cache that a fixture's configuration describes. */
function choiceOf(fixture: Fixture): CacheChoice {
  const {
    coefficients,
    use_ret_steps,
    mag_ratios,
    K,
    retention_ratio,
    ret_steps,
    start_percent,
    end_percent,
    subsample,
    thresh,
  } = fixture.config;
  if (coefficients) return { kind: "teacache", threshold: thresh, ret_steps: use_ret_steps, coefficients };
  if (mag_ratios) return { kind: "magcache", threshold: thresh, k: K, retention: retention_ratio, ratios: mag_ratios };
  if (ret_steps !== undefined) return { kind: "easycache", threshold: thresh, ret_steps };
  const [, columns] = fixture.shape("outputs.computed");
  const kind = columns === 1 ? "comfy-lazycache" : "comfy-easycache";
  return { kind, threshold: thresh, start: start_percent, end: end_percent, subsample };
}

export async function stepCache(fixture: Fixture, device: Device, dtype: Precision): Promise<void> {
  const { config } = fixture;
  const { steps, shift, guide, split_step: split, mode } = config;
  const load = (prefix: string) => loadDit(device, fixture.weights(prefix), ditConfig(config.dit), dtype);
  using low = load(split === undefined ? "weights." : "weights.low.");
  using high = split === undefined ? undefined : load("weights.high.");
  const comfy = config.start_percent !== undefined;
  // The recorded loop rounds its times otherwise than any schedule: they are inputs.
  const sigmas = fixture.values("inputs.sigmas");
  const timesteps = comfy ? Array.from(sigmas.subarray(0, -1), flowTime) : fixture.integers("inputs.timesteps");
  const scheduler = new EulerScheduler("euler", { steps, shift }, { sigmas, timesteps });

  const choice = choiceOf(fixture);
  const subject: CacheSubject = { model: "fixture", area: 0, picture: mode === "i2v" };
  const host = (name: string) => ({ values: fixture.values(name), shape: fixture.shape(name) });
  const boundary = split === undefined ? undefined : scheduler.timesteps[split - 1]! / 1000;
  using film = new FilmRun(
    device,
    {
      ...{ scheduler, noise: parseNoise("kinora"), seed: 0n, boundary },
      guidance: { low: cfg(guide), high: cfg(guide) },
      cache: createCache(choice, subject),
    },
    {
      shape: fixture.shape("inputs.noise") as unknown as LatentShape,
      text: { positive: host("inputs.context"), negative: host("inputs.context_null") },
    },
    { latents: fixture.values("inputs.noise") },
  );
  const latents: Float32Array[] = [];
  const computed: number[] = [];
  const compared: number[] = [];
  const added: number[] = [];
  for (let which = film.expert; which !== undefined; which = film.expert) {
    const step = await film.step(which === "high" ? high! : low);
    latents.push(step.latents);
    computed.push(...step.cache.map(({ skip }) => (skip ? 0 : 1)));
    compared.push(...step.cache.map(({ value }) => value ?? -1));
    added.push(film.state().memory.get("cache.changes")?.[0] ?? 0);
  }
  fixture.compare("latents", joined(latents));
  fixture.compare("computed", computed);
  if (fixture.has("outputs.accumulated")) fixture.compare("accumulated", compared);
  if (fixture.has("outputs.accumulated_after")) fixture.compare("accumulated_after", added);
  if (fixture.has("outputs.ratios")) fixture.compare("ratios", ratiosFor(config.mag_ratios, steps));
  if (comfy) {
    const range = [config.start_percent, config.end_percent].map((percent) => percentSigma(percent, shift));
    fixture.compare("sigma_range", range);
  }
}
