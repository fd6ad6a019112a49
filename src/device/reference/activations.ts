// The activation functions and their slopes, in float64.
import type { Activation } from "../kernels.ts";

export interface ActivationFunction {
  value(x: number): number;
  slope(x: number): number;
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/**
 * erf(x) = 2/√π·exp(−x²)·Σ 2ⁿx²ⁿ⁺¹/(2n+1)!!: all terms have one sign, so nothing cancels.
 * Exact to a few units of the last place; 1 in float64 beyond 6.
 */
export function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

const tanhScale = Math.sqrt(2 / Math.PI);
const tanhCubic = 0.044715;
const quickScale = 1.702;

export const activations: Readonly<Record<Activation, ActivationFunction>> = {
  "gelu-tanh": {
    value: (x) => 0.5 * x * (1 + Math.tanh(tanhScale * (x + tanhCubic * x * x * x))),
    slope(x) {
      const t = Math.tanh(tanhScale * (x + tanhCubic * x * x * x));
      return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * tanhScale * (1 + 3 * tanhCubic * x * x);
    },
  },
  "gelu-erf": {
    value: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
    slope: (x) => 0.5 * (1 + erf(x / Math.SQRT2)) + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI),
  },
  "quick-gelu": {
    value: (x) => x * sigmoid(quickScale * x),
    slope(x) {
      const s = sigmoid(quickScale * x);
      return s + quickScale * x * s * (1 - s);
    },
  },
  silu: {
    value: (x) => x * sigmoid(x),
    slope(x) {
      const s = sigmoid(x);
      return s + x * s * (1 - s);
    },
  },
};
