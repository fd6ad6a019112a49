// Fixtures of guidance: its arithmetic on given predictions, and inside a short loop on a tiny transformer.
import type { Device } from "../../../src/device/device.ts";
import type { LatentShape } from "../../../src/models/wan/conditioning.ts";
import { frameScore, normalizedGuidance, tokenNorm } from "../../../src/models/wan/dit/changes.ts";
import { FilmRun } from "../../../src/sample/film-run.ts";
import { cfg } from "../../../src/sample/guidance/cfg.ts";
import { fittedCfg, fittedClips, fittingScale } from "../../../src/sample/guidance/cfg-zero.ts";
import type { Place } from "../../../src/sample/guidance/guidance.ts";
import { percentSigma } from "../../../src/sample/guidance/guidance.ts";
import { createGuidance, type GuidanceChoice } from "../../../src/sample/guidance/index.ts";
import { rescaled } from "../../../src/sample/guidance/skip-layer.ts";
import { parseNoise } from "../../../src/sample/noise/index.ts";
import { createScheduler } from "../../../src/sample/schedulers/index.ts";
import { divide, reshape } from "../../../src/tensor/ops/index.ts";
import { openScope } from "../../../src/tensor/scope.ts";
import type { Fixture } from "../fixture.ts";
import { ditConfig, loadDit, type Precision } from "./networks.ts";
import { joined } from "./pipelines.ts";

export async function guidance(fixture: Fixture, device: Device, dtype: Precision): Promise<void> {
  if (fixture.has("inputs.cond")) await arithmetic(fixture, device);
  else await loops(fixture, device, dtype);
}

async function arithmetic(fixture: Fixture, device: Device): Promise<void> {
  const { guide, slg, nag, feta } = fixture.config;
  const [conditional, unconditional, skipped, sample] = ["cond", "uncond", "skip", "x"].map((name) =>
    fixture.values(`inputs.${name}`),
  ) as [Float32Array, Float32Array, Float32Array, Float32Array];
  const [batch, channels] = fixture.shape("inputs.cond") as [number, number];
  const sigmas = fixture.values("inputs.sigma");
  const size = conditional.length / batch;
  const parts = Array.from({ length: batch }, (_, i) => {
    const of = (values: Float32Array) => values.subarray(i * size, (i + 1) * size);
    return { c: of(conditional), u: of(unconditional), k: of(skipped), x: of(sample), sigma: sigmas[i]! };
  });
  const clip = (x: Float32Array, v: Float32Array, sigma: number) => x.map((value, i) => value - sigma * v[i]!);
  const each = (work: (part: (typeof parts)[number]) => Float32Array) => joined(parts.map(work));
  fixture.compare("cfg", cfg(guide).combine([conditional, unconditional], {} as Place, new Map()));
  fixture.compare(
    "cfgzero",
    each(({ c, u }) => fittedCfg(c, u, guide)),
  );
  fixture.compare(
    "cfgzero_alpha",
    parts.map(({ c, u }) => fittingScale(c, u)),
  );
  fixture.compare("cfgzero_i2v", fittedCfg(conditional, unconditional, guide, batch * channels));
  const perChannel = size / channels;
  fixture.compare(
    "cfgzero_i2v_alpha",
    Array.from({ length: batch * channels }, (_, i) =>
      fittingScale(conditional, unconditional, i * perChannel, (i + 1) * perChannel),
    ),
  );
  fixture.compare(
    "comfy_denoised_cond",
    each(({ c, x, sigma }) => clip(x, c, sigma)),
  );
  const asClip = (v: Float32Array, { x, sigma }: (typeof parts)[number]) => clip(x, v, sigma);
  fixture.compare(
    "comfy_cfgzero_denoised",
    each((part) => asClip(fittedClips(part.c, part.u, guide, { sample: part.x, sigma: part.sigma }), part)),
  );
  const slgClips = each((part) => {
    const place = { sigma: part.sigma, sample: part.x, shift: 1, step: 0, steps: 1 } as Place;
    const layer = createGuidance({ kind: "slg", blocks: [0], scale: slg.scale, start: 0, end: 1, over: guide });
    return asClip(layer.combine([part.c, part.u, part.k], place, new Map()), part);
  });
  fixture.compare("comfy_slg_denoised", slgClips);
  // Both samples of the batch have one deviation.
  const conditionalClips = each(({ c, x, sigma }) => clip(x, c, sigma));
  fixture.compare("comfy_slg_rescaled_denoised", rescaled(slgClips, conditionalClips, slg.rescale));

  using _scope = openScope(device);
  const rows = (name: string) => fixture.tensor(device, `inputs.${name}`, [1, ...fixture.shape(`inputs.${name}`)]);
  const [positive, negative] = [rows("nag_positive"), rows("nag_negative")];
  await fixture.compareTensor("nag", normalizedGuidance(positive, negative, nag));
  const beyond = normalizedGuidance(positive, negative, { scale: nag.scale, tau: Number.MAX_VALUE, alpha: 1 });
  await fixture.compareTensor("nag_ratio", divide(tokenNorm(beyond), tokenNorm(positive)));
  for (const [name, neighbours] of [
    ["interleaved", true],
    ["frame_major", false],
  ] as const) {
    const score = frameScore(rows("feta_q"), rows("feta_k"), { ...feta, neighbours });
    await fixture.compareTensor(`feta_${name}`, reshape(score, [1]));
  }
}

async function loops(fixture: Fixture, device: Device, dtype: Precision): Promise<void> {
  const { config } = fixture;
  const { steps, shift, guide, zero_steps, slg, nag, feta } = config;
  using model = loadDit(device, fixture.weights(), ditConfig(config.dit), dtype);
  const shape = fixture.shape("inputs.noise") as unknown as LatentShape;
  const host = (name: string) => ({ values: fixture.values(name), shape: fixture.shape(name) });
  const [positive, negative, own] = [host("inputs.context"), host("inputs.context_null"), host("inputs.context_nag")];
  const scheduler = () => createScheduler("euler", { steps, shift, schedule: "simple" });

  const run = async (choice: GuidanceChoice, nagText = negative) => {
    const one = createGuidance(choice);
    using film = new FilmRun(
      device,
      {
        scheduler: scheduler(),
        noise: parseNoise("kinora"),
        seed: 0n,
        boundary: undefined,
        guidance: { low: one, high: one },
      },
      { shape, text: { positive, negative, nag: nagText } },
      { latents: fixture.values("inputs.noise") },
    );
    const latents: Float32Array[] = [];
    const velocities: (readonly Float32Array[])[] = [];
    while (film.expert) {
      const step = await film.step(model);
      latents.push(step.latents);
      velocities.push(step.answers);
    }
    return { latents: joined(latents), answers: velocities };
  };
  const compare = async (name: string, choice: GuidanceChoice, nagText = negative) =>
    fixture.compare(name, (await run(choice, nagText)).latents);

  fixture.compareInput("sigmas", scheduler().sigmas);
  fixture.compareInput("timesteps", scheduler().timesteps);
  await compare("plain", guide);
  await compare("cfgzero", { kind: "cfg-zero", scale: guide, zero_steps });
  await compare("comfy_cfgzero", { kind: "cfg-zero", form: "comfy", scale: guide });
  const skip = { blocks: slg.layers, start: slg.start, end: slg.end, over: guide };
  const layer = { kind: "slg", ...skip, scale: slg.scale };
  await compare("comfy_slg", layer);
  await compare("comfy_slg_rescaled", { ...layer, rescale: slg.rescale });
  await compare("comfy_slg_simple", { kind: "slg-simple", ...skip });
  const { scale, tau, alpha, sigma_end } = nag;
  const led = { kind: "nag", scale, tau, alpha, sigma_end };
  await compare("nag_cfg1", led);
  await compare("nag_cfg", { ...led, over: guide }, own);
  const enhanced = { kind: "enhance", weight: feta.weight, start: feta.start, end: feta.end, over: guide };
  const variants = { feta_wrapper: "wrapper", feta_wrapper_new: "wrapper-new", feta_kj: "kj" } as const;
  for (const [name, variant] of Object.entries(variants)) await compare(name, { ...enhanced, variant });

  // What is alone at each step: places of the same schedule.
  const { sigmas, timesteps } = scheduler();
  const places = timesteps.map((_, step) => ({ step, steps, sigma: sigmas[step]!, shift }) as Place);
  const active = (test: (place: Place) => boolean) => places.map((place) => Number(test(place)));
  fixture.compare("slg_sigma_range", [percentSigma(slg.start, shift), percentSigma(slg.end, shift)]);
  fixture.compare(
    "slg_active",
    active((place) => createGuidance(layer).passes(place).length === 3),
  );
  const changes = (choice: GuidanceChoice, key: "nag" | "enhance") =>
    active((place) =>
      createGuidance(choice)
        .passes(place)
        .some((pass) => pass[key] !== undefined),
    );
  fixture.compare("nag_active", changes(led, "nag"));
  fixture.compare("feta_active", changes({ ...enhanced, variant: "kj" }, "enhance"));
  // The scale that fits is recorded for the steps that stand still too: plain CFG's own latents are not needed for it.
  fixture.compare("cfgzero_alphas", await fittingScales());

  async function fittingScales(): Promise<number[]> {
    const one = createGuidance({ kind: "cfg-zero", scale: guide, zero_steps });
    const watched = { ...one, passes: () => [{ text: "positive" }, { text: "negative" }] as const };
    using film = new FilmRun(
      device,
      {
        scheduler: scheduler(),
        noise: parseNoise("kinora"),
        seed: 0n,
        boundary: undefined,
        guidance: { low: watched, high: watched },
      },
      { shape, text: { positive, negative } },
      { latents: fixture.values("inputs.noise") },
    );
    const alphas: number[] = [];
    while (film.expert) {
      const [c, u] = (await film.step(model)).answers;
      alphas.push(fittingScale(c!, u!));
    }
    return alphas;
  }

  using _scope = openScope(device);
  const [channels, ...volume] = shape;
  const once = (changes: object) =>
    model.forward({
      latents: fixture.tensor(device, "inputs.noise", [1, channels, ...volume]),
      timesteps: [timesteps[1]!],
      texts: [fixture.tensor(device, "inputs.context")],
      changes,
    });
  const texts = [fixture.tensor(device, "inputs.context_null")];
  await fixture.compareTensor("nag_velocity", once({ nag: { scale, tau, alpha, texts } }));
  for (const [name, variant] of Object.entries(variants)) {
    await fixture.compareTensor(`${name}_velocity`, once({ enhance: { weight: feta.weight, variant } }));
  }
}
