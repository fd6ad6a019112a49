// Products that the library does not fuse come out the same, and its algorithms are told what they may count on.
import { afterEach, describe, expect, it } from "vitest";
import { Bench } from "../conformance/bench.ts";
import { productCases } from "../conformance/product-cases.ts";
import { emulatorControls, emulatorMissing, openEmulated } from "./emulated.ts";

const missing = emulatorMissing();

describe.skipIf(missing !== undefined)(`products${missing ? ` (${missing})` : ""}`, () => {
  const controls = missing === undefined ? emulatorControls() : undefined!;
  afterEach(() => controls.refuseEpilogues(false));

  it("without fused epilogues pass the cases of all devices", async () => {
    controls.refuseEpilogues(true);
    using device = openEmulated();
    for (const { name, run } of productCases) {
      const bench = new Bench(device, new Map());
      await run(bench).catch((error: Error) => {
        throw new Error(`${name}: ${error.message}`, { cause: error });
      });
      await bench.close();
    }
  });

  it("begin at any element: no algorithm counts on more than an address gives", async () => {
    using device = openEmulated();
    const block = device.alloc(4096, "activations");
    device.upload(block, 0, new Uint8Array(Float32Array.from({ length: 1024 }, () => 2).buffer));
    for (const offset of [0, 4, 12, 16, 64, 256, 260]) {
      const part = (at: number, shape: readonly number[]) =>
        ({ block, offset: offset + at, dtype: "f32", shape }) as const;
      device.kernels.matmul(part(0, [3, 5]), part(1024, [5, 2]), part(2048, [3, 2]), { bias: part(3000, [2]) });
      const out = new Float32Array((await device.download(block, offset + 2048, 24)).slice().buffer);
      expect([...out]).toEqual([22, 22, 22, 22, 22, 22]);
    }
    device.free(block);
  });

  it("of float32 go to tensor cores where that was asked for", async () => {
    using device = openEmulated({ tf32: true });
    for (const { run } of productCases.slice(0, 20)) {
      const bench = new Bench(device, new Map());
      await run(bench);
      await bench.close();
    }
  });
});
