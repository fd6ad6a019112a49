// Walking a Philox stream, and PyTorch's generators against values that PyTorch gave.
// (The blocks and normal values of Philox itself are tested in philox.test.ts.)
import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isKinoraError } from "../../src/base/errors.ts";
import { PhiloxRng, philoxNormals } from "../../src/base/rng/philox-rng.ts";
import type { Seed } from "../../src/base/rng/seed.ts";
import { TorchCpuGenerator, torchCpuNormal } from "../../src/base/rng/torch-cpu.ts";
import { gpuThreads, TorchCudaGenerator, torchCudaNormal } from "../../src/base/rng/torch-cuda.ts";

/** The first 16 digits of the SHA-256 of the float32 bytes: equal only where every bit is. */
function digest(values: Float32Array): string {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return createHash("sha256").update(bytes).digest("hex").slice(0, 16);
}

function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (isKinoraError(error)) return error.code;
    throw error;
  }
  return "no error";
}

describe("PhiloxRng", () => {
  const draws = (rng: PhiloxRng): unknown[] => {
    const noise = new Float32Array(7);
    const order = ["a", "b", "c", "d", "e"];
    const first = [rng.word(), rng.uniform(), rng.integer(10), rng.normal()];
    rng.fillNormal(noise);
    rng.shuffle(order);
    return [...first, [...noise], order, rng.uniform()];
  };

  test("goes on from its state as if it had never stopped", () => {
    const rng = new PhiloxRng(2n ** 63n + 17n, 5);
    for (let round = 0; round < 5; round++) {
      const state = JSON.parse(JSON.stringify(rng.state()));
      expect(draws(PhiloxRng.restore(state))).toEqual(draws(rng));
    }
  });

  test("fills with the stream's normal values, from a whole block on", () => {
    const rng = new PhiloxRng(9, 3);
    rng.word();
    const filled = new Float32Array(6);
    rng.fillNormal(filled);
    const expected = new Float32Array(6);
    philoxNormals(9, 3, 4, expected);
    expect(filled).toEqual(expected);
    expect(rng.state().position).toBe(12);
  });

  test("uniform numbers fill [0, 1) evenly", () => {
    const rng = new PhiloxRng(1);
    const bins = new Array<number>(20).fill(0);
    for (let i = 0; i < 100_000; i++) {
      const value = rng.uniform();
      expect(value >= 0 && value < 1).toBe(true);
      bins[Math.floor(value * 20)]!++;
    }
    for (const count of bins) expect(Math.abs(count - 5000)).toBeLessThan(350);
  });

  test("integers stay below their bound, each as often as the others", () => {
    const rng = new PhiloxRng(2);
    for (const bound of [1, 2, 7, 1000, 2 ** 31 + 1, 2 ** 32]) {
      for (let i = 0; i < 200; i++) {
        const value = rng.integer(bound);
        expect(Number.isInteger(value) && value >= 0 && value < bound).toBe(true);
      }
    }
    const counts = new Array<number>(7).fill(0);
    for (let i = 0; i < 70_000; i++) counts[rng.integer(7)]!++;
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);
  });

  test("shuffling keeps every item and reaches every order", () => {
    fc.assert(
      fc.property(fc.array(fc.integer()), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (items, seed) => {
        const shuffled = [...items];
        new PhiloxRng(seed).shuffle(shuffled);
        expect(shuffled.toSorted((a, b) => a - b)).toEqual(items.toSorted((a, b) => a - b));
      }),
    );
    const rng = new PhiloxRng(3);
    const orders = new Map<string, number>();
    for (let i = 0; i < 6000; i++) {
      const items = ["a", "b", "c"];
      rng.shuffle(items);
      orders.set(items.join(""), (orders.get(items.join("")) ?? 0) + 1);
    }
    expect(orders.size).toBe(6);
    for (const count of orders.values()) expect(Math.abs(count - 1000)).toBeLessThan(150);
  });

  test("single normal numbers are standard normal", () => {
    const rng = new PhiloxRng(4);
    let [sum, squares] = [0, 0];
    for (let i = 0; i < 50_000; i++) {
      const value = rng.normal();
      sum += value;
      squares += value ** 2;
    }
    expect(Math.abs(sum / 50_000)).toBeLessThan(0.02);
    expect(Math.abs(squares / 50_000 - 1)).toBeLessThan(0.03);
  });

  test("impossible settings are named", () => {
    for (const seed of [1.5, 2 ** 53, Number.NaN, 2n ** 64n, -(2n ** 63n) - 1n]) {
      expect(codeOf(() => new PhiloxRng(seed))).toBe("rng.seed");
    }
    expect(codeOf(() => new PhiloxRng(1, -1))).toBe("rng.stream");
    expect(codeOf(() => new PhiloxRng(1, 0, 0.5))).toBe("rng.stream");
    for (const bound of [0, -4, 1.5, 2 ** 33]) expect(codeOf(() => new PhiloxRng(1).integer(bound))).toBe("rng.bound");
  });
});

describe("torch.randn on the CPU, bit for bit", () => {
  // torch 2.15.0 on x86-64 with AVX2: torch.randn(count, generator=torch.Generator("cpu").manual_seed(seed)); the first
  // two and the last two values, and the SHA-256 of all.
  const recorded: [seed: Seed, count: number, ends: number[], sha: string][] = [
    [0, 3, [1.5409960746765137, -0.293428897857666, -0.293428897857666, -2.1787893772125244], "1f113a802685b952"],
    [42, 15, [0.33669036626815796, 0.12880940735340118, -1.6897989511489868, -0.9889599084854126], "8db9a5331024e1ef"],
    [42, 16, [1.9269152879714966, 1.4872840642929077, -0.7688388824462891, 0.7624453902244568], "fc34b516db1204ac"],
    [42, 17, [1.9269152879714966, -0.1595974713563919, 0.859858512878418, -0.3097267746925354], "2ae700cddb7c7bef"],
    [
      2 ** 31,
      40,
      [-1.8465971946716309, 1.1185823678970337, -0.40885335206985474, 0.9631830453872681],
      "63241ae6021461a0",
    ],
    [-7, 33, [-0.17925161123275757, 0.9027326703071594, 2.7156198024749756, 1.4499976634979248], "598ab13f7d424b61"],
    [
      123456789012345n,
      1000,
      [-0.30752086639404297, -2.4112682342529297, 0.7825917601585388, 0.8570712208747864],
      "5e7ee547764394a3",
    ],
  ];

  test.each(recorded)("seed %s, %i values", (seed, count, ends, sha) => {
    const values = torchCpuNormal(seed, count);
    expect([...values.slice(0, 2), ...values.slice(-2)]).toEqual(ends);
    expect(digest(values)).toBe(sha);
  });

  test("latents of a video, whose shape does not matter", () => {
    // torch.randn(1, 16, 5, 8, 8, generator=…manual_seed(1026))
    expect(digest(torchCpuNormal(1026, 16 * 5 * 8 * 8))).toBe("2e24225f033d7661");
  });

  test("one generator, drawn from again and again: the short draws share a spare value", () => {
    // [torch.randn(k, generator=g) for k in (3, 20, 2, 16, 5)], g = torch.Generator("cpu").manual_seed(5)
    const generator = new TorchCpuGenerator(5);
    expect([3, 20, 2, 16, 5].map((count) => digest(generator.normal(count)))).toEqual([
      "dbee14b10f13c408",
      "9913734a02cc0dfc",
      "59712f4b6f882fd0",
      "97eefde4254f6970",
      "6231032b9da1544a",
    ]);
  });

  test("an empty draw takes nothing", () => {
    const generator = new TorchCpuGenerator(5);
    expect(generator.normal(0).length).toBe(0);
    expect(digest(generator.normal(3))).toBe("dbee14b10f13c408");
  });
});

describe("torch.randn on NVIDIA GPUs", () => {
  // torch.manual_seed(0); torch.randn(8, 8, device="cuda"), as printed by PyTorch in public notebooks (four digits).
  const printed = [
    ...[-0.9247, -0.4253, -2.6438, 0.1452, -0.1209, -0.5797, -0.6229, -0.3284],
    ...[-1.0745, -0.3631, -1.6711, 2.2655, 0.3117, -0.1842, 1.2866, 1.182],
    ...[-0.1271, 1.2169, 1.4353, 1.0605, -0.4941, -1.4244, -0.7244, -1.2973],
    ...[0.0697, -0.0074, 1.8969, 0.6878, -0.0779, -0.8373, 1.3506, -0.2879],
    ...[-0.5965, -0.3283, -0.9086, -0.8059, -0.7407, -0.0504, 0.5435, 1.515],
    ...[0.0141, 0.4532, 1.6349, 0.7124, -0.1806, 1.0252, -1.4622, -0.7554],
    ...[-0.1836, 0.3824, 0.3918, -0.083, 0.8971, -1.1123, 0.1116, 0.4863],
    ...[-0.5499, -0.3231, -0.5469, 0.9049, 0.2837, 0.121, 0.473, -1.0823],
  ];

  test("gives the printed values", () => {
    const values = torchCudaNormal(0, 64);
    for (let i = 0; i < 64; i++) expect(Math.abs(values[i]! - printed[i]!)).toBeLessThanOrEqual(0.500001e-4);
  });

  test("is the same on every large GPU while threads suffice, and deals out differently beyond", () => {
    const small = torchCudaNormal(7, 100_000, gpuThreads.H100);
    expect(torchCudaNormal(7, 100_000, gpuThreads["RTX 4090"])).toEqual(small);
    const count = 1_000_000;
    const large = torchCudaNormal(7, count, gpuThreads.H100);
    const other = torchCudaNormal(7, count, gpuThreads["RTX 4090"]);
    expect(other).not.toEqual(large);
    // The first element of every thread comes from the start of its own stream on both.
    const threads = 128 * 1536;
    expect(other.slice(0, threads)).toEqual(large.slice(0, threads));
    // Element e of a thread's block of four lies e·threads further on; both hold the same numbers there.
    expect(other.slice(threads, 2 * threads)).toEqual(large.slice(132 * 2048, 132 * 2048 + threads));
  });

  test("a second draw goes on where the first stopped", () => {
    const generator = new TorchCudaGenerator(11);
    const first = generator.normal(1000);
    const second = generator.normal(1000);
    expect(first).toEqual(torchCudaNormal(11, 1000));
    expect(second).not.toEqual(first);
    // Every thread spent one block of its stream: what a launch that goes round twice gives on its second round.
    const threads = 1024;
    const twice = torchCudaNormal(11, threads * 8, { multiprocessors: 1, threadsPerMultiprocessor: threads });
    expect(second).toEqual(twice.slice(threads * 4, threads * 4 + 1000));
  });

  test("its values are standard normal", () => {
    const values = torchCudaNormal(3, 300_000);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const square = values.reduce((sum, value) => sum + value ** 2, 0) / values.length;
    expect(Math.abs(mean)).toBeLessThan(0.01);
    expect(Math.abs(square - 1)).toBeLessThan(0.01);
  });

  test("an impossible count is named", () => {
    for (const count of [-1, 1.5, 2 ** 29]) expect(codeOf(() => torchCudaNormal(0, count))).toBe("rng.count");
    expect(torchCudaNormal(0, 0).length).toBe(0);
  });
});
