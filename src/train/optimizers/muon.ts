// Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/), as torch.optim.Muon computes it: each step of a
// matrix is made nearly orthogonal. Vectors and what is left out go by AdamW.
import { z } from "zod";
import type { DType } from "../../base/dtype.ts";
import { openScope } from "../../tensor/scope.ts";
import { empty, filled, type Tensor } from "../../tensor/tensor.ts";
import { adamwRule, beta, DECAY, type Moments } from "./adamw.ts";
import {
  type Optimizer,
  type OptimizerContext,
  type OptimizerRow,
  ParameterwiseOptimizer,
  zeroState,
} from "./optimizer.ts";

export interface MuonSettings {
  momentum: number;
  nesterov: boolean;
  /** Newton-Schulz steps, and their quintic's coefficients. */
  steps: number;
  coefficients: readonly [number, number, number];
  eps: number;
  /** `original`: √max(1, rows/columns); `match_rms_adamw`: 0.2·√max(rows, columns), AdamW's usual step (arXiv 2502.16982). */
  length: "original" | "match_rms_adamw";
  weightDecay: number;
  /** Of AdamW, for what is no matrix. */
  betas: readonly [number, number];
  /** What goes by Muon; default: whatever has two axes or more. */
  takes?: (name: string, rows: number, columns: number) => boolean;
  /** Of the products; bf16 is enough for a direction. */
  dtype?: DType;
}

type State = Moments | Readonly<Record<"momentum", Tensor>>;

export function createMuon(context: OptimizerContext, settings: MuonSettings): Optimizer {
  const { device } = context;
  const { kernels } = device;
  const { momentum: mu, nesterov, weightDecay, betas, length, takes = () => true } = settings;
  const adamw = adamwRule(context, { betas, eps: 1e-8, weightDecay });
  return new ParameterwiseOptimizer<State>(context, {
    fresh(parameter, name) {
      const matrix = parameter.shape.length >= 2 && takes(name, ...sides(parameter));
      return matrix ? { momentum: zeroState(device, parameter.shape) } : adamw.fresh(parameter, name);
    },
    apply(parameter, gradient, state, step) {
      if ("m" in state) return adamw.apply(parameter, gradient, state, step);
      const { learningRate, gradientScale } = step;
      const { momentum } = state;
      const [rows, columns] = sides(parameter);
      using _scope = openScope(device);
      kernels.affine(momentum, mu, gradient, gradientScale * (1 - mu), momentum);
      let direction = momentum;
      if (nesterov) {
        direction = empty(device, parameter.shape, "f32");
        kernels.affine(momentum, mu, gradient, gradientScale * (1 - mu), direction);
      }
      const orthogonal = orthogonalized(direction.alias([rows, columns]), settings);
      const factor =
        length === "original" ? Math.sqrt(Math.max(1, rows / columns)) : 0.2 * Math.sqrt(Math.max(rows, columns));
      const kept = 1 - learningRate * weightDecay;
      kernels.affine(parameter, kept, orthogonal.alias(parameter.shape), -learningRate * factor, parameter);
    },
  });
}

/** A parameter as a matrix: its first axis, and all others together. */
function sides({ shape, size }: Tensor): [rows: number, columns: number] {
  return [shape[0]!, size / shape[0]!];
}

/** Nearly the closest matrix with orthonormal rows (or columns, where it has fewer), float32 in the current scope. */
function orthogonalized(
  direction: Tensor,
  { steps, coefficients: [a, b, c], eps, dtype = "f32" }: MuonSettings,
): Tensor {
  const { device, size, shape } = direction;
  const { kernels } = device;
  const [rows, columns] = shape as [number, number];
  const unit = empty(device, [1, size], "f32");
  kernels.rmsNorm(direction.alias([1, size]), filled(device, [size], 1 / Math.sqrt(size)), unit, { kind: "l2", eps });
  let x = empty(device, shape, dtype);
  kernels.cast(unit.alias(shape), x);
  const wide = rows <= columns;
  const narrow = Math.min(rows, columns);
  // Each step is x ← a·x + (b·g + c·g²)·x with g = x·xᵀ (or xᵀ·x). The sums ride on the products by leaving a and b
  // outside: what is kept is x / aⁱ.
  for (let i = 0; i < steps; i++) {
    const square = empty(device, [narrow, narrow], dtype);
    kernels.matmul(x, x, square, { scale: a ** (2 * i), ...(wide ? { transposeB: true } : { transposeA: true }) });
    const quintic = empty(device, [narrow, narrow], dtype);
    kernels.matmul(square, square, quintic, { scale: c / b, residual: square });
    const next = empty(device, shape, dtype);
    const [left, right] = wide ? [quintic, x] : [x, quintic];
    kernels.matmul(left, right, next, { scale: b / a, residual: x });
    x = next;
  }
  const out = empty(device, shape, "f32");
  kernels.affine(x, a ** steps, undefined, 0, out);
  return out;
}

const settings = z.strictObject({
  momentum: beta.default(0.95).describe("decay rate of the momentum"),
  nesterov: z.boolean().default(true).describe("Nesterov momentum"),
  ns_steps: z.int().min(1).max(20).default(5).describe("Newton-Schulz iterations"),
  ns_coefficients: z
    .tuple([z.number(), z.number(), z.number()])
    .refine(([a, b]) => a !== 0 && b !== 0, "the first two must not be 0")
    .default([3.4445, -4.775, 2.0315])
    .describe("of the Newton-Schulz polynomial"),
  eps: z.number().positive().default(1e-7).describe("smallest norm to divide by"),
  adjust_lr: z
    .enum(["original", "match_rms_adamw"])
    .default("match_rms_adamw")
    .describe("update scale; match_rms_adamw takes AdamW's rates"),
  weight_decay: z.number().min(0).default(0.1).describe(DECAY),
});

export const muon: OptimizerRow<typeof settings> = {
  help: "orthogonalised momentum for matrices; AdamW for vectors",
  settings,
  knownAs: "torch.optim._muon.Muon",
  learningRate: { lora: 1e-4, full: 1e-5 },
  create: (context, { ns_steps, ns_coefficients, adjust_lr, weight_decay, ...more }) =>
    createMuon(context, {
      ...more,
      steps: ns_steps,
      coefficients: ns_coefficients,
      length: adjust_lr,
      weightDecay: weight_decay,
      betas: [0.9, 0.999],
    }),
};
