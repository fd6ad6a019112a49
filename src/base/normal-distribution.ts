// The normal distribution's share below a value, and the value below which a share lies. Not a source of numbers.

/** Φ(x), to about 1e-15: a series near zero, a continued fraction far out (Abramowitz & Stegun 26.2.10 and 26.2.14). */
export function normalShare(x: number): number {
  if (Number.isNaN(x)) return Number.NaN;
  const size = Math.abs(x);
  const density = Math.exp(-0.5 * size * size) / Math.sqrt(2 * Math.PI);
  let above: number;
  if (size < 4) {
    let term = size;
    let sum = size;
    for (let k = 3; term > 1e-18 * sum; k += 2) {
      term *= (size * size) / k;
      sum += term;
    }
    above = 0.5 - density * sum;
  } else {
    let fraction = size;
    for (let k = 60; k >= 1; k--) fraction = size + k / fraction;
    above = size > 40 ? 0 : density / fraction;
  }
  return x > 0 ? 1 - above : above;
}

/** The x with Φ(x) = share, by halving; −∞ and ∞ for 0 and 1. */
export function normalQuantile(share: number): number {
  if (share <= 0) return Number.NEGATIVE_INFINITY;
  if (share >= 1) return Number.POSITIVE_INFINITY;
  let low = -40;
  let high = 40;
  for (;;) {
    const middle = (low + high) / 2;
    if (middle <= low || middle >= high) return middle;
    if (normalShare(middle) < share) low = middle;
    else high = middle;
  }
}
