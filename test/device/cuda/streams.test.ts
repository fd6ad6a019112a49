// The order of work on a card: the emulated driver runs its streams as late or as early as their events allow, so that a
// missing wait changes what comes out; and it counts what the host waits for.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { AnyKernel } from "../../../src/device/check-operands.ts";
import { cudaMemoryModel } from "../../../src/device/cuda/memory-model.ts";
import type { Device } from "../../../src/device/device.ts";
import type { Kernels } from "../../../src/device/kernels.ts";
import { freshLora } from "../../../src/lora/attach.ts";
import { fp8BlockScale } from "../../../src/models/wan/fp8-blocks.ts";
import { type DitLoadOptions, loadDit } from "../../../src/models/wan/load.ts";
import type { DitConfig } from "../../../src/models/wan/params.ts";
import { ditShapes } from "../../../src/models/wan/weight-shapes.ts";
import { openScope } from "../../../src/tensor/scope.ts";
import { fromValues } from "../../../src/tensor/tensor.ts";
import { gatherGradients } from "../../../src/train/step/gradients.ts";
import { draws } from "../../support/drawn-weights.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { writeRandomNetwork } from "../../support/tiny-checkpoint.ts";
import { emulatorControls, emulatorMissing, openEmulated, type orders } from "./emulated.ts";

const config: DitConfig = {
  patchSize: [1, 2, 2],
  textLength: 8,
  inputChannels: 16,
  outputChannels: 16,
  dim: 128,
  ffnDim: 192,
  frequencyDim: 32,
  textDim: 64,
  heads: 1,
  layers: 3,
  eps: 1e-6,
};
const shape = [16, 2, 4, 4] as const;
const missing = emulatorMissing();
const path = temporaryFolder();
const file = path("bf16.safetensors");
const values = (count: number, seed: number) => Float32Array.from({ length: count }, draws(seed));

/** Gradients of a LoRA over all blocks: forward, recompute and backward, blocks coming and going. */
async function train(device: Device, options: DitLoadOptions): Promise<Uint8Array[]> {
  using model = loadDit(device, file, options);
  const uniform = (count: number, module: number) => values(count, 50 + module).map((value) => (value + 1) / 2);
  const select = (name: string) => name.startsWith("blocks.");
  using lora = freshLora(model.linears(), { rank: 4, alpha: 4, select }, uniform);
  const parameters = [...lora.parameters().values()];
  for (const [i, parameter] of parameters.entries()) {
    using _scope = openScope(device);
    parameter.write(values(parameter.size, 200 + i).map((value) => value * 0.2));
  }
  {
    using _scope = openScope(device);
    const [clean, noise] = [fromValues(device, values(512, 4), shape), fromValues(device, values(512, 5), shape)];
    await gatherGradients(
      model,
      { clean, noise, sigma: 0.6, text: fromValues(device, values(192, 6), [3, 64]) },
      { recompute: true },
    );
  }
  const results: Uint8Array[] = [];
  for (const parameter of parameters) {
    results.push(await parameter.gradient!.readBytes());
    parameter.clearGradient();
  }
  return results;
}

const digest = (parts: readonly Uint8Array[]): string => Buffer.concat(parts).toString("base64");

describe.skipIf(missing !== undefined)(`streams of a card${missing ? ` (${missing})` : ""}`, () => {
  const controls = missing === undefined ? emulatorControls() : undefined!;
  beforeAll(() => writeRandomNetwork(file, ditShapes(config), 3, "bf16"));
  beforeEach(() => controls.mend());
  afterAll(() => controls?.order("atOnce"));

  const forms: readonly [what: string, options: DitLoadOptions][] = [
    ["one block in memory", { dtype: "bf16", blocks: { swapped: 2 } }],
    [
      "two blocks in memory, quantised",
      { dtype: "bf16", keepQuantized: true, quantize: fp8BlockScale, blocks: { swapped: 1 } },
    ],
  ];
  it.each(forms)(
    "gradients are those of a model that is all there, in every order, with %s",
    async (_what, options) => {
      const { blocks: _blocks, ...whole } = options;
      const gradients = async (order: keyof typeof orders, chosen: DitLoadOptions): Promise<string> => {
        controls.order(order);
        using device = openEmulated();
        const found = digest(await train(device, chosen));
        expect(device.memory().live).toBe(0);
        return found;
      };
      const expected = await gradients("atOnce", whole);
      for (const order of ["kernelsLate", "copiesLate"] as const)
        expect((await gradients(order, options)) === expected).toBe(true);
    },
  );

  it("a wait that is missing shows, in both directions", async () => {
    /** Bytes that a kernel read, and bytes that a copy overwrote behind it, with or without the waits. */
    const run = async (waits: boolean): Promise<string> => {
      using device = openEmulated();
      using stream = device.createStream();
      const [source, target] = [device.alloc(4096, "weights"), device.alloc(4096, "weights")];
      const x = { block: source, offset: 0, dtype: "f32", shape: [1024] } as const;
      const y = { ...x, block: target };
      // The device has used both: the stream's own wait for fresh memory is behind them.
      for (const block of [source, target]) stream.upload(block, 0, new Uint8Array(4096));
      device.wait(stream.event());
      await device.synchronize();
      stream.upload(source, 0, new Uint8Array(values(1024, 1).buffer));
      if (waits) device.wait(stream.event());
      device.kernels.affine(x, 2, undefined, 0, y);
      if (waits) stream.wait(device.event());
      stream.upload(source, 0, new Uint8Array(values(1024, 2).buffer));
      return digest([await device.download(target, 0, 4096)]);
    };
    const right = await run(true);
    const seen: boolean[] = [];
    for (const order of ["kernelsLate", "copiesLate"] as const) {
      controls.order(order);
      expect(await run(true)).toBe(right);
      seen.push((await run(false)) === right);
    }
    expect(seen).toEqual([false, false]);
  });

  it("more bytes than the pinned memory holds arrive whole, in every order", async () => {
    const bytes = new Uint8Array(new Uint32Array(11 << 20).map((_, i) => Math.imul(i, 2654435761)).buffer);
    for (const order of ["atOnce", "allLate"] as const) {
      controls.order(order);
      using device = openEmulated();
      using stream = device.createStream();
      for (const by of [device, stream]) {
        const block = device.alloc(bytes.length, "weights");
        by.upload(block, 0, bytes);
        if (by === stream) device.wait(stream.event());
        const back = await device.download(block, 0, bytes.length);
        expect(Buffer.compare(back, bytes)).toBe(0);
      }
    }
  });

  it("a step waits for nothing: kernels and copies are only asked for", async () => {
    controls.order("atOnce");
    using device = openEmulated();
    await train(device, { dtype: "bf16" });
    using model = loadDit(device, file, { dtype: "bf16" });
    using _scope = openScope(device);
    const latents = fromValues(device, values(512, 1), [1, ...shape]);
    const text = fromValues(device, values(3 * 64, 9), [3, 64]);
    model.forward({ latents, timesteps: [400], texts: [text] });
    controls.mend();
    const velocity = model.forward({ latents, timesteps: [300], texts: [text] });
    const next = fromValues(device, values(512, 2), [1, ...shape]);
    device.kernels.affine(latents, 1, velocity, -0.1, next);
    model.forward({ latents: next, timesteps: [200], texts: [text] });
    const waits = [
      "cuCtxSynchronize",
      "cuStreamSynchronize",
      "cuEventSynchronize",
      "cuEventQuery",
      "cuMemFree",
      "cuMemHostAlloc",
    ];
    const count = () => Object.fromEntries(waits.map((call) => [call, controls.calls(call)]));
    const none = Object.fromEntries(waits.map((call) => [call, 0]));
    expect(controls.calls("cuLaunchKernel")).toBeGreaterThan(100);
    expect(count()).toEqual(none);
    await next.read();
    expect(count()).toMatchObject({ ...none, cuEventQuery: expect.any(Number), cuMemHostAlloc: 0 });
  });

  it("the pinned memory of downloads is kept, and several run at once", async () => {
    using device = openEmulated();
    const block = device.alloc(1 << 20, "weights");
    device.upload(block, 0, new Uint8Array(1 << 20).fill(7));
    await device.download(block, 0, 1 << 20);
    controls.mend();
    const both = await Promise.all([device.download(block, 0, 1 << 20), device.download(block, 5, 1000)]);
    expect(both.map((bytes) => bytes.every((byte) => byte === 7))).toEqual([true, true]);
    for (let i = 0; i < 5; i++) await device.download(block, 0, 1 << 20);
    expect(controls.calls("cuMemHostAlloc")).toBe(1);
  });

  it("plans count what every kernel takes for itself, to the byte", async () => {
    controls.order("atOnce");
    using device = openEmulated();
    const wrong: string[] = [];
    let [calls, most] = [0, 0];
    const entries = Object.entries(device.kernels).map(([name, kernel]) => [
      name,
      (...args: unknown[]) => {
        const planned = (cudaMemoryModel.workspace?.[name as keyof Kernels] as AnyKernel | undefined)?.(...args) ?? 0;
        const { live } = device.memory();
        device.resetPeak();
        const result = (kernel as AnyKernel)(...args);
        const taken = device.memory().peak - live;
        if (taken !== planned) wrong.push(`${name}: ${taken}, planned ${planned}`);
        calls++;
        most = Math.max(most, taken);
        return result;
      },
    ]);
    const watched = { ...device, kernels: Object.fromEntries(entries) as unknown as Kernels };
    await train(watched, { dtype: "bf16", keepQuantized: true, quantize: fp8BlockScale });
    expect(wrong).toEqual([]);
    expect(calls).toBeGreaterThan(100);
    expect(most).toBeGreaterThan(0);
  });
});
