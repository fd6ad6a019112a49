// Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) for the matrices and kernels of a network, AdamW
// for the rest: from nothing to a trained network in about half of AdamW's steps. For kinora-tiny; not a choice of
// `kinora train`, whose low-rank matrices it does not suit.
import type { Device } from "../../src/device/device.ts";
import { cast } from "../../src/tensor/ops/index.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { empty, ownedEmpty, type Tensor } from "../../src/tensor/tensor.ts";
import { AdamW } from "../../src/train/optimizers/adamw.ts";
import { globalNorm, type Optimizer } from "../../src/train/optimizers/optimizer.ts";

/** Newton-Schulz steps; their quintic's coefficients are the post's. */
const ITERATIONS = 5;
const [A, B, C] = [3.4445, -4.775, 2.0315] as const;
/** The update's root mean square, AdamW's usual one, so that both take the same rate (Liu et al., arXiv 2502.16982). */
const UPDATE_RMS = 0.2;
/** Narrower than this, orthogonal rows say little. */
const NARROWEST = 8;

export interface MuonSettings {
  momentum: number;
  /** Names that AdamW keeps although they are matrices: embeddings, first and last layers. */
  exclude: RegExp;
  betas: readonly [number, number];
  weightDecay: number;
}

interface Matrix {
  parameter: Tensor;
  momentum: Tensor;
  rows: number;
  columns: number;
}

export class Muon implements Optimizer {
  readonly parameters: ReadonlyMap<string, Tensor>;
  readonly #device: Device;
  readonly #settings: MuonSettings;
  readonly #matrices = new Map<string, Matrix>();
  readonly #adamw: AdamW;
  readonly #ones: Tensor;

  constructor(device: Device, parameters: ReadonlyMap<string, Tensor>, settings: MuonSettings) {
    this.#device = device;
    this.#settings = settings;
    this.parameters = parameters;
    const rest = new Map<string, Tensor>();
    for (const [name, parameter] of parameters) {
      const rows = parameter.shape[0]!;
      const columns = parameter.size / rows;
      if (parameter.shape.length < 2 || Math.min(rows, columns) < NARROWEST || settings.exclude.test(name)) {
        rest.set(name, parameter);
        continue;
      }
      const momentum = ownedEmpty(device, parameter.shape, "f32", "optimizer");
      device.kernels.fill(momentum, 0);
      this.#matrices.set(name, { parameter, momentum, rows, columns });
    }
    const { betas, weightDecay } = settings;
    this.#adamw = new AdamW(device, rest, { betas, eps: 1e-8, weightDecay });
    const largest = Math.max(1, ...[...this.#matrices.values()].map(({ parameter }) => parameter.size));
    this.#ones = ownedEmpty(device, [largest], "f32", "optimizer");
    device.kernels.fill(this.#ones, 1);
  }

  get step(): number {
    return this.#adamw.step;
  }

  set step(value: number) {
    this.#adamw.step = value;
  }

  gradientNorm(): Promise<number> {
    return globalNorm(this.#device, this.parameters);
  }

  update(learningRate: number, gradientScale = 1): void {
    const { kernels } = this.#device;
    const { momentum: beta, weightDecay } = this.#settings;
    for (const { parameter, momentum, rows, columns } of this.#matrices.values()) {
      const { gradient } = parameter;
      if (!gradient) continue;
      using _scope = openScope(this.#device);
      kernels.affine(momentum, beta, gradient, gradientScale * (1 - beta), momentum);
      const direction = empty(this.#device, parameter.shape, "f32");
      // Nesterov's look ahead.
      kernels.affine(momentum, beta, gradient, gradientScale * (1 - beta), direction);
      const orthogonal = this.#orthogonalized(direction, rows, columns);
      const length = learningRate * UPDATE_RMS * Math.sqrt(Math.max(rows, columns)) * A ** ITERATIONS;
      kernels.affine(parameter, 1 - learningRate * weightDecay, orthogonal.alias(parameter.shape), -length, parameter);
      parameter.clearGradient();
    }
    this.#adamw.update(learningRate, gradientScale);
  }

  /** Nearly the closest matrix with orthonormal rows (or columns, where it has fewer), divided by A to the power of ITERATIONS. */
  #orthogonalized(direction: Tensor, rows: number, columns: number): Tensor {
    const { kernels } = this.#device;
    const size = rows * columns;
    const unit = empty(this.#device, [1, size], "f32");
    kernels.rmsNorm(direction.alias([1, size]), this.#ones.rows(0, size), unit, { kind: "l2", eps: 1e-12 });
    kernels.affine(unit, 1 / Math.sqrt(size), undefined, 0, unit);
    // bf16 is enough for a direction. Each step is x ← A·x + (B·g + C·g²)·x with g = x·xᵀ (or xᵀ·x); the sums ride on the
    // products by leaving A and B outside, so the values kept are x / Aⁱ.
    let x = cast(unit.alias([rows, columns]), "bf16");
    const wide = rows <= columns;
    const narrow = Math.min(rows, columns);
    for (let i = 0; i < ITERATIONS; i++) {
      const square = empty(this.#device, [narrow, narrow], "bf16");
      kernels.matmul(x, x, square, { scale: A ** (2 * i), ...(wide ? { transposeB: true } : { transposeA: true }) });
      const quintic = empty(this.#device, [narrow, narrow], "bf16");
      kernels.matmul(square, square, quintic, { scale: C / B, residual: square });
      const next = empty(this.#device, [rows, columns], "bf16");
      const [left, right] = wide ? [quintic, x] : [x, quintic];
      kernels.matmul(left, right, next, { scale: B / A, residual: x });
      x = next;
    }
    return cast(x, "f32");
  }

  state(): Map<string, Tensor> {
    const momenta = [...this.#matrices].map(([name, { momentum }]) => [`${name}.momentum`, momentum] as const);
    return new Map([...momenta, ...this.#adamw.state()]);
  }

  [Symbol.dispose](): void {
    for (const { momentum } of this.#matrices.values()) momentum[Symbol.dispose]();
    this.#ones[Symbol.dispose]();
    this.#adamw[Symbol.dispose]();
  }
}
