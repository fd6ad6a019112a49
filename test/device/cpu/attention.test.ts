// Attention of the cpu device against the reference: tile edges, short keys, and scores that leave the range of exp.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { tileRows } from "../../../src/device/cpu/attention.ts";
import type { Operand } from "../../../src/device/kernels.ts";
import { openCpu, Pair } from "./pair.ts";

const { device, reason } = await openCpu();

function check(
  pair: Pair,
  dtype: "f32" | "bf16",
  [batch, queries, keys, heads, depth]: readonly [number, number, number, number, number],
  more: { scale?: number; spread?: number; keyLengths?: number[]; bias?: boolean; backward?: boolean } = {},
): void {
  const { spread = 1, scale = depth ** -0.5, keyLengths, backward = true } = more;
  const q = pair.random(dtype, [batch, queries, heads, depth], spread);
  const k = pair.random(dtype, [batch, keys, heads, depth], spread);
  const v = pair.random(dtype, [batch, keys, heads, depth]);
  const bias = more.bias ? pair.random("f32", [heads, queries, keys], 3) : undefined;
  const options = { scale, ...(keyLengths ? { keyLengths } : {}), ...(bias ? { bias } : {}) };
  const made = () => [pair.blank(dtype, q.shape), pair.blank("f32", [batch, heads, queries])] as const;
  const [out, sums] = made();
  const [expected, expectedSums] = made();
  pair.cpu.attention(q, k, v, out, options, sums);
  pair.reference.attention(q, k, v, expected, options, expectedSums);
  // Rounding to bf16 moves a number by up to 2^-8 of itself: the exponentials above and below the fraction, both results.
  const rounding = 2 ** -8;
  expect(pair.distance(out, expected, 0.5)).toBeLessThan(dtype === "bf16" ? 5 * rounding : 3e-6);
  // Where there is one key, its rounded exponential is the whole sum.
  expect(pair.distance(sums, expectedSums, 1)).toBeLessThan(dtype === "bf16" ? 1.01 * rounding : 3e-6);
  if (!backward) return;
  const dout = pair.random(dtype, q.shape);
  const input = { q, k, v, out: expected, logSumExp: expectedSums, dout };
  const gradients = () => ({
    dq: pair.blank(dtype, q.shape),
    dk: pair.blank(dtype, k.shape),
    dv: pair.blank(dtype, v.shape),
  });
  const [ours, theirs] = [gradients(), gradients()];
  pair.cpu.attentionBackward(input, options, ours);
  pair.reference.attentionBackward(input, options, theirs);
  for (const name of ["dq", "dk", "dv"] as const) {
    const distance = pair.distance(ours[name], theirs[name], 0.1);
    expect(distance).toBeLessThan(dtype === "bf16" ? 3e-2 : 2e-5);
  }
}

describe.skipIf(!device)(`attention of the cpu device ${reason}`, () => {
  test("random shapes, key lengths and biases", () => {
    const size = fc.integer({ min: 1, max: 40 });
    const shape = fc.tuple(fc.integer({ min: 1, max: 2 }), size, size, fc.integer({ min: 1, max: 3 }), size);
    const fast = fc.constantFrom<"f32" | "bf16">("f32", "bf16");
    fc.assert(
      fc.property(
        shape,
        fast,
        fc.boolean(),
        fc.option(fc.tuple(fc.nat(), fc.nat())),
        fc.nat(),
        (sizes, dtype, bias, lengths, seed) => {
          using pair = new Pair(device!, seed);
          const keyLengths = lengths ? lengths.slice(0, sizes[0]).map((length) => length % (sizes[2] + 1)) : undefined;
          check(pair, dtype, sizes, { bias, ...(keyLengths ? { keyLengths } : {}) });
        },
      ),
      { numRuns: 100 },
    );
  });

  test("more queries and keys than a tile holds", () => {
    using pair = new Pair(device!, 2);
    expect(tileRows(1100, 700)).toBeLessThan(1100);
    check(pair, "f32", [1, 1100, 700, 1, 8]);
    check(pair, "bf16", [1, 1100, 700, 1, 8]);
    check(pair, "f32", [1, 40, 1200, 2, 16]);
  });

  test("tiles are multiples of 16 and near alike", () => {
    for (const [rows, columns] of [
      [7800, 7800],
      [75_600, 75_600],
      [512, 512],
      [100, 7800],
      [1, 1],
    ] as const) {
      const tile = tileRows(rows, columns);
      expect(tile === rows || tile % 16 === 0).toBe(true);
      expect(tile * columns).toBeLessThanOrEqual(Math.max(2 ** 20, 64 * columns, 1024 * Math.min(columns, 1024)));
    }
  });

  test("scores far beyond the range of exp are shifted, whole rows or single ones", () => {
    for (const dtype of ["f32", "bf16"] as const) {
      using pair = new Pair(device!, 3);
      // Scores of some hundreds: e^score overflows for some rows, vanishes for others.
      check(pair, dtype, [1, 50, 33, 2, 16], { spread: 8, scale: 2, backward: false });
    }
  });

  test("rows whose every score is far below zero keep their proportions", () => {
    using pair = new Pair(device!, 4);
    const q = pair.random("f32", [1, 20, 1, 4]);
    const k = pair.random("f32", [1, 9, 1, 4], 0.1);
    const v = pair.random("f32", [1, 9, 1, 4]);
    const bias = pair.blank("f32", [1, 20, 9]);
    pair.cpu.fill(bias, -150);
    const [out, expected] = [pair.blank("f32", q.shape), pair.blank("f32", q.shape)];
    const [sums, expectedSums] = [pair.blank("f32", [1, 1, 20]), pair.blank("f32", [1, 1, 20])];
    pair.cpu.attention(q, k, v, out, { scale: 1, bias }, sums);
    pair.reference.attention(q, k, v, expected, { scale: 1, bias }, expectedSums);
    expect(pair.distance(out, expected)).toBeLessThan(1e-5);
    expect(pair.distance(sums, expectedSums)).toBeLessThan(1e-6);
  });

  test("workspace is bounded by a tile, not by the square of the length", () => {
    using pair = new Pair(device!, 5);
    const length = 6000;
    const operands = Array.from({ length: 4 }, () => pair.random("bf16", [1, length, 1, 16])) as [
      Operand,
      Operand,
      Operand,
      Operand,
    ];
    device!.resetPeak();
    const before = device!.memory().live;
    pair.cpu.attention(operands[0], operands[1], operands[2], operands[3], { scale: 0.25 });
    expect(device!.memory().peak - before).toBeLessThan((length * length * 2) / 8);
    expect(device!.memory().live).toBe(before);
  });
});
