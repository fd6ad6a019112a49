// What the cpu device's kernels hold beside their operands while they run, for plans on the null device. Only the kernels
// that take the most where memory is at its peak; the others need less, and all of it is bounded by a chunk of rows.
import { bytesOf, elementCount } from "../../base/dtype.ts";
import { lastOf, rowsOf } from "../check-operands.ts";
import type { Operand } from "../kernels.ts";
import type { DeviceModel } from "../null/null-device.ts";
import { eachRowChunk } from "./row-chunks.ts";

/** The largest chunk of a matrix that is worked on at a time; elements. */
function chunkElements(x: Operand): number {
  let most = 0;
  eachRowChunk(0, rowsOf(x), lastOf(x), (_start, count) => {
    most = Math.max(most, count * lastOf(x));
  });
  return most;
}

/** Norms go back over float32 copies of what is narrow, and two scratch matrices (norms-backward.ts). */
function normBackward(x: Operand, dy: Operand, dx: Operand | undefined): number {
  const narrow = [x, dy, ...(dx ? [dx] : [])].filter(({ dtype }) => dtype !== "f32").length;
  return (2 + narrow) * chunkElements(x) * bytesOf("f32");
}

export const cpuWorkspace: DeviceModel = {
  workspace: {
    layerNormBackward: (x, dy, _options, { dx }) => normBackward(x, dy, dx),
    rmsNormBackward: (x, _weight, dy, _options, { dx }) => normBackward(x, dy, dx),
    /** A chunk of the result in float32 (modulation.ts). */
    gatedAdd: (_x, y, _table, _runs, out) =>
      out.dtype === "f32" ? 0 : Math.min(elementCount(y.shape), chunkElements(y)) * bytesOf("f32"),
  },
};
