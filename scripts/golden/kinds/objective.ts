// Fixtures of what training minimises: losses with their gradients, and the noise levels that musubi-tuner draws.
import { normalQuantile } from "../../../src/base/normal-distribution.ts";
import type { Device } from "../../../src/device/device.ts";
import { add, slice } from "../../../src/tensor/ops/index.ts";
import { openScope } from "../../../src/tensor/scope.ts";
import { Tape } from "../../../src/tensor/tape.ts";
import { fromValues, ownedEmpty, type Tensor } from "../../../src/tensor/tensor.ts";
import { losses, weightings, weightOf } from "../../../src/train/step/losses.ts";
import { drawDensity, type LatentSize, type TimeDraws, timeSamplings } from "../../../src/train/step/time-samplings.ts";
import { drawSigma, type SigmaRange, type TimeDistribution } from "../../../src/train/step/timesteps.ts";
import type { Fixture } from "../fixture.ts";

// biome-ignore lint/suspicious/noExplicitAny: each tool's own flags, as recorded
type Flags = any;

/** The row of a loss, and its settings, by the three tools' words. */
function lossOf(flags: Flags): { kind: string; settings: Record<string, unknown> } {
  if (flags.huber_delta !== undefined) return { kind: "huber", settings: { delta: flags.huber_delta } };
  if (flags.smooth_l1_beta !== undefined) return { kind: "smooth_l1", settings: { beta: flags.smooth_l1_beta } };
  return { kind: flags.loss_type ?? "mse", settings: {} };
}

/** A mask of pixels at the size of latents, as torch's nearest-exact: the pixel in the middle. */
function shrunken(values: Float32Array, [height, width]: readonly number[], [h, w]: readonly number[]): Float32Array {
  return Float32Array.from({ length: h! * w! }, (_, i) => {
    const [y, x] = [Math.floor(i / w!), i % w!];
    const from = (at: number, of: number, length: number) => Math.floor(((at + 0.5) * length) / of);
    return values[from(y, h!, height!) * width! + from(x, w!, width!)]!;
  });
}

export async function lossKind(fixture: Fixture, device: Device): Promise<void> {
  const { shape, cases } = fixture.config as { shape: number[]; cases: Record<string, Flags> };
  const [batch, , , height, width] = shape as [number, number, number, number, number];
  const one = (name: string, i: number) => fixture.values(`inputs.${name}`)[i]!;
  for (const [name, flags] of Object.entries(cases)) {
    using _scope = openScope(device);
    using prediction = ownedEmpty(device, shape, "f32", "weights").requireGradient();
    prediction.write(fixture.values("inputs.pred"));
    const target = fixture.tensor(device, "inputs.target");
    const { kind, settings } = lossOf(flags);
    const row = losses[kind]!;
    const own = row.settings.parse(settings);
    using tape = new Tape(device);
    const parts: Tensor[] = [];
    for (let i = 0; i < batch; i++) {
      const sample = [1, ...shape.slice(1)];
      let weight = 1 / batch;
      let mask: Tensor | undefined;
      if (flags.weighting_scheme !== undefined) {
        const weighting = weightings[flags.weighting_scheme]!.settings.parse({});
        const objective = {
          loss: { kind, settings: own },
          weighting: { kind: flags.weighting_scheme as string, settings: weighting },
        };
        weight *= weightOf(objective, one("timesteps", i) / 1000);
      }
      if (flags.timestep_weight) weight *= one("timestep_weight", i);
      if (flags.loss_multiplier) weight *= one("loss_multiplier", i);
      if (flags.mask) {
        const source = flags.tool === "ai-toolkit" ? "mask_latent" : "mask_pixels";
        const sides = fixture.shape(`inputs.${source}`).slice(-2);
        const size = sides[0]! * sides[1]!;
        const values = fixture.values(`inputs.${source}`).subarray(i * size, (i + 1) * size);
        mask = fromValues(device, shrunken(values, sides, [height, width]), [1, 1, 1, height, width]);
      }
      const answer = slice(prediction, 0, i, 1);
      parts.push(row.loss(answer, target.rows(i, 1).alias(sample), weight, own, mask));
    }
    const loss = parts.reduce((all, part) => add(all, part));
    tape.backward(loss);
    await fixture.compareTensor(`${name}.loss`, loss);
    await fixture.compareTensor(`${name}.grad`, prediction.gradient!);
    prediction.clearGradient();
  }
}

/** musubi's flags as a distribution; its ranges squeeze unless it keeps the shape, and are mirrored in its sigma mode. */
function distributionOf(flags: Flags): TimeDistribution {
  const kind = flags.timestep_sampling ?? "sigma";
  const settings: Record<string, unknown> = {};
  const names = Object.keys(timeSamplings[kind]!.settings.shape);
  const given = {
    shift: flags.discrete_flow_shift,
    scale: flags.sigmoid_scale,
    mean: flags.logit_mean,
    std: flags.logit_std,
    mode_scale: flags.mode_scale,
    density: ["logit_normal", "mode"].includes(flags.weighting_scheme) ? flags.weighting_scheme : "uniform",
  };
  for (const [name, value] of Object.entries(given))
    if (names.includes(name) && value !== undefined) settings[name] = value;
  const choice = { kind, settings: timeSamplings[kind]!.settings.parse(settings) };
  if (flags.min_timestep === undefined) return choice;
  const range = [flags.min_timestep / 1000, flags.max_timestep / 1000] as const;
  const [min, max] = kind === "sigma" ? ([1 - range[1], 1 - range[0]] as const) : range;
  return { ...choice, limits: { min, max, keepShape: flags.preserve_distribution_shape ?? false } };
}

const everything: SigmaRange = { from: 0, to: 1 };

/** Recorded numbers in their order; how many were taken. */
class Recorded implements TimeDraws {
  taken = 0;
  readonly #uniforms: ArrayLike<number>;
  readonly #normals: ArrayLike<number>;
  readonly #from: number;

  constructor(uniforms: ArrayLike<number>, normals: ArrayLike<number>, from = 0) {
    this.#uniforms = uniforms;
    this.#normals = normals;
    this.#from = from;
  }

  uniform(): number {
    return this.#uniforms[this.#from + this.taken++]!;
  }

  normal(): number {
    return this.#normals[this.#from + this.taken++]!;
  }
}

const sizeOf = (pair: readonly number[]): LatentSize => ({ height: pair[0]!, width: pair[1]! });

export async function timeSamplingMusubi(fixture: Fixture): Promise<void> {
  const config = fixture.config as Record<string, Record<string, Flags>> & { latent_hw: number[] };
  const [uniforms, normals, decisions] = ["uniform", "normal", "decision"].map((name) =>
    fixture.values(`inputs.${name}`),
  ) as [Float32Array, Float32Array, Float32Array];
  const compare = (name: string, levels: readonly number[], shown = (t: number) => 1000 * t + 1) => {
    fixture.compare(`${name}.t`, levels);
    fixture.compare(`${name}.timesteps`, levels.map(shown));
  };
  const levelsFor = (flags: Flags, normalOf: (i: number) => number) => {
    const distribution = distributionOf(flags);
    const size = sizeOf(flags.latent_hw ?? config.latent_hw);
    const mixed = distribution.kind.startsWith("qinglong");
    return Array.from(uniforms, (u, i) => {
      const draws = { uniform: () => (mixed ? decisions[i]! : u), normal: () => normalOf(i) };
      return drawSigma(distribution, everything, draws, size);
    });
  };
  for (const [name, flags] of Object.entries(config.cases_from_normal!)) {
    // Each part of a mixture takes the next normals for all of its samples.
    const limits = flags.timestep_sampling === "qinglong_flux" ? [0.79, 0.9, 1] : [0.95, 1];
    const order = new Map(
      limits
        .flatMap((below, part) =>
          Array.from(decisions.keys()).filter(
            (i) => decisions[i]! < below && (part === 0 || decisions[i]! >= limits[part - 1]!),
          ),
        )
        .map((sample, place) => [sample, place]),
    );
    const mixed = String(flags.timestep_sampling).startsWith("qinglong");
    compare(
      `from_normal.${name}`,
      levelsFor(flags, (i) => normals[mixed ? order.get(i)! : i]!),
    );
  }
  for (const [name, flags] of Object.entries(config.cases_from_uniform!)) {
    const within = (u: number) => Math.min(1 - 1e-7, Math.max(1e-7, u));
    compare(
      `from_uniform.${name}`,
      levelsFor(flags, (i) => normalQuantile(within(uniforms[i]!))),
    );
  }
  for (const [name, flags] of Object.entries(config.sigma_mode!)) {
    compare(
      `sigma.${name}`,
      levelsFor(flags, (i) => normals[i]!),
      (t) => 1000 * t,
    );
  }
  for (const density of ["none", "logit_normal", "mode"]) {
    const flags = config.sigma_mode![density];
    const { settings } = distributionOf(flags);
    const drawn = Array.from(uniforms, (u, i) =>
      drawDensity({ uniform: () => u, normal: () => normals[i]! }, settings as Parameters<typeof drawDensity>[1]),
    );
    fixture.compare(`density.${density}.u`, drawn);
  }
  const [longUniforms, longNormals] = [fixture.values("inputs.long_uniform"), fixture.values("inputs.long_normal")];
  for (const [name, flags] of Object.entries(config.rejection!)) {
    const draws = new Recorded(longUniforms, longNormals);
    const distribution = distributionOf(flags);
    compare(
      `rejection.${name}`,
      Array.from({ length: flags.batch }, () => drawSigma(distribution, everything, draws)),
    );
    // musubi draws whole batches until it has enough.
    fixture.compare(`rejection.${name}.draws_used`, [Math.ceil(draws.taken / flags.batch) * flags.batch]);
  }
  for (const [name, flags] of Object.entries(config.dual_expert!)) {
    const distribution = distributionOf(flags);
    const levels: number[] = [];
    const [high, used]: [number[], number[]] = [[], []];
    // A timestep is a thousand times the level, and 1.
    const boundary = flags.boundary - 0.001;
    for (const offset of flags.draw_offsets) {
      const draws = new Recorded(longUniforms, longNormals, offset);
      const upper = drawSigma(distribution, everything, draws) >= boundary;
      const range = upper ? { from: boundary, to: 1 } : { from: 0, to: boundary };
      for (let i = 0; i < flags.batch; i++) levels.push(drawSigma(distribution, range, draws));
      high.push(upper ? 1 : 0);
      used.push(draws.taken);
    }
    compare(`dual.${name}`, levels);
    fixture.compare(`dual.${name}.high`, high);
    fixture.compare(`dual.${name}.draws_used`, used);
  }
  const timesteps = fixture.values("inputs.timesteps");
  for (const bf16_weights of [false, true]) {
    for (const scheme of ["cosmap", "sigma_sqrt"]) {
      const row = weightings[scheme]!;
      const own = row.settings.parse({ bf16_weights });
      const weights = Array.from(timesteps, (t) => row.weight(t / 1000, own));
      fixture.compare(`weighting${bf16_weights ? "_bf16" : ""}.${scheme}`, weights);
    }
  }
  const { weight, settings } = weightings.sigma_sqrt!;
  fixture.compare(
    "weighting.sigma_used",
    Array.from(timesteps, (t) => weight(t / 1000, settings.parse({})) ** -0.5),
  );
}
