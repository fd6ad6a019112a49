// Every kind of adapter against its formula written out in float64, on weights, biases, norms and modulations; alone,
// stacked, at a strength, written to files and read back.
import { afterAll, describe, expect, it } from "vitest";
import { relativeError } from "../../scripts/golden/fixture.ts";
import { openDevice } from "../../src/device/open-device.ts";
import type { DoraValues } from "../../src/lora/adapters/dora.ts";
import type { AdapterValues } from "../../src/lora/adapters/table.ts";
import { attachLora } from "../../src/lora/attach.ts";
import type { LoraFormat } from "../../src/lora/key-formats.ts";
import { readLora } from "../../src/lora/read.ts";
import { writeLora } from "../../src/lora/write.ts";
import type { WanDit } from "../../src/models/wan/dit/dit.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { fromValues } from "../../src/tensor/tensor.ts";
import { draws } from "../support/drawn-weights.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { tinyDit, tinyDitConfig, tinySample } from "../support/tiny-dit.ts";

const path = temporaryFolder();
const { dim, ffnDim } = tinyDitConfig;
const module = "blocks.1.ffn.0";
const [outputs, inputs] = [ffnDim, dim];

const drawn = (count: number, seed: number, size = 0.5) => {
  const next = draws(seed);
  return Float32Array.from({ length: count }, () => size * next());
};

/** a [n, k] · b [k, m] in float64. */
function product(a: ArrayLike<number>, b: ArrayLike<number>, n: number, k: number, m: number): Float64Array {
  const result = new Float64Array(n * m);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < m; j++) for (let l = 0; l < k; l++) result[i * m + j]! += a[i * k + l]! * b[l * m + j]!;
  return result;
}

type Change = (weight: Float64Array) => Float64Array;

const sum = (a: Float64Array, b: Float64Array, factor: number) => a.map((value, i) => value + factor * b[i]!);

const lora: AdapterValues & { kind: "lora" } = {
  kind: "lora",
  module,
  rank: 3,
  inputs,
  outputs,
  alpha: 5,
  down: drawn(3 * inputs, 1),
  up: drawn(3 * outputs, 2),
};
const loraDelta = product(lora.up, lora.down, outputs, 3, inputs).map((value) => (value * 5) / 3);

const loha: AdapterValues & { kind: "loha" } = {
  kind: "loha",
  module,
  rank: 2,
  inputs,
  outputs,
  alpha: 3,
  factors: {
    w1_a: drawn(2 * outputs, 3),
    w1_b: drawn(2 * inputs, 4),
    w2_a: drawn(2 * outputs, 5),
    w2_b: drawn(2 * inputs, 6),
  },
};
const lohaDelta = (() => {
  const { w1_a, w1_b, w2_a, w2_b } = loha.factors;
  const second = product(w2_a, w2_b, outputs, 2, inputs);
  return product(w1_a, w1_b, outputs, 2, inputs).map((value, i) => (value * second[i]! * 3) / 2);
})();

const lokr: AdapterValues & { kind: "lokr" } = {
  kind: "lokr",
  module,
  inputs,
  outputs,
  rank: 2,
  alpha: 7,
  w1: [{ shape: [4, 2], values: drawn(8, 7) }],
  w2: [
    { shape: [outputs / 4, 2], values: drawn(outputs / 2, 8) },
    { shape: [2, inputs / 2], values: drawn(inputs, 9) },
  ],
};
const lokrDelta = (() => {
  const [[w1], [a, b]] = [lokr.w1, lokr.w2 as readonly [{ values: Float32Array }, { values: Float32Array }]];
  const w2 = product(a.values, b.values, outputs / 4, 2, inputs / 2);
  return Float64Array.from({ length: outputs * inputs }, (_, at) => {
    const [row, column] = [Math.floor(at / inputs), at % inputs];
    const left = w1.values[Math.floor(row / (outputs / 4)) * 2 + Math.floor(column / (inputs / 2))]!;
    return (left * w2[(row % (outputs / 4)) * (inputs / 2) + (column % (inputs / 2))]! * 7) / 2;
  });
})();

const wholeLokr: AdapterValues = {
  ...lokr,
  rank: undefined,
  w2: [{ shape: [outputs / 4, inputs / 2], values: drawn((outputs * inputs) / 8, 10) }],
};

const positive = (count: number, seed: number) => drawn(count, seed).map((value) => 1 + value);

const dora = (rule: DoraValues["rule"]): AdapterValues => {
  const count = rule === "columns" ? inputs : outputs;
  const shape = rule === "rows" ? [count, 1] : rule === "columns" ? [1, count] : [count];
  return { kind: "dora", inner: lora, rule, magnitude: positive(count, 11), shape };
};

const norms = (weight: Float64Array, byRow: boolean): Float64Array => {
  const result = new Float64Array(byRow ? outputs : inputs);
  for (let at = 0; at < weight.length; at++) result[byRow ? Math.floor(at / inputs) : at % inputs]! += weight[at]! ** 2;
  return result.map(Math.sqrt);
};

const scaled = (weight: Float64Array, of: Float64Array, byRow: boolean, magnitude: Float32Array) => {
  const size = norms(of, byRow);
  const factor = (at: number) => magnitude[at]! / size[at]!;
  return weight.map((value, at) => value * factor(byRow ? Math.floor(at / inputs) : at % inputs));
};

const magnitudeOf = (values: AdapterValues) => (values as DoraValues).magnitude;

/** Each kind, and what it makes of a weight at a strength. */
const kinds: [name: string, values: AdapterValues, change: (strength: number) => Change, forms: LoraFormat[]][] = [
  ["LoRA", lora, (s) => (w) => sum(w, loraDelta, s), ["kohya", "peft", "diffusers", "diffsynth"]],
  ["LoHa", loha, (s) => (w) => sum(w, lohaDelta, s), ["kohya", "peft"]],
  ["LoKr", lokr, (s) => (w) => sum(w, lokrDelta, s), ["kohya", "peft"]],
  [
    "whole LoKr, whose alpha does nothing",
    wholeLokr,
    (s) => (w) => {
      const [w1, w2] = [lokr.w1[0], (wholeLokr as typeof lokr).w2[0]];
      return w.map((value, at) => {
        const [row, column] = [Math.floor(at / inputs), at % inputs];
        const left = w1.values[Math.floor(row / (outputs / 4)) * 2 + Math.floor(column / (inputs / 2))]!;
        return value + s * left * w2.values[(row % (outputs / 4)) * (inputs / 2) + (column % (inputs / 2))]!;
      });
    },
    ["kohya", "peft"],
  ],
  [
    "DoRA by rows, as ComfyUI does it",
    dora("rows"),
    (s) => (w) => {
      const changed = scaled(sum(w, loraDelta, 1), w, true, magnitudeOf(dora("rows")));
      return w.map((value, i) => value + s * (changed[i]! - value));
    },
    ["kohya", "peft"],
  ],
  [
    "DoRA by columns",
    dora("columns"),
    (s) => (w) => {
      const inner = sum(w, loraDelta, 1);
      const changed = scaled(inner, inner, false, magnitudeOf(dora("columns")));
      return w.map((value, i) => value + s * (changed[i]! - value));
    },
    ["kohya", "peft"],
  ],
  [
    "DoRA as PEFT does it",
    dora("peft"),
    (s) => (w) => {
      const inner = sum(w, loraDelta, s);
      return scaled(inner, inner, true, magnitudeOf(dora("peft")));
    },
    [],
  ],
  [
    "a whole difference",
    {
      kind: "difference",
      parameter: `${module}.weight`,
      shape: [outputs, inputs],
      values: drawn(outputs * inputs, 12),
      scale: 0.5,
      replaces: false,
    },
    (s) => (w) => sum(w, Float64Array.from(drawn(outputs * inputs, 12)), 0.5 * s),
    ["kohya", "peft"],
  ],
  [
    "a replacement, whatever the strength",
    {
      kind: "difference",
      parameter: `${module}.weight`,
      shape: [outputs, inputs],
      values: drawn(outputs * inputs, 13),
      scale: 1,
      replaces: true,
    },
    () => () => Float64Array.from(drawn(outputs * inputs, 13)),
    ["kohya", "peft"],
  ],
];

describe.each(["auto", "reference"] as const)("adapters on the %s device", async (name) => {
  const { device } = await openDevice(name);
  afterAll(() => device[Symbol.dispose]());

  const weightOf = async (model: WanDit): Promise<Float64Array> => {
    using _scope = openScope(device);
    return Float64Array.from(await model.linears().get(module)!.merged().read());
  };
  /** The layer's answer to some rows, and the same from a weight. */
  const answers = async (model: WanDit, weight: Float64Array): Promise<[Float32Array, Float64Array]> => {
    using _scope = openScope(device);
    const rows = drawn(5 * inputs, 20);
    const linear = model.linears().get(module)!;
    const actual = await linear.forward(fromValues(device, rows, [5, inputs])).read();
    const bias = linear.bias ? await linear.bias.value.read() : new Float32Array(outputs);
    const transposed = Float64Array.from({ length: weight.length }, (_, at) => {
      const [input, output] = [Math.floor(at / outputs), at % outputs];
      return weight[output * inputs + input]!;
    });
    return [actual, product(rows, transposed, 5, inputs, outputs).map((value, at) => value + bias[at % outputs]!)];
  };

  it.each(kinds)("%s", async (label, values, change, forms) => {
    const { model } = tinyDit(device);
    using _model = model;
    const live = device.memory().live;
    const base = await weightOf(model);
    for (const strength of [1, 0.7, -0.3]) {
      using _lora = attachLora(model, [values], strength);
      const expected = change(strength)(base);
      expect(relativeError(await weightOf(model), expected)).toBeLessThan(2e-6);
      const [actual, wanted] = await answers(model, expected);
      expect(relativeError(actual, wanted)).toBeLessThan(5e-6);
    }
    for (const format of forms) {
      const file = path(`${label}-${format}.safetensors`);
      await writeLora(file, [values], { format, dtype: "f32" });
      const read = readLora(file);
      expect(read.map(({ kind }) => kind)).toEqual([values.kind]);
      using _lora = attachLora(model, read, 0.7);
      expect(relativeError(await weightOf(model), change(0.7)(base))).toBeLessThan(2e-6);
    }
    expect(await weightOf(model)).toEqual(base);
    expect(device.memory().live).toBe(live);
  });

  it("act in the order in which they were put on, and those that only add stay beside the product", async () => {
    const { model } = tinyDit(device);
    using _model = model;
    const base = await weightOf(model);
    const order = [0, 4, 1, 0];
    const attached = order.map((at, i) => attachLora(model, [kinds[at]![1]], 0.4 + 0.2 * i));
    const expected = order.reduce((weight, at, i) => kinds[at]![2](0.4 + 0.2 * i)(weight), base);
    expect(relativeError(await weightOf(model), expected)).toBeLessThan(2e-6);
    const [actual, wanted] = await answers(model, expected);
    expect(relativeError(actual, wanted)).toBeLessThan(5e-6);
    for (const each of attached) each[Symbol.dispose]();
    expect(await weightOf(model)).toEqual(base);
  });

  it("change biases, norms and modulations, and nothing once they are off", async () => {
    const { model } = tinyDit(device);
    using _model = model;
    const velocity = async () => {
      using _scope = openScope(device);
      const { clean, shape, text } = tinySample(2);
      const latents = fromValues(device, clean, [1, ...shape]);
      const texts = [fromValues(device, text, [3, tinyDitConfig.textDim])];
      return model.forward({ latents, timesteps: [420], texts }).read();
    };
    const base = await velocity();
    const live = device.memory().live;
    const places: [parameter: string, shape: number[]][] = [
      ["blocks.0.norm3.weight", [dim]],
      ["blocks.0.norm3.bias", [dim]],
      ["blocks.1.self_attn.norm_q.weight", [dim]],
      ["blocks.1.cross_attn.norm_k.weight", [dim]],
      ["blocks.0.self_attn.v.bias", [dim]],
      ["patch_embedding.bias", [dim]],
      ["blocks.1.modulation", [6, dim]],
      ["head.modulation", [1, 2, dim]],
      ["patch_embedding.weight", [dim, 4, 1, 2, 2]],
    ];
    for (const [i, [parameter, shape]] of places.entries()) {
      const count = shape.reduce((a, b) => a * b, 1);
      const values: AdapterValues = {
        kind: "difference",
        parameter,
        shape,
        values: drawn(count, 40 + i),
        scale: 1,
        replaces: false,
      };
      {
        using _lora = attachLora(model, [values], 0.5);
        expect(relativeError(await velocity(), base), parameter).toBeGreaterThan(1e-3);
        const { adapters } = model.parameters().get(parameter) ?? model.linears().get("patch_embedding")!;
        expect(adapters).toHaveLength(1);
      }
      {
        using _plus = attachLora(model, [values], 0.5);
        using _minus = attachLora(model, [values], -0.5);
        expect(relativeError(await velocity(), base), parameter).toBeLessThan(1e-5);
      }
    }
    expect(await velocity()).toEqual(base);
    expect(device.memory().live).toBe(live);
  });
});

describe("a kind that a tool has no form for", () => {
  it.each([
    [loha, "diffusers", "LoHa"],
    [lokr, "diffsynth", "LoKr"],
    [dora("rows"), "diffusers", "DoRA"],
    [dora("peft"), "peft", "PEFT's variant of DoRA"],
  ] as const)("is refused by name", async (values, format, name) => {
    await expect(writeLora(path("none.safetensors"), [values], { format, dtype: "f32" })).rejects.toMatchObject({
      code: "lora.no-form",
      message: expect.stringContaining(name),
    });
  });
});
