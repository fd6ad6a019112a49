import { describe, expect, test } from "vitest";
import { philoxBlock } from "../../src/base/rng/philox.ts";
import { philoxNormals } from "../../src/base/rng/philox-rng.ts";

const draw = (length: number, seed: bigint, stream: number, offset: number): Float32Array => {
  const out = new Float32Array(length);
  philoxNormals(seed, stream, offset, out);
  return out;
};

describe("philox4x32-10", () => {
  // The published known answers (Random123, kat_vectors).
  test.each([
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ])("counter %j", (counter, key, expected) => {
    const out = new Uint32Array(4);
    const [c0, c1, c2, c3] = counter as [number, number, number, number];
    const [k0, k1] = key as [number, number];
    philoxBlock(c0, c1, c2, c3, k0, k1, out);
    expect([...out]).toEqual(expected);
  });
});

describe("normal stream", () => {
  test("is standard normal: moments, tails, and no correlation between neighbours", () => {
    const values = draw(400_000, 7n, 0, 0);
    const moment = (power: number) => values.reduce((sum, value) => sum + value ** power, 0) / values.length;
    expect(Math.abs(moment(1))).toBeLessThan(0.01);
    expect(moment(2)).toBeCloseTo(1, 1.5);
    expect(Math.abs(moment(3))).toBeLessThan(0.03);
    expect(Math.abs(moment(4) - 3)).toBeLessThan(0.1);
    for (const lag of [1, 2, 3, 4]) {
      let sum = 0;
      for (let i = lag; i < values.length; i++) sum += values[i]! * values[i - lag]!;
      expect(Math.abs(sum / values.length)).toBeLessThan(0.01);
    }
    const beyond = values.filter((value) => Math.abs(value) > 2).length / values.length;
    expect(Math.abs(beyond - 0.0455)).toBeLessThan(0.002);
  });

  test("any piece is the piece of the whole, at any offset", () => {
    const whole = draw(64, 3n, 2, 0);
    for (const [offset, length] of [
      [0, 1],
      [1, 2],
      [3, 9],
      [4, 4],
      [6, 58],
      [63, 1],
      [5, 0],
    ] as const) {
      expect(draw(length, 3n, 2, offset)).toEqual(whole.slice(offset, offset + length));
    }
    // Beyond 2^32 blocks the counter's second word takes over.
    const far = 4 * 2 ** 32;
    expect(draw(8, 3n, 2, far - 4).slice(4)).toEqual(draw(4, 3n, 2, far));
    expect(draw(4, 3n, 2, far)).not.toEqual(whole.slice(0, 4));
  });

  test("seeds and streams differ, all 64 bits of a seed count, and negative seeds wrap", () => {
    const base = draw(16, 1n, 0, 0);
    for (const [seed, stream] of [
      [2n, 0],
      [1n, 1],
      [1n, 2 ** 32 - 1],
      [1n + (1n << 32n), 0],
      [-1n, 0],
    ] as const) {
      expect(draw(16, seed, stream, 0)).not.toEqual(base);
    }
    expect(draw(16, -1n, 0, 0)).toEqual(draw(16, 2n ** 64n - 1n, 0, 0));
  });

  test("its values are fixed for good: a seed means the same noise in every version", () => {
    expect([...draw(5, 42n, 1, 3)]).toMatchInlineSnapshot(`
      [
        -1.6597530841827393,
        2.0213191509246826,
        -0.10821650922298431,
        0.3226163983345032,
        2.095574378967285,
      ]
    `);
  });
});
