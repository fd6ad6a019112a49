// Layer norm over the last axis, plain, affine, or modulated by rows of a table (adaLN).
import type { DType } from "../../base/dtype.ts";
import type { RowRuns } from "../../device/kernels.ts";
import { record } from "../tape.ts";
import { empty, type Tensor } from "../tensor.ts";

export interface LayerNormOptions {
  eps: number;
  /** Affine, [C]. */
  weight?: Tensor;
  bias?: Tensor;
  /** y = norm(x)·(1 + scale) + shift, tables [R, C] float32. */
  modulation?: { scale: Tensor; shift: Tensor; runs: RowRuns };
  /** dtype of the result; that of x where absent. */
  dtype?: DType;
}

/** x [..., C] → the same shape. */
export function layerNorm(x: Tensor, options: LayerNormOptions): Tensor {
  const { eps, weight, bias, modulation } = options;
  const output = empty(x.device, x.shape, options.dtype ?? x.dtype);
  const kernelOptions = {
    eps,
    ...(weight ? { weight } : {}),
    ...(bias ? { bias } : {}),
    ...(modulation ? { modulation } : {}),
  };
  x.device.kernels.layerNorm(x, output, kernelOptions);
  const inputs = [x, weight, bias, modulation?.scale, modulation?.shift];
  const saved = [x, ...inputs.slice(1).filter((tensor) => tensor !== undefined)];
  return record("layerNorm", output, inputs, saved, (dy, needs, kept) => {
    let next = 1;
    const take = (present: Tensor | undefined) => (present ? kept[next++] : undefined);
    const [w, b, scale, shift] = [take(weight), take(bias), take(modulation?.scale), take(modulation?.shift)];
    const gradient = (index: number, like: Tensor | undefined, dtype?: DType) =>
      needs[index] && like ? empty(dy.device, like.shape, dtype ?? like.dtype) : undefined;
    const dx = gradient(0, kept[0]);
    const dweight = gradient(1, w, "f32");
    const dbias = gradient(2, b, "f32");
    const dscale = gradient(3, scale, "f32");
    const dshift = gradient(4, shift, "f32");
    dy.device.kernels.layerNormBackward(
      kept[0]!,
      dy,
      {
        eps,
        ...(w ? { weight: w } : {}),
        ...(b ? { bias: b } : {}),
        ...(scale && shift ? { modulation: { scale, shift, runs: modulation!.runs } } : {}),
      },
      {
        ...(dx ? { dx } : {}),
        ...(dweight ? { dweight } : {}),
        ...(dbias ? { dbias } : {}),
        ...(dscale ? { dscale } : {}),
        ...(dshift ? { dshift } : {}),
      },
    );
    return [dx, dweight, dbias, dscale, dshift];
  });
}
