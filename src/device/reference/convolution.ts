// Direct 3D convolution, channels last. Each pair of an output position and a kernel tap is one small product.
import { elementCount } from "../../base/shape.ts";
import type { ConvolutionOptions, Kernels, Operand } from "../kernels.ts";
import { accumulator, read, type Values } from "./values.ts";

type Five = readonly [number, number, number, number, number];

/** Calls `visit` for each output position, kernel tap, and the input position that the tap falls on, if inside. */
function eachTap(
  x: Operand,
  weight: Operand,
  out: Operand,
  { stride, padding }: ConvolutionOptions,
  visit: (outPosition: number, tap: number, inPosition: number) => void,
): void {
  const [, frames, height, width] = x.shape as unknown as Five;
  const [, , kt, kh, kw] = weight.shape as unknown as Five;
  const [batch, outFrames, outHeight, outWidth] = out.shape as unknown as Five;
  const [st, sh, sw] = stride;
  const [front, top, left] = [padding[0][0], padding[1][0], padding[2][0]];
  let position = 0;
  for (let b = 0; b < batch; b++)
    for (let ot = 0; ot < outFrames; ot++)
      for (let oh = 0; oh < outHeight; oh++)
        for (let ow = 0; ow < outWidth; ow++, position++)
          for (let dt = 0; dt < kt; dt++) {
            const t = ot * st - front + dt;
            if (t < 0 || t >= frames) continue;
            for (let dh = 0; dh < kh; dh++) {
              const h = oh * sh - top + dh;
              if (h < 0 || h >= height) continue;
              for (let dw = 0; dw < kw; dw++) {
                const w = ow * sw - left + dw;
                if (w < 0 || w >= width) continue;
                visit(position, (dt * kh + dh) * kw + dw, ((b * frames + t) * height + h) * width + w);
              }
            }
          }
}

/** A weight [Co, Ci, taps] as one matrix per tap: [taps, Ci, Co], or [taps, Co, Ci] where `outputsFirst`. */
function byTap(weight: Operand, outputsFirst: boolean): Float64Array {
  const [outputs, inputs] = weight.shape as unknown as Five;
  const taps = elementCount(weight.shape.slice(2));
  const values = read(weight);
  const result = new Float64Array(values.length);
  for (let o = 0; o < outputs; o++) {
    for (let i = 0; i < inputs; i++) {
      for (let tap = 0; tap < taps; tap++) {
        const at = outputsFirst ? (tap * outputs + o) * inputs + i : (tap * inputs + i) * outputs + o;
        result[at] = values[(o * inputs + i) * taps + tap]!;
      }
    }
  }
  return result;
}

/** out[outStart …] += row · matrix [rows, columns]. */
function addRowTimesMatrix(
  row: Values,
  rowStart: number,
  matrix: Float64Array,
  matrixStart: number,
  rows: number,
  columns: number,
  out: Float64Array,
  outStart: number,
): void {
  for (let r = 0; r < rows; r++) {
    const factor = row[rowStart + r]!;
    const start = matrixStart + r * columns;
    for (let c = 0; c < columns; c++) out[outStart + c]! += factor * matrix[start + c]!;
  }
}

export const convolutionKernels = {
  conv3d(x, weight, bias, out, options) {
    const [outputs, inputs] = weight.shape as unknown as Five;
    const [values, taps, target] = [read(x), byTap(weight, false), accumulator(out)!];
    if (bias) {
      const start = read(bias);
      for (let at = 0; at < target.sums.length; at += outputs) target.sums.set(start, at);
    }
    eachTap(x, weight, out, options, (to, tap, from) => {
      addRowTimesMatrix(
        values,
        from * inputs,
        taps,
        tap * inputs * outputs,
        inputs,
        outputs,
        target.sums,
        to * outputs,
      );
    });
    target.store();
  },

  conv3dBackwardData(dy, weight, dx, options) {
    const [outputs, inputs] = weight.shape as unknown as Five;
    const [values, taps, target] = [read(dy), byTap(weight, true), accumulator(dx)!];
    eachTap(dx, weight, dy, options, (from, tap, to) => {
      addRowTimesMatrix(
        values,
        from * outputs,
        taps,
        tap * inputs * outputs,
        outputs,
        inputs,
        target.sums,
        to * inputs,
      );
    });
    target.store();
  },

  conv3dBackwardWeights(x, dy, dweight, dbias, options) {
    const [outputs, inputs] = dweight.shape as unknown as Five;
    const [values, dys] = [read(x), read(dy)];
    const taps = elementCount(dweight.shape.slice(2));
    const perTap = new Float64Array(elementCount(dweight.shape)); // [taps, Ci, Co]
    eachTap(x, dweight, dy, options, (to, tap, from) => {
      for (let i = 0; i < inputs; i++) {
        const factor = values[from * inputs + i]!;
        const start = (tap * inputs + i) * outputs;
        for (let o = 0; o < outputs; o++) perTap[start + o]! += factor * dys[to * outputs + o]!;
      }
    });
    const weights = accumulator(dweight)!;
    for (let at = 0; at < perTap.length; at++) {
      const [o, i, tap] = [at % outputs, Math.floor(at / outputs) % inputs, Math.floor(at / (outputs * inputs))];
      weights.sums[(o * inputs + i) * taps + tap] = perTap[at]!;
    }
    weights.store();
    const biases = accumulator(dbias);
    if (biases) for (let at = 0; at < dys.length; at++) biases.sums[at % outputs]! += dys[at]!;
    biases?.store();
  },
} satisfies Partial<Kernels>;
