// Prodigy (Mishchenko & Defazio, arXiv 2306.06101), as prodigyopt computes it: AdamW that finds the size of its steps from how
// far the weights have come from where they began.
import { z } from "zod";
import { openScope } from "../../tensor/scope.ts";
import { empty, type Tensor } from "../../tensor/tensor.ts";
import { beta, DECAY } from "./adamw.ts";
import { combined, product, sign, total } from "./arithmetic.ts";
import { type MovingParameter, type OptimizerRow, ParameterwiseOptimizer, zeroState } from "./optimizer.ts";

const settings = z.strictObject({
  betas: z.tuple([beta, beta]).default([0.9, 0.999]).describe("decay rates of the two moments"),
  beta3: beta.optional().describe("decay rate of the step size estimate"),
  eps: z.number().positive().default(1e-8).describe("avoids division by zero"),
  weight_decay: z.number().min(0).default(0).describe(DECAY),
  decouple: z.boolean().default(true).describe("decoupled weight decay (AdamW); off: L2 in the gradient (Adam)"),
  use_bias_correction: z.boolean().default(false).describe("Adam's bias correction"),
  safeguard_warmup: z.boolean().default(false).describe("keep a warm-up from inflating the estimate"),
  d0: z.number().positive().default(1e-6).describe("initial step size estimate"),
  d_coef: z.number().positive().default(1).describe("factor on the estimate; 2 learns faster, 0.5 slower"),
  growth_rate: z.number().min(1).optional().describe("largest growth of the estimate per step"),
  slice_p: z.int().min(1).max(1000).default(1).describe("estimate from every n-th element, to save memory"),
});

type State = Readonly<Record<"m" | "v" | "s" | "start", Tensor>>;

/** AdamW's kernel corrects its moments by 1 from here on: what Prodigy corrects is in its rate. */
const LATE = 1e9;

export const prodigy: OptimizerRow<typeof settings> = {
  help: "AdamW that finds its own step size; keep learning_rate at 1",
  settings,
  presets: { beta3: "√ of the second of betas", growth_rate: "any" },
  knownAs: "prodigyopt.prodigy.Prodigy",
  learningRate: { lora: 1, full: 1 },
  oneRate: "Prodigy finds one rate for all parameters",
  create(context, own) {
    const { device } = context;
    const { kernels } = device;
    const { betas, eps, weight_decay, decouple, use_bias_correction, safeguard_warmup, slice_p } = own;
    const [beta1, beta2] = betas;
    const beta3 = own.beta3 ?? Math.sqrt(beta2);
    const numbers = { d: own.d0, dMax: own.d0, numerator: 0, denominator: 0, dHat: own.d0 };
    /** Of the step under way, before it found a new estimate: that estimate, and the rate. */
    let [before, rate] = [own.d0, 0];

    /** Every n-th element, as one row. */
    const sliced = (x: Tensor): Tensor => {
      if (slice_p === 1) return x.alias([x.size]);
      const count = Math.ceil(x.size / slice_p);
      const out = empty(device, [count], "f32");
      const place = (operand: Tensor, stride: number) => ({ operand, offset: 0, strides: [stride] });
      kernels.stridedCopy(place(x, slice_p), place(out, 1), [count]);
      return out;
    };
    const gradientOf = (parameter: Tensor, gradient: Tensor, scale: number): Tensor =>
      combined(gradient, scale, decouple || weight_decay === 0 ? undefined : parameter, weight_decay);

    return new ParameterwiseOptimizer<State>(context, {
      numbers,
      fresh(parameter) {
        using _scope = openScope(device);
        const from = sliced(parameter);
        const start = zeroState(device, from.shape);
        kernels.cast(from, start);
        const zero = () => zeroState(device, parameter.shape);
        return { m: zero(), v: zero(), s: zeroState(device, from.shape), start };
      },
      async begin(moving: readonly MovingParameter<State>[], { step, learningRate, gradientScale }) {
        using _scope = openScope(device);
        before = numbers.d;
        const correction = use_bias_correction ? Math.sqrt(1 - beta2 ** step) / (1 - beta1 ** step) : 1;
        rate = before * learningRate * correction;
        if (moving.length === 0 || learningRate === 0) return rate;
        const length = (before / own.d0) * (safeguard_warmup ? before : rate);
        const sums = empty(device, [2 * moving.length], "f32");
        for (const [i, { parameter, gradient, state }] of moving.entries()) {
          using _inner = openScope(device);
          const g = sliced(gradientOf(parameter, gradient, gradientScale));
          const way = combined(state.start, 1, sliced(parameter), -1);
          kernels.cast(total(product(g, way)), sums.rows(2 * i, 1));
          kernels.affine(state.s, beta3, g, length, state.s);
          kernels.cast(total(product(state.s, sign(state.s))), sums.rows(2 * i + 1, 1));
        }
        const found = await sums.read();
        const sum = (offset: number) => moving.reduce((all, _one, i) => all + found[2 * i + offset]!, 0);
        numbers.numerator = numbers.numerator * beta3 + (before / own.d0) * rate * sum(0);
        numbers.denominator = sum(1);
        if (numbers.denominator > 0) {
          numbers.dHat = (own.d_coef * numbers.numerator) / numbers.denominator;
          if (numbers.d === own.d0) numbers.d = Math.max(numbers.d, numbers.dHat);
          numbers.dMax = Math.max(numbers.dMax, numbers.dHat);
          numbers.d = Math.min(numbers.dMax, numbers.d * (own.growth_rate ?? Number.POSITIVE_INFINITY));
        }
        return rate;
      },
      apply(parameter, gradient, { m, v }, { gradientScale }) {
        using _scope = openScope(device);
        kernels.adamw(parameter, gradientOf(parameter, gradient, gradientScale), m, v, {
          learningRate: rate,
          beta1,
          beta2,
          eps: numbers.d * eps,
          weightDecay: decouple ? weight_decay : 0,
          step: LATE,
          gradientScale: before,
        });
      },
    });
  },
};
