// A large table of which a few rows are looked up: on the device as it is, or, where it is quantised, left in its file and
// widened row by row.
import { blockBytes } from "../base/block-format.ts";
import { bytesOf } from "../base/dtype.ts";
import { KinoraError } from "../base/errors.ts";
import { elementCount, type Shape } from "../base/shape.ts";
import type { Device } from "../device/device.ts";
import { cast, embedding } from "../tensor/ops/index.ts";
import { fromIntegers, fromValues, type Tensor } from "../tensor/tensor.ts";
import { type StoredWeight, storedValues } from "./stored-weight.ts";

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
        values.set(storedValues(rowOf(stored, id)), i * width);
      }
      return fromValues(device, values, [...shape, width]);
    },
  };
}

function rowOf(stored: StoredWeight, row: number): StoredWeight {
  const { dtype, blocks, scale, shape } = stored;
  const width = shape[1]!;
  const size = blocks ? blockBytes(blocks, width) : width * bytesOf(dtype);
  const data = { dtype, blocks, shape: [1, width], bytes: () => stored.bytes().subarray(row * size, (row + 1) * size) };
  if (!scale) return data;
  const { values } = scale;
  if (elementCount(scale.shape) === 1) return { ...data, scale };
  const perRow = values.length / shape[0]!;
  return { ...data, scale: { shape: [1, perRow, 1], values: values.subarray(row * perRow, (row + 1) * perRow) } };
}
