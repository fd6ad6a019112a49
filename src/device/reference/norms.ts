// Layer norm with affine form or modulation, RMS norm of both kinds, softmax: all over the last axis.
import { lastOf, rowsOf } from "../check-operands.ts";
import type { Kernels, ModulatedNorm, Operand, RmsNormOptions } from "../kernels.ts";
import { activations } from "./activations.ts";
import { accumulator, openOutput, read, tableRows, type Values } from "./values.ts";

/** What a row is multiplied by and raised by after the norm: gain[start + c] + extra, shift[start + c]. */
function modulator(x: Operand, { weight, bias, modulation }: ModulatedNorm) {
  const columns = lastOf(x);
  const rows = modulation && tableRows(modulation.runs, rowsOf(x));
  const gain = modulation ? read(modulation.scale) : weight && read(weight);
  const shift = modulation ? read(modulation.shift) : bias && read(bias);
  return {
    start: (row: number): number => (rows ? rows[row]! * columns : 0),
    gain: (at: number): number => (gain ? gain[at]! : 1) + (modulation ? 1 : 0),
    shift: (at: number): number => (shift ? shift[at]! : 0),
  };
}

function statistics(x: Values, start: number, columns: number, eps: number): { mean: number; inverse: number } {
  let sum = 0;
  for (let c = 0; c < columns; c++) sum += x[start + c]!;
  const mean = sum / columns;
  let squares = 0;
  for (let c = 0; c < columns; c++) squares += (x[start + c]! - mean) ** 2;
  return { mean, inverse: 1 / Math.sqrt(squares / columns + eps) };
}

/** y = x·factor (before the weight), and how factor changes with x: dfactor = −factor·pull·x·dx. */
function rms(x: Values, start: number, columns: number, options: RmsNormOptions): { factor: number; pull: number } {
  let squares = 0;
  for (let c = 0; c < columns; c++) squares += x[start + c]! ** 2;
  if (options.kind === "mean") {
    const factor = 1 / Math.sqrt(squares / columns + options.eps);
    return { factor, pull: (factor * factor) / columns };
  }
  const norm = Math.sqrt(squares);
  if (norm <= options.eps) return { factor: Math.sqrt(columns) / options.eps, pull: 0 };
  return { factor: Math.sqrt(columns) / norm, pull: 1 / squares };
}

export const normKernels = {
  layerNorm(x, out, options) {
    const [rows, columns] = [rowsOf(x), lastOf(x)];
    const values = read(x);
    const target = openOutput(out);
    const { start, gain, shift } = modulator(x, options);
    for (let row = 0; row < rows; row++) {
      const [at, table] = [row * columns, start(row)];
      const { mean, inverse } = statistics(values, at, columns, options.eps);
      for (let c = 0; c < columns; c++) {
        target.values[at + c] = (values[at + c]! - mean) * inverse * gain(table + c) + shift(table + c);
      }
    }
    target.store();
  },

  layerNormBackward(x, dy, options, gradients) {
    const [rows, columns] = [rowsOf(x), lastOf(x)];
    const [values, dys] = [read(x), read(dy)];
    const { start, gain } = modulator(x, options);
    const dx = gradients.dx && openOutput(gradients.dx);
    const gains = [accumulator(gradients.dweight), accumulator(gradients.dscale)];
    const shifts = [accumulator(gradients.dbias), accumulator(gradients.dshift)];
    const normed = new Float64Array(columns);
    for (let row = 0; row < rows; row++) {
      const [at, table] = [row * columns, start(row)];
      const { mean, inverse } = statistics(values, at, columns, options.eps);
      let [sum, product] = [0, 0];
      for (let c = 0; c < columns; c++) {
        const slope = dys[at + c]! * gain(table + c);
        normed[c] = (values[at + c]! - mean) * inverse;
        sum += slope;
        product += slope * normed[c]!;
        for (const total of gains) if (total) total.sums[table + c]! += dys[at + c]! * normed[c]!;
        for (const total of shifts) if (total) total.sums[table + c]! += dys[at + c]!;
      }
      if (!dx) continue;
      for (let c = 0; c < columns; c++) {
        const slope = dys[at + c]! * gain(table + c);
        dx.values[at + c] = inverse * (slope - sum / columns - (normed[c]! * product) / columns);
      }
    }
    dx?.store();
    for (const total of [...gains, ...shifts]) total?.store();
  },

  rmsNorm(x, weight, out, options) {
    const [rows, columns] = [rowsOf(x), lastOf(x)];
    const [values, weights] = [read(x), read(weight)];
    const target = openOutput(out);
    for (let at = 0; at < rows * columns; at += columns) {
      const { factor } = rms(values, at, columns, options);
      for (let c = 0; c < columns; c++) {
        const z = values[at + c]! * factor * weights[c]!;
        target.values[at + c] = options.silu ? activations.silu.value(z) : z;
      }
    }
    target.store();
  },

  rmsNormBackward(x, weight, dy, options, gradients) {
    const [rows, columns] = [rowsOf(x), lastOf(x)];
    const [values, weights, dys] = [read(x), read(weight), read(dy)];
    const dx = gradients.dx && openOutput(gradients.dx);
    const dweight = accumulator(gradients.dweight);
    const slopes = new Float64Array(columns);
    for (let at = 0; at < rows * columns; at += columns) {
      const { factor, pull } = rms(values, at, columns, options);
      let product = 0;
      for (let c = 0; c < columns; c++) {
        const normed = values[at + c]! * factor;
        const dz = dys[at + c]! * (options.silu ? activations.silu.slope(normed * weights[c]!) : 1);
        if (dweight) dweight.sums[c]! += dz * normed;
        slopes[c] = dz * weights[c]!;
        product += slopes[c]! * values[at + c]!;
      }
      if (!dx) continue;
      for (let c = 0; c < columns; c++) {
        dx.values[at + c] = factor * (slopes[c]! - values[at + c]! * pull * product);
      }
    }
    dx?.store();
    dweight?.store();
  },

  softmax(x, out) {
    const [rows, columns] = [rowsOf(x), lastOf(x)];
    const values = read(x);
    const target = openOutput(out);
    const powers = new Float64Array(columns);
    for (let at = 0; at < rows * columns; at += columns) {
      let top = Number.NEGATIVE_INFINITY;
      for (let c = 0; c < columns; c++) top = Math.max(top, values[at + c]!);
      let total = 0;
      for (let c = 0; c < columns; c++) {
        powers[c] = Math.exp(values[at + c]! - top);
        total += powers[c]!;
      }
      for (let c = 0; c < columns; c++) target.values[at + c] = powers[c]! / total;
    }
    target.store();
  },

  softmaxBackward(y, dy, dx) {
    const [rows, columns] = [rowsOf(y), lastOf(y)];
    const [values, dys] = [read(y), read(dy)];
    const target = openOutput(dx);
    for (let at = 0; at < rows * columns; at += columns) {
      let shared = 0;
      for (let c = 0; c < columns; c++) shared += values[at + c]! * dys[at + c]!;
      for (let c = 0; c < columns; c++) target.values[at + c] = values[at + c]! * (dys[at + c]! - shared);
    }
    target.store();
  },
} satisfies Partial<Kernels>;
