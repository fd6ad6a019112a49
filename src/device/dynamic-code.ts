// The 8-bit code of the optimizer's states: 256 values between -1 and 1 (or 0 and 1), dense near 0, in blocks of 256
// elements that share a float32 absmax (Dettmers et al., arXiv 2110.02861).
// https://github.com/bitsandbytes-foundation/bitsandbytes/blob/95f9af309d4d5793847169c39288dcd3fcbdf564/bitsandbytes/functional.py#L296

/** Elements that share one absmax. */
export const DYNAMIC_BLOCK = 256;

const EXPONENTS = 7;

export interface DynamicCode {
  /** The 256 values, rising; float32. */
  readonly values: Float32Array;
  /** The code whose value is nearest to x. */
  nearest(x: number): number;
}

function createCode(signed: boolean): DynamicCode {
  const list = [0, 1];
  for (let exponent = 0; exponent < EXPONENTS; exponent++) {
    // Each decade up has twice the values of the one below: midpoints of equal steps from 0.1 to 1.
    const count = 2 ** (signed ? exponent : exponent + 1);
    const unit = 10 ** (exponent - EXPONENTS + 1);
    for (let i = 0; i < count; i++) {
      const value = unit * (0.1 + (0.9 * (i + 0.5)) / count);
      list.push(value);
      if (signed) list.push(-value);
    }
  }
  const values = Float32Array.from(list).sort();
  const midpoints = Float64Array.from({ length: values.length - 1 }, (_, i) => (values[i]! + values[i + 1]!) / 2);
  return {
    values,
    nearest(x) {
      let low = 0;
      let high = midpoints.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (x > midpoints[middle]!) low = middle + 1;
        else high = middle;
      }
      return low;
    },
  };
}

/** For the first moment. */
export const signedCode: DynamicCode = createCode(true);
/** For the second moment, which is never negative. */
export const unsignedCode: DynamicCode = createCode(false);

/** The code of a first moment over its absmax. It never loses its sign to rounding: a step must not turn around. */
export function firstMomentCode(x: number): number {
  const code = signedCode.nearest(x);
  return x < 0 && signedCode.values[code]! >= 0 ? code - 1 : code;
}
