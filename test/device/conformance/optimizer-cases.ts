// AdamW with both kinds of state, quantisation, normal random numbers.
import { expect } from "vitest";
import { philoxNormals } from "../../../src/base/rng/philox-rng.ts";
import { elementCount } from "../../../src/base/shape.ts";
import type { Bench, Case } from "./bench.ts";
import { adamw } from "./oracle.ts";

const settings = { learningRate: 1e-2, beta1: 0.9, beta2: 0.99, eps: 1e-8, weightDecay: 0.1, gradientScale: 0.5 };

const adamwCases: Case[] = (["f32", "bf16"] as const).map((dtype) => ({
  name: `adamw follows torch.optim.AdamW over five steps, ${dtype} gradients`,
  async run(bench: Bench) {
    const p = bench.random([7, 11]);
    const [m, v] = [bench.from(new Float64Array(77), [7, 11]), bench.from(new Float64Array(77), [7, 11])];
    const gradients = Array.from({ length: 5 }, () => bench.random([7, 11], dtype));
    for (const [i, gradient] of gradients.entries()) {
      bench.kernels.adamw(p, gradient, m, v, { ...settings, step: i + 1 });
    }
    const reference = () =>
      adamw(
        p.values,
        gradients.map(({ values }) => values),
        settings,
      );
    await bench.expectClose(p, () => reference().p);
    await bench.expectClose(m, () => reference().m);
    await bench.expectClose(v, () => reference().v);
  },
}));

const adamw8bitCase: Case = {
  name: "adamw8bit: the first step is exact, states decode within their code's error, later steps stay near",
  async run(bench) {
    const count = 600;
    const p = bench.random([count]);
    const state = {
      m: bench.from(new Float64Array(count), [count], "u8"),
      mScale: bench.from(new Float64Array(3), [3]),
      v: bench.from(new Float64Array(count), [count], "u8"),
      vScale: bench.from(new Float64Array(3), [3]),
    };
    const gradients = Array.from({ length: 6 }, () => bench.random([count]));
    bench.kernels.adamw8bit(p, gradients[0]!, state, { ...settings, step: 1 });
    const after = (steps: number) =>
      adamw(
        p.values,
        gradients.slice(0, steps).map(({ values }) => values),
        settings,
      );
    await bench.expectClose(p, () => after(1).p);
    if (bench.computes) {
      const [mScale, vScale] = [await bench.read(state.mScale), await bench.read(state.vScale)];
      const [mCodes, vCodes] = [await bench.read(state.m), await bench.read(state.v)];
      const first = after(1);
      for (let i = 0; i < count; i++) {
        const block = Math.floor(i / 256);
        const [m, v] = [dynamic(mCodes[i]!, true) * mScale[block]!, dynamic(vCodes[i]!, false) * vScale[block]!];
        // Half a gap of the code: the top decade of the signed code has 64 values, of the unsigned one 128.
        expect(Math.abs(m - first.m[i]!)).toBeLessThanOrEqual(mScale[block]! * (0.9 / 64));
        expect(Math.abs(v - first.v[i]!)).toBeLessThanOrEqual(vScale[block]! * (0.9 / 128));
        expect(m * first.m[i]!).toBeGreaterThanOrEqual(0);
      }
      for (let block = 0; block < 3; block++) {
        const part = first.m.subarray(block * 256, (block + 1) * 256).map(Math.abs);
        expect(mScale[block]! / Math.max(...part)).toBeCloseTo(1, 5);
      }
    }
    for (let step = 2; step <= 6; step++) {
      bench.kernels.adamw8bit(p, gradients[step - 1]!, state, { ...settings, step });
    }
    const moved = await bench.read(p);
    if (!bench.computes) return;
    const reference = after(6).p;
    const error = Math.hypot(...moved.map((value, i) => value - reference[i]!));
    const travelled = Math.hypot(...reference.map((value, i) => value - p.values[i]!));
    expect(error / travelled).toBeLessThan(0.1);
  },
};

/** The published code, from its description: decades 1e-6 … 1, each with twice the values of the one below. */
function dynamic(code: number, signed: boolean): number {
  const values = [0, 1];
  for (let decade = 0; decade < 7; decade++) {
    const items = 2 ** (decade + (signed ? 0 : 1));
    for (let i = 0; i < items; i++) {
      const edge = (k: number) => 0.1 + (0.9 * k) / items;
      const value = 10 ** (decade - 6) * ((edge(i) + edge(i + 1)) / 2);
      values.push(...(signed ? [value, -value] : [value]));
    }
  }
  return values.sort((a, b) => a - b)[code]!;
}

const adamw8bitZeroCase: Case = {
  name: "adamw8bit without gradients only decays, and an empty parameter is nothing to do",
  async run(bench) {
    const zeros = (length: number, dtype: "u8" | "f32") => bench.from(new Float64Array(length), [length], dtype);
    const p = bench.random([10]);
    const state = { m: zeros(10, "u8"), mScale: zeros(1, "f32"), v: zeros(10, "u8"), vScale: zeros(1, "f32") };
    bench.kernels.adamw8bit(p, zeros(10, "f32"), state, { ...settings, step: 1 });
    await bench.expectClose(p, () => p.values.map((value) => value * (1 - 1e-3)));
    const none = { m: zeros(0, "u8"), mScale: zeros(0, "f32"), v: zeros(0, "u8"), vScale: zeros(0, "f32") };
    bench.kernels.adamw8bit(zeros(0, "f32"), zeros(0, "f32"), none, { ...settings, step: 1 });
  },
};

/** Largest value, half a step relative to a value, and half the smallest step. */
const formats = {
  f8e4m3: { top: 448, relative: 1 / 16, absolute: 2 ** -10 },
  f8e5m2: { top: 57344, relative: 1 / 8, absolute: 2 ** -17 },
  i8: { top: 127, relative: 0, absolute: 0.5 },
} as const;

const quantizeCases: Case[] = (Object.keys(formats) as (keyof typeof formats)[]).flatMap((dtype) =>
  [[1], [6, 1], [6, 3, 1]].flatMap((scaleShape) =>
    (["f32", "bf16"] as const).map((typeX) => ({
      name: `quantize ${typeX} to ${dtype}, scales [${scaleShape}], and back`,
      async run(bench: Bench) {
        const x = bench.random([6, 48], typeX, 0.02);
        const data = bench.blank([6, 48], dtype);
        const scale = bench.blank(scaleShape);
        const [wide, narrow] = [bench.blank([6, 48]), bench.blank([6, 48], "bf16")];
        bench.kernels.quantize(x, data, scale);
        bench.kernels.dequantize(data, scale, wide);
        bench.kernels.dequantize(data, scale, narrow);
        const [codes, scales, back] = [await bench.read(data), await bench.read(scale), await bench.read(wide)];
        if (!bench.computes) return;
        const span = 288 / elementCount(scaleShape);
        const { top, relative, absolute } = formats[dtype];
        for (const [group, unit] of scales.entries()) {
          const part = x.values.subarray(group * span, (group + 1) * span);
          expect((unit * top) / Math.max(...part.map(Math.abs))).toBeCloseTo(1, 5);
        }
        for (const [i, value] of x.values.entries()) {
          const unit = scales[Math.floor(i / span)]!;
          const allowed = Math.max(relative * Math.abs(value), absolute * unit) * (1 + 1e-5);
          expect(Math.abs(codes[i]! * unit - value)).toBeLessThanOrEqual(allowed);
          expect(Math.abs(back[i]! - codes[i]! * unit)).toBeLessThanOrEqual(1e-6 * Math.abs(value) + 1e-12);
        }
        await bench.expectClose(narrow, () => back);
      },
    })),
  ),
);

const zeroQuantizeCase: Case = {
  name: "quantize of zeros gives zeros and a scale that is a number; dequantize without scale widens",
  async run(bench) {
    const x = bench.from(new Float64Array(8), [2, 4]);
    const [data, scale, out] = [bench.blank([2, 4], "f8e4m3"), bench.blank([2, 1]), bench.blank([2, 4])];
    bench.kernels.quantize(x, data, scale);
    bench.kernels.dequantize(data, scale, out);
    await bench.expectEqual(out, () => new Float64Array(8));
    const known = bench.random([2, 4], "f8e5m2");
    bench.kernels.dequantize(known, undefined, out);
    await bench.expectEqual(out, () => known.values);
  },
};

const normalCases: Case[] = [
  [100, 0],
  [37, 5],
  [0, 3],
  [1, 4_000_003],
].map(([count, offset]) => ({
  name: `normal gives values ${offset} to ${offset! + count!} of the stream all devices share`,
  async run(bench: Bench) {
    const out = bench.blank([count!]);
    bench.kernels.normal(out, { seed: 20_240_607n, stream: 3, offset: offset! });
    const expected = new Float32Array(count!);
    philoxNormals(20_240_607n, 3, offset!, expected);
    await bench.expectEqual(out, () => expected);
  },
}));

export const optimizerCases: readonly Case[] = [
  ...adamwCases,
  adamw8bitCase,
  adamw8bitZeroCase,
  ...quantizeCases,
  zeroQuantizeCase,
  ...normalCases,
];
