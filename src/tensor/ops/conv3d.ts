// 3D convolution, channels last. Causality is the caller's: history in front, or zeros before and none after.
import { checkShape } from "../../base/shape.ts";
import type { ConvolutionOptions } from "../../device/kernels.ts";
import { record } from "../tape.ts";
import { empty, type Tensor } from "../tensor.ts";

/** x [B, T, H, W, Ci], weight [Co, Ci, kt, kh, kw], bias [Co] → [B, T', H', W', Co]. Cross-correlation, as in PyTorch. */
export function conv3d(x: Tensor, weight: Tensor, bias: Tensor | undefined, options: ConvolutionOptions): Tensor {
  const [batch, ...extent] = x.shape.slice(0, 4);
  const [outputs, inputs, ...kernel] = weight.shape;
  checkShape("the input of a convolution", x.shape, [undefined, undefined, undefined, undefined, inputs]);
  const size = extent.map((length, i) => {
    const [before, after] = options.padding[i]!;
    return Math.floor((length + before + after - kernel[i]!) / options.stride[i]!) + 1;
  });
  const output = empty(x.device, [batch!, ...size, outputs!], x.dtype);
  x.device.kernels.conv3d(x, weight, bias, output, options);
  const saved = weight.requiresGrad ? [weight, x] : [weight];
  return record("conv3d", output, [x, weight, bias], saved, (dy, needs, [w, sx]) => {
    const { kernels } = dy.device;
    let dx: Tensor | undefined;
    if (needs[0]) {
      dx = empty(dy.device, x.shape, x.dtype);
      kernels.conv3dBackwardData(dy, w!, dx, options);
    }
    let dw: Tensor | undefined;
    let db: Tensor | undefined;
    if (needs[1]) {
      dw = empty(dy.device, w!.shape, w!.dtype);
      db = needs[2] ? empty(dy.device, bias!.shape, bias!.dtype) : undefined;
      kernels.conv3dBackwardWeights(sx!, dy, dw, db, options);
    } else if (needs[2]) {
      db = empty(dy.device, bias!.shape, bias!.dtype);
      kernels.sum(dy, [0, 1, 2, 3], {
        block: db.block,
        offset: db.offset,
        dtype: db.dtype,
        shape: [1, 1, 1, 1, outputs!],
      });
    }
    return [dx, dw, db];
  });
}
