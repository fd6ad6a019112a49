// GGML's IQ blocks: codes are indices into codebooks of eight or four values each, with signs beside them.
import { half } from "./blocks.ts";
import { iq1Grid, iq2SGrid, iq2XsGrid, iq2XxsGrid, iq3SGrid, iq3XxsGrid } from "./codebooks.ts";

const { fround } = Math;

/** The values of the 4-bit codes, denser around 0. */
const iq4Values = Float32Array.of(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);

/** Seven signs in a code; the eighth makes the number of minuses even. */
const evenSigns = Uint8Array.from({ length: 128 }, (_, code) => {
  let parity = code;
  parity ^= parity >> 4;
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  return code | ((parity & 1) << 7);
});

const u16 = (bytes: Uint8Array, at: number): number => bytes[at]! | (bytes[at + 1]! << 8);
const u32 = (bytes: Uint8Array, at: number): number => (u16(bytes, at) | (u16(bytes, at + 2) << 16)) >>> 0;

/** `count` values from an entry of a codebook, times a scale, each with its sign. */
function write(
  grid: Float32Array,
  entry: number,
  count: number,
  scale: number,
  signs: number,
  out: Float32Array,
  to: number,
): void {
  for (let i = 0; i < count; i++) {
    const value = scale * grid[entry * count + i]!;
    out[to + i] = (signs >> i) & 1 ? -value : value;
  }
}

export function iq2Xxs(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = half(bytes, at);
  for (let group = 0; group < 8; group++) {
    const from = at + 2 + group * 8;
    const word = u32(bytes, from + 4);
    const scale = fround(fround(d * fround(0.5 + (word >>> 28))) * 0.25);
    for (let j = 0; j < 4; j++) {
      write(
        iq2XxsGrid(),
        bytes[from + j]!,
        8,
        scale,
        evenSigns[(word >>> (7 * j)) & 127]!,
        out,
        to + group * 32 + j * 8,
      );
    }
  }
}

export function iq2Xs(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = half(bytes, at);
  for (let j = 0; j < 32; j++) {
    const code = u16(bytes, at + 2 + j * 2);
    const nibble = (bytes[at + 66 + (j >> 2)]! >> (((j >> 1) & 1) * 4)) & 15;
    const scale = fround(fround(d * fround(0.5 + nibble)) * 0.25);
    write(iq2XsGrid(), code & 511, 8, scale, evenSigns[code >> 9]!, out, to + j * 8);
  }
}

export function iq2S(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = half(bytes, at);
  for (let j = 0; j < 32; j++) {
    const entry = bytes[at + 2 + j]! | (((bytes[at + 66 + (j >> 2)]! >> ((j & 3) * 2)) & 3) << 8);
    const nibble = (bytes[at + 74 + (j >> 2)]! >> (((j >> 1) & 1) * 4)) & 15;
    const scale = fround(fround(d * fround(0.5 + nibble)) * 0.25);
    write(iq2SGrid(), entry, 8, scale, bytes[at + 34 + j]!, out, to + j * 8);
  }
}

export function iq3Xxs(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = half(bytes, at);
  for (let group = 0; group < 8; group++) {
    const word = u32(bytes, at + 66 + group * 4);
    const scale = fround(fround(d * fround(0.5 + (word >>> 28))) * 0.5);
    for (let j = 0; j < 8; j++) {
      const signs = evenSigns[(word >>> (7 * (j >> 1))) & 127]! >> ((j & 1) * 4);
      write(iq3XxsGrid(), bytes[at + 2 + group * 8 + j]!, 4, scale, signs, out, to + group * 32 + j * 4);
    }
  }
}

export function iq3S(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = half(bytes, at);
  for (let j = 0; j < 64; j++) {
    const entry = bytes[at + 2 + j]! | (((bytes[at + 66 + (j >> 3)]! >> (j & 7)) & 1) << 8);
    const nibble = (bytes[at + 106 + (j >> 4)]! >> (((j >> 3) & 1) * 4)) & 15;
    const signs = bytes[at + 74 + (j >> 1)]! >> ((j & 1) * 4);
    write(iq3SGrid(), entry, 4, fround(d * (1 + 2 * nibble)), signs, out, to + j * 4);
  }
}

/** Values of a codebook entry moved by an eighth up or down, times a scale. */
function writeMoved(entry: number, scale: number, delta: number, out: Float32Array, to: number): void {
  const grid = iq1Grid();
  for (let i = 0; i < 8; i++) out[to + i] = scale * fround(grid[entry * 8 + i]! + delta);
}

export function iq1S(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = half(bytes, at);
  for (let group = 0; group < 8; group++) {
    const high = u16(bytes, at + 34 + group * 2);
    const scale = fround(d * (2 * ((high >> 12) & 7) + 1));
    const delta = high & 0x8000 ? -0.125 : 0.125;
    for (let j = 0; j < 4; j++) {
      const entry = bytes[at + 2 + group * 4 + j]! | (((high >> (3 * j)) & 7) << 8);
      writeMoved(entry, scale, delta, out, to + group * 32 + j * 8);
    }
  }
}

/** The scale of a block lies in the upper four bits of its four words of scales. */
export function iq1M(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const words = [0, 1, 2, 3].map((i) => u16(bytes, at + 48 + i * 2));
  const bits = words.reduce((sum, word, i) => sum | ((word >> 12) << (4 * i)), 0);
  const d = half(Uint8Array.of(bits & 255, bits >> 8), 0);
  for (let j = 0; j < 32; j++) {
    const scale = fround(d * (2 * ((words[j >> 3]! >> (3 * ((j >> 1) & 3))) & 7) + 1));
    const high = bytes[at + 32 + (j >> 1)]! >> ((j & 1) * 4);
    writeMoved(bytes[at + j]! | ((high & 7) << 8), scale, high & 8 ? -0.125 : 0.125, out, to + j * 8);
  }
}

export function iq4Nl(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = half(bytes, at);
  for (let i = 0; i < 16; i++) {
    const pair = bytes[at + 2 + i]!;
    out[to + i] = d * iq4Values[pair & 15]!;
    out[to + 16 + i] = d * iq4Values[pair >> 4]!;
  }
}

export function iq4Xs(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = half(bytes, at);
  const high = u16(bytes, at + 2);
  for (let group = 0; group < 8; group++) {
    const low = (bytes[at + 4 + (group >> 1)]! >> ((group & 1) * 4)) & 15;
    const scale = fround(d * ((low | (((high >> (2 * group)) & 3) << 4)) - 32));
    for (let i = 0; i < 16; i++) {
      const pair = bytes[at + 8 + group * 16 + i]!;
      out[to + group * 32 + i] = scale * iq4Values[pair & 15]!;
      out[to + group * 32 + 16 + i] = scale * iq4Values[pair >> 4]!;
    }
  }
}
