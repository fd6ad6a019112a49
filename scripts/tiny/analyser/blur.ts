// A Gaussian blur of one plane.

/** A plane, [height, width], blurred by a standard deviation of `sigma` pixels; beyond its edges it goes on as at them. */
export function blurPlane(plane: Float32Array, width: number, height: number, sigma: number): Float32Array {
  if (sigma === 0) return plane;
  const radius = Math.ceil(3 * sigma);
  const kernel = Array.from({ length: 2 * radius + 1 }, (_, i) => Math.exp(-((i - radius) ** 2) / (2 * sigma * sigma)));
  const sum = kernel.reduce((a, b) => a + b);
  /** One axis: `length` values `step` apart, clamped at the ends. */
  const pass = (source: Float32Array, length: number, step: number): Float32Array => {
    const out = new Float32Array(source.length);
    for (let at = 0; at < source.length; at++) {
      const i = Math.floor(at / step) % length;
      for (let k = -radius; k <= radius; k++) {
        const to = Math.min(length - 1, Math.max(0, i + k));
        out[at]! += (kernel[k + radius]! / sum) * source[at + (to - i) * step]!;
      }
    }
    return out;
  };
  return pass(pass(plane, width, 1), height, width);
}
