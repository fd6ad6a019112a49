// C = scale·op(A)·op(B), batched over leading dimensions.
import { KinoraError } from "../../base/errors.ts";
import { record } from "../tape.ts";
import { empty, type Tensor } from "../tensor.ts";

export interface MatmulOptions {
  transposeA?: boolean;
  transposeB?: boolean;
  scale?: number;
}

/** a [..., M, K], b [..., K, N] (leading dimensions equal) → [..., M, N]. */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const { transposeA = false, transposeB = false, scale } = options;
  const [m, ka] = lastTwo(a, transposeA);
  const [kb, n] = lastTwo(b, transposeB);
  if (ka !== kb) {
    throw new KinoraError("shape.mismatch", "inner dimensions of a product differ", {
      actual: `[${a.shape}] and [${b.shape}]`,
    });
  }
  const output = empty(a.device, [...a.shape.slice(0, -2), m, n], a.dtype);
  const common = scale === undefined ? {} : { scale };
  a.device.kernels.matmul(a, b, output, { ...options });
  return record("matmul", output, [a, b], [a, b], (dy, needs, [x, y]) => {
    const { kernels } = dy.device;
    let da: Tensor | undefined;
    if (needs[0]) {
      da = empty(dy.device, x!.shape, x!.dtype);
      // dA = dC·op(B)ᵀ, transposed where A came transposed.
      if (transposeA) kernels.matmul(y!, dy, da, { ...common, transposeA: transposeB, transposeB: true });
      else kernels.matmul(dy, y!, da, { ...common, transposeB: !transposeB });
    }
    let db: Tensor | undefined;
    if (needs[1]) {
      db = empty(dy.device, y!.shape, y!.dtype);
      if (transposeB) kernels.matmul(dy, x!, db, { ...common, transposeA: true, transposeB: transposeA });
      else kernels.matmul(x!, dy, db, { ...common, transposeA: !transposeA });
    }
    return [da, db];
  });
}

function lastTwo(tensor: Tensor, transposed: boolean): [number, number] {
  const rows = tensor.shape.at(-2)!;
  const columns = tensor.shape.at(-1)!;
  return transposed ? [columns, rows] : [rows, columns];
}
