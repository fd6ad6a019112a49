// A row is all that an adapter kind needs: one is added here as docs/extending.md says, and files with it are read, told,
// applied beside others and written again.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { relativeError } from "../../scripts/golden/fixture.ts";
import { openDevice } from "../../src/device/open-device.ts";
import type { AdapterKind } from "../../src/lora/adapters/kind.ts";
import { type AdapterValues, adapterKinds } from "../../src/lora/adapters/table.ts";
import { ownedFrom } from "../../src/lora/adapters/values.ts";
import { attachLora } from "../../src/lora/attach.ts";
import { convertLora } from "../../src/lora/convert.ts";
import { describeLora } from "../../src/lora/describe.ts";
import { fileTensor } from "../../src/lora/file-tensor.ts";
import { stemOf } from "../../src/lora/key-formats.ts";
import { readLora } from "../../src/lora/read.ts";
import { openScope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { tinyDit, tinyDitConfig } from "../support/tiny-dit.ts";
import { writeFile } from "../support/wan-files.ts";

/** Rows of a weight times 1 + strength·values, as IA³ scales what a layer gives. */
interface RowScaleValues {
  kind: "rowScale";
  module: string;
  values: Float32Array;
}

const rowScale: AdapterKind<RowScaleValues> = {
  label: "row scales",
  parts: [[/\.row_scale$/, "row_scale"]],
  find(module) {
    if (!module.has("row_scale")) return [];
    const tensor = module.take("row_scale");
    const [rows = 0] = tensor.shape;
    return [
      {
        kind: "rowScale",
        place: { parameter: `${module.module}.bias`, shape: [rows] },
        tensors: [tensor.name],
        load: () => ({ kind: "rowScale", module: module.module, values: tensor.values() }),
      },
    ];
  },
  place: ({ module, values }) => ({ parameter: `${module}.bias`, shape: [values.length] }),
  attach({ device }, { module, values }, strength) {
    const scales: Tensor = ownedFrom(device, module, values, [values.length]);
    return {
      delta(total) {
        using _scope = openScope(device);
        const factors = ownedFrom(device, module, new Float32Array(values.length).fill(1), [values.length]);
        device.kernels.affine(factors, 1, scales, strength, factors);
        device.kernels.binary("multiply", total, factors, total);
        factors[Symbol.dispose]();
      },
      parameters: () => new Map([["scales", scales]]),
      [Symbol.dispose]: () => scales[Symbol.dispose](),
    };
  },
  tensors: ({ module, values }, format, options) => [
    fileTensor(`${stemOf(format, module)}.row_scale`, [values.length], () => values, options),
  ],
  strength: ({ values }) => Math.hypot(...values),
};

const path = temporaryFolder();
const { device } = await openDevice("auto");
afterAll(() => device[Symbol.dispose]());

describe("a kind of one's own", () => {
  const table = adapterKinds as Record<string, unknown>;
  beforeAll(() => {
    table.rowScale = rowScale;
  });
  afterAll(() => {
    delete table.rowScale;
  });

  it("is read, told, applied and written by its row alone", async () => {
    const { dim } = tinyDitConfig;
    const values = Float32Array.from({ length: dim }, (_, i) => Math.sin(i));
    const file = await writeFile(path("scales.safetensors"), [
      {
        name: "diffusion_model.blocks.0.self_attn.q.row_scale",
        dtype: "f32",
        shape: [dim],
        bytes: new Uint8Array(values.buffer),
      },
    ]);
    const described = describeLora(file);
    expect(described.groups).toMatchObject([{ name: "self_attn", modules: 1, kinds: ["row scales"] }]);
    const out = path("kohya.safetensors");
    expect(await convertLora(file, out, { format: "kohya" })).toMatchObject({ modules: 1, from: ["peft"] });

    const { model } = tinyDit(device);
    using _model = model;
    const bias = model.parameters().get("blocks.0.self_attn.q.bias")!;
    const start: AdapterValues = {
      kind: "difference",
      parameter: bias.name,
      shape: [dim],
      values: Float32Array.from({ length: dim }, (_, i) => 1 + i / dim),
      scale: 1,
      replaces: true,
    };
    const live = device.memory().live;
    {
      using _start = attachLora(model, [start]);
      using _scales = attachLora(model, readLora(out), 0.5);
      using _scope = openScope(device);
      const expected = start.values.map((value, i) => value * (1 + 0.5 * values[i]!));
      expect(relativeError(await bias.value.read(), expected)).toBeLessThan(1e-6);
    }
    expect(device.memory().live).toBe(live);
  });
});
