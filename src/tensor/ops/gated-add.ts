// x + y·gate, the gate a row of a small table for each run of rows.
import type { DType } from "../../base/dtype.ts";
import type { RowRuns } from "../../device/kernels.ts";
import { record } from "../tape.ts";
import { empty, type Tensor } from "../tensor.ts";

/** x, y [..., C]; table [R, C] float32; runs count rows of x flattened to [M, C]. Without x: y·gate. */
export function gatedAdd(x: Tensor | undefined, y: Tensor, table: Tensor, runs: RowRuns, dtype?: DType): Tensor {
  const output = empty(y.device, y.shape, dtype ?? x?.dtype ?? y.dtype);
  y.device.kernels.gatedAdd(x, y, table, runs, output);
  return record(
    "gatedAdd",
    output,
    [x, y, table],
    table.requiresGrad ? [table, y] : [table],
    (dy, needs, [stable, sy]) => {
      const { kernels } = dy.device;
      let dx: Tensor | undefined;
      if (needs[0]) {
        dx = dy;
        if (x!.dtype !== dy.dtype) {
          dx = empty(dy.device, dy.shape, x!.dtype);
          kernels.cast(dy, dx);
        }
      }
      let dyGated: Tensor | undefined;
      if (needs[1]) {
        dyGated = empty(dy.device, dy.shape, y.dtype);
        kernels.gatedAdd(undefined, dy, stable!, runs, dyGated);
      }
      let dtable: Tensor | undefined;
      if (needs[2]) {
        dtable = empty(dy.device, stable!.shape, "f32");
        kernels.sumRuns(dy, sy!, runs, dtable);
      }
      return [dx, dyGated, dtable];
    },
  );
}
