// GGML's smallest blocks: ternary, one-bit and 4-bit floats.
import { half } from "./blocks.ts";

const { fround } = Math;

/** E2M1 doubled, as its scales are halved (OCP Microscaling Formats 1.0). */
const e2m1Doubled = Float32Array.of(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);

/** Half of 2^(x - 127). */
const e8m0Half = Float32Array.from({ length: 256 }, (_, x) => 2 ** (x - 128));

/** Half of an unsigned E4M3; its NaN counts as 0. */
const ue4m3Half = Float32Array.from({ length: 256 }, (_, x) => {
  const [exponent, mantissa] = [(x >> 3) & 15, x & 7];
  if (x === 0 || x === 127) return 0;
  return (exponent === 0 ? mantissa * 2 ** -9 : (1 + mantissa / 8) * 2 ** (exponent - 7)) * 0.5;
});

export function mxfp4(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = e8m0Half[bytes[at]!]!;
  for (let i = 0; i < 16; i++) {
    const pair = bytes[at + 1 + i]!;
    out[to + i] = d * e2m1Doubled[pair & 15]!;
    out[to + 16 + i] = d * e2m1Doubled[pair >> 4]!;
  }
}

export function nvfp4(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  for (let group = 0; group < 4; group++) {
    const d = ue4m3Half[bytes[at + group]!]!;
    for (let i = 0; i < 8; i++) {
      const pair = bytes[at + 4 + group * 8 + i]!;
      out[to + group * 16 + i] = d * e2m1Doubled[pair & 15]!;
      out[to + group * 16 + 8 + i] = d * e2m1Doubled[pair >> 4]!;
    }
  }
}

/** One bit an element: plus or minus the scale. */
export function q1_0(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = half(bytes, at);
  for (let i = 0; i < 128; i++) out[to + i] = (bytes[at + 2 + (i >> 3)]! >> (i & 7)) & 1 ? d : -d;
}

const powers = [1, 3, 9, 27, 81] as const;

/** Five digits of base three in a byte, read from the top by multiplying. */
export function tq1_0(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = half(bytes, at + 52);
  let target = to;
  const plane = (from: number, width: number, digits: number): void => {
    for (let n = 0; n < digits; n++) {
      for (let i = 0; i < width; i++) {
        const code = (((bytes[from + i]! * powers[n]!) & 255) * 3) >> 8;
        out[target++] = fround(d * (code - 1));
      }
    }
  };
  plane(at, 32, 5);
  plane(at + 32, 16, 5);
  plane(at + 48, 4, 4);
}

export function tq2_0(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = half(bytes, at + 64);
  for (let side = 0; side < 2; side++) {
    for (let n = 0; n < 4; n++) {
      for (let i = 0; i < 32; i++) {
        out[to + side * 128 + n * 32 + i] = d * (((bytes[at + side * 32 + i]! >> (2 * n)) & 3) - 1);
      }
    }
  }
}
