// Blocks that come and go: what a model computes with a part of its blocks in memory is what it computes with all of them,
// bit for bit, forward and backward; and memory stays within the budget.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Block, Device, DeviceEvent } from "../../src/device/device.ts";
import { createNullDevice } from "../../src/device/null/null-device.ts";
import { descriptorOf, openDevice } from "../../src/device/open-device.ts";
import { createReferenceDevice } from "../../src/device/reference/reference-device.ts";
import type { AdapterValues } from "../../src/lora/adapters/table.ts";
import { attachLora, freshLora } from "../../src/lora/attach.ts";
import type { WanDit } from "../../src/models/wan/dit/dit.ts";
import { fp8BlockScale } from "../../src/models/wan/fp8-blocks.ts";
import { type DitLoadOptions, loadDit } from "../../src/models/wan/load.ts";
import type { DitConfig } from "../../src/models/wan/params.ts";
import { ditShapes } from "../../src/models/wan/weight-shapes.ts";
import { type BlockMemory, blocksAfter, StreamedBlocks } from "../../src/nn/residency.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { Tape } from "../../src/tensor/tape.ts";
import { fromValues } from "../../src/tensor/tensor.ts";
import { gatherGradients } from "../../src/train/step/gradients.ts";
import { draws } from "../support/drawn-weights.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { writeRandomNetwork } from "../support/tiny-checkpoint.ts";

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
  layers: 5,
  eps: 1e-6,
};
const shape = [16, 2, 4, 4] as const;

const path = temporaryFolder();
const files = { f32: path("f32.safetensors"), bf16: path("bf16.safetensors") };
beforeAll(async () => {
  await writeRandomNetwork(files.f32, ditShapes(config), 3, "f32");
  await writeRandomNetwork(files.bf16, ditShapes(config), 3, "bf16");
});

const values = (count: number, seed: number) => Float32Array.from({ length: count }, draws(seed));

/** Two passes: the second begins with what the first left in memory. */
async function forwards(model: WanDit): Promise<Uint8Array[]> {
  const results: Uint8Array[] = [];
  for (const seed of [1, 2]) {
    using _scope = openScope(model.device);
    const velocity = model.forward({
      latents: fromValues(model.device, values(512, seed), [1, ...shape]),
      timesteps: [400],
      texts: [fromValues(model.device, values(3 * 64, 9), [3, 64])],
    });
    results.push(await velocity.readBytes());
  }
  return results;
}

/** The gradients of a LoRA on every Linear of the blocks, after two samples. */
async function gradients(model: WanDit): Promise<Uint8Array[]> {
  const { device } = model;
  const select = (name: string) => name.startsWith("blocks.");
  const uniform = (count: number, module: number) => values(count, 50 + module).map((value) => (value + 1) / 2);
  using lora = freshLora(model.linears(), { rank: 4, alpha: 4, select }, uniform);
  const parameters = lora.parameters();
  for (const [i, parameter] of [...parameters.values()].entries()) {
    using _scope = openScope(device);
    parameter.write(values(parameter.size, 200 + i).map((value) => value * 0.2));
  }
  for (const seed of [4, 5]) {
    using _scope = openScope(device);
    const sample = {
      clean: fromValues(device, values(512, seed), shape),
      noise: fromValues(device, values(512, seed + 1), shape),
      sigma: 0.6,
      text: fromValues(device, values(3 * 64, seed + 2), [3, 64]),
    };
    await gatherGradients(model, sample, { recompute: true });
  }
  const results: Uint8Array[] = [];
  for (const parameter of parameters.values()) {
    results.push(await parameter.gradient!.readBytes());
    parameter.clearGradient();
  }
  return results;
}

const forms: readonly [what: string, file: keyof typeof files, options: DitLoadOptions][] = [
  ["read in place", "f32", { dtype: "f32" }],
  ["read in place in bf16", "bf16", { dtype: "bf16" }],
  ["converted", "f32", { dtype: "bf16" }],
  ["quantised", "bf16", { dtype: "bf16", keepQuantized: true, quantize: fp8BlockScale }],
  ["in the device's layout", "f32", { dtype: "f32", pack: true }],
  ["converted, in the device's layout", "f32", { dtype: "bf16", pack: true }],
];

const memories: readonly [what: string, (blockBytes: number) => BlockMemory][] = [
  ["one block", () => ({ swapped: 4 })],
  ["three blocks", () => ({ swapped: 2 })],
  ["a budget of two and a half", (block) => ({ budget: 2.5 * block })],
];

function residencyOf({ residency }: WanDit): StreamedBlocks {
  if (residency instanceof StreamedBlocks) return residency;
  throw new Error("the model's blocks are all resident");
}

// Nothing of it depends on the device; the reference device takes its time.
describe.each([
  ["auto", forms, memories],
  ["reference", forms.slice(2, 3), memories.slice(2)],
] as const)("blocks that come and go, on the %s device", async (name, forms, memories) => {
  const { device } = await openDevice(name);
  afterAll(() => device[Symbol.dispose]());
  const weightsOf = (on: Device) => on.memory().byCategory.weights;

  for (const [form, file, options] of forms) {
    it.each(memories)(`weights ${form}: %s in memory give every bit`, async (_what, memoryOf) => {
      const live = device.memory().live;
      const path = files[file];
      let [forward, backward]: Uint8Array[][] = [];
      let block = 0;
      {
        using model = loadDit(device, path, options);
        forward = await forwards(model);
        backward = options.pack ? [] : await gradients(model);
        // The sizes of a block's weights, told by a model that holds them all.
        using all = loadDit(device, path, { ...options, blocks: { swapped: 0 } });
        await forwards(all);
        block = residencyOf(all).held.now / config.layers;
        expect(residencyOf(all).held.loads).toBe(config.layers);
      }
      const memory = memoryOf(block);
      using model = loadDit(device, path, { ...options, blocks: memory });
      const others = weightsOf(device).live;
      device.resetPeak();
      expect(await forwards(model)).toEqual(forward);
      const { budget, held } = residencyOf(model);
      expect(held.peak).toBeGreaterThan(0);
      expect(held.peak).toBeLessThanOrEqual(budget);
      expect(weightsOf(device).peak - others).toBeLessThanOrEqual(budget);
      if (!options.pack) {
        expect(await gradients(model)).toEqual(backward);
        expect(residencyOf(model).held.peak).toBeLessThanOrEqual(budget);
      }
      model[Symbol.dispose]();
      expect(device.memory().live).toBe(live);
    });
  }

  it("adapters stand beside weights that are away, and are not merged into them", async () => {
    using model = loadDit(device, files.f32, { dtype: "f32", blocks: { swapped: 4 } });
    using lora = freshLora(model.linears(), { rank: 2, alpha: 2, select: (at) => at === "blocks.3.ffn.0" }, (count) =>
      new Float32Array(count).fill(0.3),
    );
    const layer = model.linears().get("blocks.3.ffn.0")!;
    expect(layer.adapters.length).toBe(1);
    using _scope = openScope(device);
    expect(() => layer.merge()).toThrowError(expect.objectContaining({ code: "lora.merge" }));
    // Its values can be had all the same, for a moment.
    const before = weightsOf(device).live;
    expect(layer.merged().shape).toEqual([192, 128]);
    expect(weightsOf(device).live).toBe(before);
    expect(lora.parameters().size).toBe(2);
  });

  it("adapters that change the weight itself act on weights that come and go as on others", async () => {
    const count = 192 * 128;
    const difference = (parameter: string, shape: number[], size: number): AdapterValues => ({
      kind: "difference",
      parameter,
      shape,
      values: values(size, 21).map((value) => 0.1 * value),
      scale: 1,
      replaces: false,
    });
    const adapters = [
      difference("blocks.3.ffn.0.weight", [192, 128], count),
      difference("blocks.2.norm3.bias", [128], 128),
    ];
    const results: Uint8Array[][] = [];
    for (const swapped of [0, 4]) {
      using model = loadDit(device, files.f32, { dtype: "f32", blocks: { swapped } });
      const plain = await forwards(model);
      using _lora = attachLora(model, adapters, 0.8);
      results.push(await forwards(model));
      expect(results.at(-1)).not.toEqual(plain);
    }
    expect(results[1]).toEqual(results[0]);
  });

  it("a weight that is away is not computed with, and a tape that would need it later is refused", async () => {
    using model = loadDit(device, files.f32, { dtype: "f32", blocks: { swapped: 4 } });
    using _scope = openScope(device);
    const layer = model.linears().get("blocks.3.ffn.0")!;
    const x = fromValues(device, values(128, 1), [1, 128]);
    expect(() => layer.forward(x)).toThrowError(expect.objectContaining({ code: "weights.away" }));
    using _tape = new Tape(device);
    await expect(forwards(model)).rejects.toMatchObject({ code: "dit.blocks-recorded" });
  });
});

/**
 * A device whose streams copy as late as they may: when the device waits for an event after the copy. Its memory is
 * garbage until then, and it reads no file in place.
 */
function late(device: Device): Device {
  let begun = 0;
  let pending: { at: number; block: Block; copy: () => void }[] = [];
  const finish = (at: number) => {
    for (const { copy } of pending.filter((one) => one.at <= at)) copy();
    pending = pending.filter((one) => one.at > at);
  };
  type Mark = DeviceEvent & { at: number };
  return {
    ...device,
    mapHost: () => undefined,
    alloc(bytes, category) {
      const block = device.alloc(bytes, category);
      device.upload(block, 0, new Uint8Array(bytes).fill(0xff));
      return block;
    },
    free(block) {
      if (pending.some((one) => one.block === block)) throw new Error("memory was freed that a copy is on its way to");
      device.free(block);
    },
    createStream: () => ({
      upload(block, offset, source) {
        pending.push({ at: ++begun, block, copy: () => device.upload(block, offset, source) });
      },
      event: (): Mark => ({ at: begun, passed: async () => {} }),
      wait() {},
      [Symbol.dispose]() {},
    }),
    wait: (event) => finish((event as Mark).at),
  };
}

it("waits for copies that are on their way, and frees nothing under them", async () => {
  using device = createReferenceDevice();
  const options = { dtype: "bf16", keepQuantized: true, quantize: fp8BlockScale } as const;
  const run = async (on: Device, blocks?: BlockMemory) => {
    using model = loadDit(on, files.bf16, { ...options, blocks });
    const [first] = await forwards(model);
    return [first, ...(await gradients(model)).slice(0, 8)];
  };
  const live = device.memory().live;
  expect(await run(late(device), { swapped: 2 })).toEqual(await run(device));
  expect(device.memory().live).toBe(live);
});

describe("what is held", () => {
  it("refuses a budget that holds no block, and more blocks than there are", () => {
    const device = createNullDevice();
    const load = (blocks: BlockMemory) => loadDit(device, files.f32, { dtype: "f32", blocks });
    expect(() => load({ budget: 1000 })).toThrowError(
      expect.objectContaining({ code: "memory.block-budget", expected: expect.stringMatching(/^at least \d+ kB$/) }),
    );
    for (const swapped of [5, -1, 1.5]) {
      expect(() => load({ swapped })).toThrowError(expect.objectContaining({ code: "memory.block-budget" }));
    }
    expect(device.memory().live).toBe(0);
  });

  it.each([
    ["that read files in place", {}, 6],
    ["that copy their weights, one ahead", { mapsHost: false }, 8],
  ])("on devices %s, keeps the blocks whose turn is soonest", async (_what, memoryModel, most) => {
    const device = createNullDevice(memoryModel);
    using model = loadDit(device, files.f32, { dtype: "f32", blocks: { swapped: 2 } });
    const loads = async (run: (model: WanDit) => Promise<unknown>) => {
      const before = residencyOf(model).held.loads;
      await run(model);
      return residencyOf(model).held.loads - before;
    };
    await forwards(model);
    // Three of five in memory: whoever lets the block go that was used last loads all five in each of two passes.
    expect(await loads(forwards)).toBeLessThanOrEqual(most);
    // There and back twice: the three at the turn stay.
    expect(await loads(gradients)).toBeLessThanOrEqual(most + 2);
    const { budget, held } = residencyOf(model);
    expect(held.peak).toBeLessThanOrEqual(budget);
  });

  it("knows the order of what follows", () => {
    expect(blocksAfter(1, 4, "forward")).toEqual([2, 3, 0, 1, 2, 3]);
    expect(blocksAfter(1, 4, "forward and back")).toEqual([2, 3, 3, 2, 1, 0]);
    expect(blocksAfter(2, 4, "backward")).toEqual([1, 0, 0, 1, 2, 3]);
  });

  it("is what the null device plans", async () => {
    const descriptor = await descriptorOf("auto");
    const device = await descriptor.open();
    const planned = createNullDevice(descriptor.memoryModel);
    const peak = async (on: Device) => {
      using model = loadDit(on, files.f32, { dtype: "bf16", blocks: { swapped: 3 } });
      await gradients(model);
      return [on.memory().byCategory.weights.peak, residencyOf(model).held.peak];
    };
    expect(await peak(planned)).toEqual(await peak(device));
    device[Symbol.dispose]();
  });
});
