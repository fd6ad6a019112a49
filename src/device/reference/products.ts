// Matrix products with their epilogue. Weights are never packed here: plain is as good.
import { KinoraError } from "../../base/errors.ts";
import { lastOf, rowsOf } from "../check-operands.ts";
import type { Epilogue, Kernels, LinearWeight, Operand } from "../kernels.ts";
import { activations } from "./activations.ts";
import { dequantized } from "./quantization.ts";
import { type Output, openOutput, read, tableRows, transposed, type Values } from "./values.ts";

/** A matrix whose rows are contiguous. */
interface Matrix {
  values: Values;
  offset: number;
}

/** Rows of a [rows, inner] · (b [columns, inner])ᵀ, one after the other. `emit` gets a buffer that the next row reuses. */
function multiply(
  a: Matrix,
  b: Matrix,
  rows: number,
  columns: number,
  inner: number,
  emit: (row: number, sums: Float64Array) => void,
): void {
  const first = new Float64Array(columns);
  const second = new Float64Array(columns);
  const [x, w] = [a.values, b.values];
  // Two rows by two columns at a time: four sums share four loads. Odd ends run over their neighbour again.
  for (let row = 0; row < rows; row += 2) {
    const x0 = a.offset + row * inner;
    const x1 = row + 1 < rows ? x0 + inner : x0;
    for (let column = 0; column < columns; column += 2) {
      const w0 = b.offset + column * inner;
      const w1 = column + 1 < columns ? w0 + inner : w0;
      let s00 = 0;
      let s01 = 0;
      let s10 = 0;
      let s11 = 0;
      for (let k = 0; k < inner; k++) {
        const xa = x[x0 + k]!;
        const xb = x[x1 + k]!;
        const wa = w[w0 + k]!;
        const wb = w[w1 + k]!;
        s00 += xa * wa;
        s01 += xa * wb;
        s10 += xb * wa;
        s11 += xb * wb;
      }
      first[column] = s00;
      second[column] = s10;
      // Writes beyond the end of a typed array do nothing.
      first[column + 1] = s01;
      second[column + 1] = s11;
    }
    emit(row, first);
    if (row + 1 < rows) emit(row + 1, second);
  }
}

/** Turns a row of sums into a row of the result. `row` counts over all batch items. */
function finisher(out: Output, rows: number, columns: number, options: Epilogue) {
  const { scale = 1, accumulate, activation, gate } = options;
  const target = out.values;
  const bias = options.bias && read(options.bias);
  const residual = options.residual && read(options.residual);
  const activate = activation && activations[activation].value;
  const table = gate && read(gate.table);
  const gateRows = gate && tableRows(gate.runs, rows);
  return (row: number, sums: Float64Array): void => {
    const start = row * columns;
    for (let column = 0; column < columns; column++) {
      let z = scale * sums[column]!;
      if (bias) z += bias[column]!;
      if (accumulate) z += target[start + column]!;
      if (activate) z = activate(z);
      if (table) z *= table[gateRows![row]! * columns + column]!;
      if (residual) z += residual[start + column]!;
      target[start + column] = z;
    }
  };
}

function weightValues(weight: LinearWeight): Values {
  if (!weight.plain) throw notPacked();
  return dequantized(weight.plain, weight.scale, weight.blocks);
}

const notPacked = () =>
  new KinoraError(
    "kernel.unsupported",
    "the reference device does not pack weights; this one was packed by another device",
  );

export const productKernels = {
  matmul(a, b, out, options = {}) {
    const [rows, columns] = out.shape.slice(-2) as [number, number];
    const inner = a.shape.at(options.transposeA ? -2 : -1)!;
    const batch = rowsOf(out) / (rows || 1);
    const [x, y, target] = [read(a), read(b), openOutput(out, options.accumulate)];
    const finish = finisher(target, rowsOf(out), columns, options);
    for (let item = 0; item < batch; item++) {
      const [xStart, yStart] = [item * rows * inner, item * inner * columns];
      const left = options.transposeA
        ? { values: transposed(x, xStart, inner, rows), offset: 0 }
        : { values: x, offset: xStart };
      const right = options.transposeB
        ? { values: y, offset: yStart }
        : { values: transposed(y, yStart, inner, columns), offset: 0 };
      multiply(left, right, rows, columns, inner, (row, sums) => finish(item * rows + row, sums));
    }
    target.store();
  },

  linear(x, weight, out, options = {}) {
    const [outputs, inputs] = weight.shape;
    const target = openOutput(out, options.accumulate);
    const finish = finisher(target, rowsOf(out), outputs, options);
    const left = { values: read(x), offset: 0 };
    multiply(left, { values: weightValues(weight), offset: 0 }, rowsOf(x), outputs, inputs, finish);
    target.store();
  },

  linearBackwardData(dy, weight, dx, options = {}) {
    const [outputs, inputs] = weight.shape;
    const target = openOutput(dx, options.accumulate);
    const finish = finisher(target, rowsOf(dx), lastOf(dx), options);
    const right = { values: transposed(weightValues(weight), 0, outputs, inputs), offset: 0 };
    multiply({ values: read(dy), offset: 0 }, right, rowsOf(dy), inputs, outputs, finish);
    target.store();
  },

  packWeight: (_plain: Operand) => undefined,

  unpackWeight() {
    throw notPacked();
  },
} satisfies Partial<Kernels>;
