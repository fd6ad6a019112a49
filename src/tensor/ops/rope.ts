// Rotary position embedding on adjacent pairs (Su et al., RoFormer, arXiv 2104.09864).
import { record } from "../tape.ts";
import { empty, type Tensor } from "../tensor.ts";

/** The rotary table of a grid of tokens. */
export interface Rotation {
  /** float32 [L, headDim/2]. */
  cos: Tensor;
  sin: Tensor;
}

/** x [B, L', H, D]; rows beyond the table's L pass unchanged. */
export function rope(x: Tensor, rotation: Rotation): Tensor {
  const output = empty(x.device, x.shape, x.dtype);
  x.device.kernels.rope(x, rotation, output);
  return record("rope", output, [x], [rotation.cos, rotation.sin], (dy, _needs, [cos, sin]) => {
    const dx = empty(dy.device, dy.shape, dy.dtype);
    dy.device.kernels.rope(dy, { cos: cos!, sin: sin! }, dx, { inverse: true });
    return [dx];
  });
}
