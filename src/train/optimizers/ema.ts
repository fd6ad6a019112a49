// A moving average of the weights beside any optimizer: what trains goes on as it would, and the average is what is
// validated, previewed and written. ai-toolkit's rule: shadow ← shadow − (1 − d)·(shadow − weight) after each step.
import { openScope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { combined } from "./arithmetic.ts";
import { type Optimizer, type OptimizerContext, zeroState } from "./optimizer.ts";

export interface EmaSettings {
  /** The share of the past, 0…1. */
  decay: number;
  /** Begins with a small share: at step k at most (1 + k)/(10 + k). */
  rising: boolean;
}

/** The share of the past after a step, which counts from 1. */
export const emaDecay = ({ decay, rising }: EmaSettings, step: number): number =>
  rising ? Math.min(decay, (1 + step) / (10 + step)) : decay;

const STATE = "ema/";

/** Owns `inner`. */
export function withEma({ device, parameters }: OptimizerContext, inner: Optimizer, settings: EmaSettings): Optimizer {
  const shadows = new Map<string, Tensor>();
  for (const [name, parameter] of parameters) {
    const shadow = zeroState(device, parameter.shape);
    device.kernels.cast(parameter, shadow);
    shadows.set(name, shadow);
  }
  return {
    parameters: inner.parameters,
    get step() {
      return inner.step;
    },
    async update(learningRate, gradientScale) {
      const used = await inner.update(learningRate, gradientScale);
      using _scope = openScope(device);
      const part = 1 - emaDecay(settings, inner.step);
      const weights = inner.shown?.() ?? parameters;
      for (const [name, shadow] of shadows) device.kernels.affine(shadow, 1 - part, weights.get(name)!, part, shadow);
      return used;
    },
    state() {
      const { tensors, numbers } = inner.state();
      const own = [...shadows].map(([name, shadow]) => [STATE + name, shadow] as const);
      return { tensors: new Map([...tensors, ...own]), numbers };
    },
    restore: (numbers) => inner.restore(numbers),
    shown: () => new Map([...shadows].map(([name, shadow]) => [name, combined(shadow, 1)])),
    [Symbol.dispose]() {
      inner[Symbol.dispose]();
      for (const shadow of shadows.values()) shadow[Symbol.dispose]();
      shadows.clear();
    },
  };
}
