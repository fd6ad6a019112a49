// Rows of a table by id.
import { record } from "../tape.ts";
import { empty, type Tensor } from "../tensor.ts";

/** table [V, C], ids int32 [...] → [..., C]. */
export function embedding(table: Tensor, ids: Tensor): Tensor {
  const output = empty(table.device, [...ids.shape, table.shape[1]!], table.dtype);
  table.device.kernels.embedding(table, ids, output);
  return record("embedding", output, [table], [ids], (dy, _needs, [sids]) => {
    const dtable = empty(dy.device, table.shape, table.dtype);
    dy.device.kernels.embeddingBackward(sids!, dy, dtable);
    return [dtable];
  });
}
