// AdamW (Loshchilov and Hutter, arXiv 1711.05101) as torch.optim.AdamW steps, with float32 states and with 8-bit states.
import { DYNAMIC_BLOCK, firstMomentCode, signedCode, unsignedCode } from "../dynamic-code.ts";
import { f32View, view } from "../host/host-views.ts";
import type { AdamWOptions, Kernels } from "../kernels.ts";
import { read } from "./values.ts";

/** The arithmetic of one element, in place: moments are what the caller reads and stores. */
function createStep(options: AdamWOptions) {
  const { learningRate, beta1, beta2, eps, weightDecay, step, gradientScale } = options;
  const correction1 = 1 - beta1 ** step;
  const correction2 = Math.sqrt(1 - beta2 ** step);
  return {
    first: (m: number, gradient: number): number => beta1 * m + (1 - beta1) * gradient * gradientScale,
    second: (v: number, gradient: number): number => beta2 * v + (1 - beta2) * (gradient * gradientScale) ** 2,
    parameter: (p: number, m: number, v: number): number =>
      p * (1 - learningRate * weightDecay) - ((learningRate / correction1) * m) / (Math.sqrt(v) / correction2 + eps),
  };
}

export const optimizerKernels = {
  adamw(parameter, gradient, m, v, options) {
    const [p, g, first, second] = [f32View(parameter), read(gradient), f32View(m), f32View(v)];
    const step = createStep(options);
    for (let i = 0; i < p.length; i++) {
      const [mean, square] = [step.first(first[i]!, g[i]!), step.second(second[i]!, g[i]!)];
      p[i] = step.parameter(p[i]!, mean, square);
      first[i] = mean;
      second[i] = square;
    }
  },

  adamw8bit(parameter, gradient, { m, mScale, v, vScale }, options) {
    const [p, g] = [f32View(parameter), read(gradient)];
    const [mCodes, vCodes] = [view(m) as Uint8Array, view(v) as Uint8Array];
    const [mScales, vScales] = [f32View(mScale), f32View(vScale)];
    const step = createStep(options);
    const means = new Float64Array(DYNAMIC_BLOCK);
    const squares = new Float64Array(DYNAMIC_BLOCK);
    for (let block = 0; block < mScales.length; block++) {
      const start = block * DYNAMIC_BLOCK;
      const count = Math.min(DYNAMIC_BLOCK, p.length - start);
      let [topMean, topSquare] = [0, 0];
      for (let i = 0; i < count; i++) {
        const at = start + i;
        means[i] = step.first(signedCode.values[mCodes[at]!]! * mScales[block]!, g[at]!);
        squares[i] = step.second(unsignedCode.values[vCodes[at]!]! * vScales[block]!, g[at]!);
        topMean = Math.max(topMean, Math.abs(means[i]!));
        topSquare = Math.max(topSquare, squares[i]!);
        p[at] = step.parameter(p[at]!, means[i]!, squares[i]!);
      }
      mScales[block] = topMean;
      vScales[block] = topSquare;
      for (let i = 0; i < count; i++) {
        mCodes[start + i] = firstMomentCode(topMean === 0 ? 0 : means[i]! / topMean);
        vCodes[start + i] = unsignedCode.nearest(topSquare === 0 ? 0 : squares[i]! / topSquare);
      }
    }
  },
} satisfies Partial<Kernels>;
