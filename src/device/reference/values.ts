// Operands as plain numbers: read with widening, written with rounding. All arithmetic between is float64.
import { fromFloat32, toFloat32 } from "../../base/float-formats.ts";
import { elementCount } from "../../base/shape.ts";
import { view } from "../host/host-views.ts";
import type { Operand, RowRuns } from "../kernels.ts";

export type Values = Float32Array | Float64Array;

/** An operand's elements: its own memory for f32 and f64, else a copy. */
export function read(operand: Operand): Values {
  const elements = view(operand);
  if (elements instanceof Float32Array || elements instanceof Float64Array) return elements;
  switch (operand.dtype) {
    case "bf16":
    case "f16":
    case "f8e4m3":
    case "f8e5m2":
      return toFloat32(new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength), operand.dtype);
    default:
      return Float64Array.from(elements as Int32Array, Number);
  }
}

/** Where a kernel writes numbers; `store` rounds them into the operand where it holds another format. */
export interface Output {
  readonly values: Values;
  store(): void;
}

/** `keep`: the values start as what the operand holds. Float32 is between float64 and the narrow formats, as in PyTorch. */
export function openOutput(operand: Operand, keep = false): Output {
  const elements = view(operand);
  if (elements instanceof Float32Array || elements instanceof Float64Array) return { values: elements, store() {} };
  switch (operand.dtype) {
    case "bf16":
    case "f16":
    case "f8e4m3":
    case "f8e5m2": {
      const values = keep ? (read(operand) as Float32Array) : new Float32Array(elements.length);
      const bytes = new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength);
      return { values, store: () => bytes.set(fromFloat32(values, operand.dtype)) };
    }
    default: {
      const values = keep ? (read(operand) as Float64Array) : new Float64Array(elements.length);
      return { values, store: () => storeIntegers(values, operand) };
    }
  }
}

/** Towards zero, as PyTorch converts. */
function storeIntegers(values: Float64Array, operand: Operand): void {
  const target = view(operand);
  if (target instanceof BigInt64Array) {
    for (let i = 0; i < values.length; i++) target[i] = BigInt(Math.trunc(values[i]!) || 0);
  } else if (operand.dtype === "bool") {
    for (let i = 0; i < values.length; i++) target[i] = values[i] === 0 ? 0 : 1;
  } else {
    for (let i = 0; i < values.length; i++) target[i] = values[i]!;
  }
}

/** A float64 sum for each element of an operand that is asked for, stored by `store`. */
export function accumulator(operand: Operand | undefined): { sums: Float64Array; store(): void } | undefined {
  if (!operand) return undefined;
  const sums = new Float64Array(elementCount(operand.shape));
  return {
    sums,
    store() {
      const out = openOutput(operand);
      out.values.set(sums);
      out.store();
    },
  };
}

/** For each row, the table row its run names. */
export function tableRows(runs: RowRuns, rows: number): Int32Array {
  const result = new Int32Array(rows);
  for (const { start, count, row } of runs) result.fill(row, start, start + count);
  return result;
}

/** values [rows, columns] from `offset`, turned to [columns, rows]. */
export function transposed(values: Values, offset: number, rows: number, columns: number): Values {
  const result = values instanceof Float32Array ? new Float32Array(rows * columns) : new Float64Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      result[column * rows + row] = values[offset + row * columns + column]!;
    }
  }
  return result;
}
