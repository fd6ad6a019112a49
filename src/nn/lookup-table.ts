// A large table of which a few rows are looked up: on the device as it is, or, where it is quantised, left in its file and
// widened row by row.
import { KinoraError } from "../base/errors.ts";
import type { Shape } from "../base/shape.ts";
import type { Device } from "../device/device.ts";
import { cast, embedding } from "../tensor/ops/index.ts";
import { fromIntegers, fromValues, type Tensor } from "../tensor/tensor.ts";
import { rowsOf, type StoredWeight, storedValues } from "./stored-weight.ts";

export interface LookupTable {
  /** Rows by id, float32 [...shape, C] in the current scope; `ids` has as many as `shape`. */
  rows(ids: Int32Array, shape: Shape): Tensor;
}

/** A table [N, C] in the device's memory; recorded by the tape where it trains. */
export const tableOf = (table: Tensor): LookupTable => ({
  rows: (ids, shape) => cast(embedding(table, fromIntegers(table.device, ids, shape)), "f32"),
});

/** A table [N, C] whose rows are read from where it is stored. */
export function storedTable(device: Device, stored: StoredWeight): LookupTable {
  const [count, width] = stored.shape as [number, number];
  return {
    rows(ids, shape) {
      const values = new Float32Array(ids.length * width);
      for (const [i, id] of ids.entries()) {
        if (id < 0 || id >= count) {
          throw new KinoraError("table.no-row", "the table has no such row", {
            expected: `0 to ${count - 1}`,
            actual: `${id}`,
          });
        }
        values.set(storedValues(rowsOf(stored, id, 1)), i * width);
      }
      return fromValues(device, values, [...shape, width]);
    },
  };
}
