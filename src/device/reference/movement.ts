// Copies between windows, gathers and sums: kernels that move elements or fold them together.
import { KinoraError } from "../../base/errors.ts";
import { lastOf } from "../check-operands.ts";
import { f32View, i32View, view } from "../host/host-views.ts";
import type { Kernels, Operand } from "../kernels.ts";
import { accumulator, openOutput, read } from "./values.ts";
import { broadcastStrides, walk } from "./walk.ts";

/** The ids, each a row of a table of `rows`. Throws `kernel.bad-id`. */
export function checkedIds(ids: Operand, rows: number): Int32Array {
  const values = i32View(ids);
  const wrong = values.find((id) => id < 0 || id >= rows);
  if (wrong === undefined) return values;
  throw new KinoraError("kernel.bad-id", "an id is outside its table", {
    expected: `0 to ${rows - 1}`,
    actual: String(wrong),
  });
}

export const movementKernels = {
  stridedCopy(source, target, extent, options = {}) {
    const strides = [source.strides, target.strides];
    const offsets = [source.offset, target.offset];
    if (options.accumulate) {
      const from = read(source.operand);
      const sums = openOutput(target.operand, true);
      walk(
        extent,
        strides,
        ([at, to], length, [step, stepTo]) => {
          for (let i = 0; i < length; i++) sums.values[to! + i * stepTo!]! += from[at! + i * step!]!;
        },
        offsets,
      );
      sums.store();
      return;
    }
    // One dtype on both sides: the elements are copied as they are, whatever kind of array holds them.
    const [from, into] = [view(source.operand) as Uint8Array, view(target.operand) as Uint8Array];
    walk(
      extent,
      strides,
      ([at, to], length, [step, stepTo]) => {
        if (step === 1 && stepTo === 1) into.set(from.subarray(at!, at! + length), to!);
        else for (let i = 0; i < length; i++) into[to! + i * stepTo!] = from[at! + i * step!]!;
      },
      offsets,
    );
  },

  sum(x, _axes, out) {
    const values = read(x);
    const total = accumulator(out)!;
    const strides = [broadcastStrides(x.shape, x.shape), broadcastStrides(out.shape, x.shape)];
    walk(x.shape, strides, ([at, to], length, [step, stepTo]) => {
      for (let i = 0; i < length; i++) total.sums[to! + i * stepTo!]! += values[at! + i * step!]!;
    });
    total.store();
  },

  sumSquares(x, out) {
    const values = read(x);
    let total = 0;
    for (let i = 0; i < values.length; i++) total += values[i]! ** 2;
    f32View(out)[0] = total;
  },

  sumRuns(a, b, runs, out) {
    const columns = lastOf(a);
    const left = read(a);
    const right = b && read(b);
    const total = accumulator(out)!;
    for (const { start, count, row } of runs) {
      for (let i = start * columns; i < (start + count) * columns; i++) {
        total.sums[row * columns + (i % columns)]! += left[i]! * (right ? right[i]! : 1);
      }
    }
    total.store();
  },

  embedding(table, ids, out) {
    const columns = lastOf(table);
    const rows = read(table);
    const target = openOutput(out);
    for (const [i, id] of checkedIds(ids, table.shape[0]!).entries()) {
      target.values.set(rows.subarray(id * columns, (id + 1) * columns), i * columns);
    }
    target.store();
  },

  embeddingBackward(ids, dy, dtable) {
    const columns = lastOf(dtable);
    const dys = read(dy);
    const total = accumulator(dtable)!;
    for (const [i, id] of checkedIds(ids, dtable.shape[0]!).entries()) {
      for (let c = 0; c < columns; c++) total.sums[id * columns + c]! += dys[i * columns + c]!;
    }
    total.store();
  },
} satisfies Partial<Kernels>;
