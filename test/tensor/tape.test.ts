// Scopes, the tape and checkpoints: who owns what, and that gradients are those of finite differences.
import { describe, expect, it } from "vitest";
import { isKinoraError } from "../../src/base/errors.ts";
import { elementCount } from "../../src/base/shape.ts";
import { createReferenceDevice } from "../../src/device/reference/reference-device.ts";
import {
  activation,
  add,
  attention,
  cast,
  concat,
  divide,
  layerNorm,
  linear,
  matmul,
  mean,
  meanSquaredError,
  multiply,
  pad,
  permute,
  repeat,
  reshape,
  scale,
  slice,
  softmax,
  subtract,
  sum,
} from "../../src/tensor/ops/index.ts";
import { recomputed } from "../../src/tensor/recompute.ts";
import { openScope, scoped } from "../../src/tensor/scope.ts";
import { Tape } from "../../src/tensor/tape.ts";
import { fromValues, ownedEmpty, type Tensor } from "../../src/tensor/tensor.ts";

const device = createReferenceDevice();

function values(count: number, seed: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => Math.sin((i + 1) * 12.9898 + seed * 78.233) * 0.9);
}

/** Compares the tape's gradients of sum(weights∘f(inputs)) with central differences. */
async function checkGradients(shapes: readonly (readonly number[])[], f: (inputs: Tensor[]) => Tensor): Promise<void> {
  const live = device.memory().live;
  {
    using _scope = openScope(device);
    const data = shapes.map((shape, i) => values(elementCount(shape), i));
    let weights: Float32Array | undefined;
    const objective = async (inputs: Tensor[]) => {
      const y = f(inputs);
      weights ??= values(y.size, 99);
      const y64 = await y.read();
      return y64.reduce((total, value, i) => total + value * weights![i]!, 0);
    };
    const leaves = shapes.map((shape, i) => fromValues(device, data[i]!, shape).requireGradient());
    {
      using tape = new Tape(device);
      const y = f(leaves);
      weights = values(y.size, 99);
      tape.backward(y, fromValues(device, weights, y.shape));
    }
    for (const [which, leaf] of leaves.entries()) {
      const gradient = await leaf.gradient!.read();
      for (let i = 0; i < leaf.size; i++) {
        const step = 1e-2;
        const moved = async (by: number) => {
          using _inner = openScope(device);
          const shifted = shapes.map((shape, j) => {
            const copy = data[j]!.slice();
            if (j === which) copy[i]! += by;
            return fromValues(device, copy, shape);
          });
          return objective(shifted);
        };
        const numeric = ((await moved(step)) - (await moved(-step))) / (2 * step);
        expect(Math.abs(gradient[i]! - numeric)).toBeLessThan(2e-3 * Math.max(1, Math.abs(numeric)));
      }
      leaf.clearGradient();
    }
  }
  expect(device.memory().live).toBe(live);
}

describe("gradients against central differences", () => {
  const cases: Record<string, [readonly (readonly number[])[], (inputs: Tensor[]) => Tensor]> = {
    "add, broadcast": [[[2, 3], [3]], ([a, b]) => add(a!, b!)],
    "subtract, broadcast the other way": [
      [
        [1, 3],
        [2, 3],
      ],
      ([a, b]) => subtract(a!, b!),
    ],
    multiply: [
      [
        [2, 3],
        [2, 1],
      ],
      ([a, b]) => multiply(a!, b!),
    ],
    divide: [
      [
        [2, 2],
        [2, 2],
      ],
      ([a, b]) => divide(a!, scale(multiply(b!, b!), 1, 1.5)),
    ],
    "x used twice": [[[4]], ([x]) => add(multiply(x!, x!), x!)],
    "matmul, all transposes": [
      [
        [3, 2],
        [4, 3],
      ],
      ([a, b]) => matmul(a!, b!, { transposeA: true, transposeB: true, scale: 0.5 }),
    ],
    "batched matmul": [
      [
        [2, 2, 3],
        [2, 3, 2],
      ],
      ([a, b]) => matmul(a!, b!),
    ],
    "linear, trainable, with bias, activation and residual": [
      [[3, 4], [5, 4], [5], [3, 5]],
      ([x, w, b, r]) => add(linear(x!, w!, { bias: b!, activation: "gelu-tanh", scale: 0.7 }), r!),
    ],
    "linear with gate and residual": [
      [
        [3, 4],
        [2, 4],
        [2, 2],
        [3, 2],
      ],
      ([x, w, table, residual]) =>
        linear(x!, w!, {
          gate: {
            table: table!,
            runs: [
              { start: 0, count: 1, row: 1 },
              { start: 1, count: 2, row: 0 },
            ],
          },
          residual: residual!,
        }),
    ],
    layouts: [
      [
        [2, 3],
        [2, 1],
      ],
      ([a, b]) =>
        pad(repeat(permute(concat([a!, b!], 1), [1, 0]), 0, 2), [
          [1, 0],
          [0, 2],
        ]),
    ],
    "slices along both axes": [[[3, 4]], ([x]) => multiply(slice(x!, 0, 1, 2), slice(slice(x!, 1, 0, 4), 0, 0, 2))],
    "softmax of a mean": [[[2, 3, 2]], ([x]) => softmax(reshape(mean(x!, [1]), [2, 2]))],
    "sum over everything": [[[2, 3]], ([x]) => sum(multiply(x!, x!))],
    "modulated layer norm": [
      [
        [3, 4],
        [2, 4],
        [2, 4],
      ],
      ([x, s, t]) =>
        layerNorm(x!, {
          eps: 1e-6,
          modulation: {
            scale: s!,
            shift: t!,
            runs: [
              { start: 0, count: 2, row: 0 },
              { start: 2, count: 1, row: 1 },
            ],
          },
        }),
    ],
    recomputed: [
      [
        [2, 3],
        [3, 3],
      ],
      ([x, w]) => recomputed([x!, w!], ([a, b]) => activation("silu", linear(a!, b!))),
    ],
  };
  for (const [name, [shapes, f]] of Object.entries(cases)) it(name, () => checkGradients(shapes, f));

  it("attention, with a bias that its maker's scope has freed since", async () => {
    const shape = [1, 3, 2, 4];
    await checkGradients([shape, shape, shape], ([q, k, v]) =>
      scoped(device, () =>
        attention(q!, k!, v!, { scale: 1, bias: fromValues(device, values(18, 9), [2, 3, 3]), keyLengths: [2] }),
      ),
    );
  });
});

describe("scopes", () => {
  it("free what was made in them but what is kept", () => {
    const live = device.memory().live;
    {
      using _outer = openScope(device);
      const kept = scoped(device, () => {
        fromValues(device, values(8, 1), [8]);
        return fromValues(device, values(4, 1), [4]);
      });
      expect(device.memory().live - live).toBe(16);
      expect(kept.disposed).toBe(false);
    }
    expect(device.memory().live).toBe(live);
  });

  it("refuse a tensor used after it was freed", () => {
    let gone: Tensor;
    {
      using _scope = openScope(device);
      gone = fromValues(device, values(4, 1), [4]);
    }
    expect(() => gone.block).toThrowError(/after it was freed/);
  });

  it("hand a tensor to its caller for good by release", async () => {
    let mine: Tensor;
    {
      using scope = openScope(device);
      mine = scope.release(fromValues(device, values(4, 3), [4]));
    }
    expect(await mine.read()).toEqual(values(4, 3));
    mine[Symbol.dispose]();
  });
});

describe("the tape", () => {
  it("gathers a recomputed block's parameter gradients although its input needs none", async () => {
    using _scope = openScope(device);
    const x = fromValues(device, values(6, 1), [2, 3]);
    const w = fromValues(device, values(9, 2), [3, 3]).requireGradient();
    const run = async (body: (input: Tensor) => Tensor) => {
      using tape = new Tape(device);
      const loss = meanSquaredError(body(x), fromValues(device, new Float32Array(6), [2, 3]));
      tape.backward(loss);
      const gradient = await w.gradient!.read();
      w.clearGradient();
      return gradient;
    };
    const plain = await run((input) => linear(linear(input, w), w));
    const saved = await run((input) => recomputed([input], ([a]) => linear(linear(a!, w), w)));
    expect(saved).toEqual(plain);
  });

  it("leaves no trace of what needs no gradient, and says so when asked to go back", () => {
    const live = device.memory().live;
    {
      using _scope = openScope(device);
      using tape = new Tape(device);
      const y = sum(fromValues(device, values(4, 1), [4]));
      try {
        tape.backward(y);
        expect.unreachable();
      } catch (error) {
        expect(isKinoraError(error, "tape.no-gradient")).toBe(true);
      }
    }
    expect(device.memory().live).toBe(live);
  });

  it("returns a cast's gradient in the parameter's own dtype", async () => {
    using _scope = openScope(device);
    const w = fromValues(device, values(4, 1), [4]).requireGradient();
    using tape = new Tape(device);
    tape.backward(sum(cast(w, "bf16")));
    expect(w.gradient!.dtype).toBe("f32");
    expect(await w.gradient!.read()).toEqual(new Float32Array(4).fill(1));
    w.clearGradient();
  });

  it("frees what it saved when it is closed before going back", () => {
    const live = device.memory().live;
    {
      using _scope = openScope(device);
      const w = ownedEmpty(device, [4], "f32", "weights").requireGradient();
      w.write(values(4, 1));
      using _tape = new Tape(device);
      multiply(multiply(w, w), w);
      w[Symbol.dispose]();
    }
    expect(device.memory().live).toBe(live);
  });
});
