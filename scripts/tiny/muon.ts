// Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) for the matrices and kernels of a network, AdamW
// for the rest: from nothing to a trained network in about half of AdamW's steps. For kinora-tiny; not a choice of
// `kinora train`, whose low-rank matrices it does not suit.
import { cast } from "../../src/tensor/ops/index.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { empty, filled, type Tensor } from "../../src/tensor/tensor.ts";
import { adamwRule, type Moments } from "../../src/train/optimizers/adamw.ts";
import {
  type Optimizer,
  type OptimizerContext,
  ParameterwiseOptimizer,
  zeroState,
} from "../../src/train/optimizers/optimizer.ts";

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

type State = Moments | Readonly<Record<"momentum", Tensor>>;

export function createMuon(context: OptimizerContext, settings: MuonSettings): Optimizer {
  const { device } = context;
  const { kernels } = device;
  const { momentum: beta, weightDecay, betas, exclude } = settings;
  const adamw = adamwRule(context, { betas, eps: 1e-8, weightDecay });
  return new ParameterwiseOptimizer<State>(context, {
    fresh(parameter, name) {
      const [rows, columns] = sides(parameter);
      const matrix = parameter.shape.length >= 2 && Math.min(rows, columns) >= NARROWEST && !exclude.test(name);
      return matrix ? { momentum: zeroState(device, parameter.shape) } : adamw.fresh(parameter, name);
    },
    apply(parameter, gradient, state, step) {
      if ("m" in state) return adamw.apply(parameter, gradient, state, step);
      const { learningRate, gradientScale } = step;
      const { momentum } = state;
      const [rows, columns] = sides(parameter);
      using _scope = openScope(device);
      kernels.affine(momentum, beta, gradient, gradientScale * (1 - beta), momentum);
      const direction = empty(device, parameter.shape, "f32");
      // Nesterov's look ahead.
      kernels.affine(momentum, beta, gradient, gradientScale * (1 - beta), direction);
      const orthogonal = orthogonalized(direction, rows, columns);
      const length = learningRate * UPDATE_RMS * Math.sqrt(Math.max(rows, columns)) * A ** ITERATIONS;
      kernels.affine(parameter, 1 - learningRate * weightDecay, orthogonal.alias(parameter.shape), -length, parameter);
    },
  });
}

/** A parameter as a matrix: its first axis, and all others together. */
function sides({ shape, size }: Tensor): [rows: number, columns: number] {
  return [shape[0]!, size / shape[0]!];
}

/** Nearly the closest matrix with orthonormal rows (or columns, where it has fewer), divided by A to the power of ITERATIONS. */
function orthogonalized(direction: Tensor, rows: number, columns: number): Tensor {
  const { device } = direction;
  const { kernels } = device;
  const size = rows * columns;
  const unit = empty(device, [1, size], "f32");
  kernels.rmsNorm(direction.alias([1, size]), filled(device, [size], 1), unit, { kind: "l2", eps: 1e-12 });
  kernels.affine(unit, 1 / Math.sqrt(size), undefined, 0, unit);
  // bf16 is enough for a direction. Each step is x ← A·x + (B·g + C·g²)·x with g = x·xᵀ (or xᵀ·x); the sums ride on the
  // products by leaving A and B outside, so the values kept are x / Aⁱ.
  let x = cast(unit.alias([rows, columns]), "bf16");
  const wide = rows <= columns;
  const narrow = Math.min(rows, columns);
  for (let i = 0; i < ITERATIONS; i++) {
    const square = empty(device, [narrow, narrow], "bf16");
    kernels.matmul(x, x, square, { scale: A ** (2 * i), ...(wide ? { transposeB: true } : { transposeA: true }) });
    const quintic = empty(device, [narrow, narrow], "bf16");
    kernels.matmul(square, square, quintic, { scale: C / B, residual: square });
    const next = empty(device, [rows, columns], "bf16");
    const [left, right] = wide ? [quintic, x] : [x, quintic];
    kernels.matmul(left, right, next, { scale: B / A, residual: x });
    x = next;
  }
  return cast(x, "f32");
}
