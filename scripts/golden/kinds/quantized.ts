// Golden kind `quant-comfy`: ComfyUI's quantised files, widened, and multiplied as they are held.
import { dirname, join } from "node:path";
import { turnGroup } from "../../../src/base/comfy-blocks.ts";
import { f8e4m3Values, f32ToF8e4m3 } from "../../../src/base/float-formats.ts";
import type { Device } from "../../../src/device/device.ts";
import { openTensorSource, type TensorSource } from "../../../src/io/tensor-source.ts";
import { QuantizationMarks, storedWeight } from "../../../src/models/wan/quantized-weights.ts";
import type { FrozenWeight } from "../../../src/nn/frozen-weight.ts";
import { WeightLoader } from "../../../src/nn/weights.ts";
import { linear } from "../../../src/tensor/ops/index.ts";
import { openScope } from "../../../src/tensor/scope.ts";
import { fromValues } from "../../../src/tensor/tensor.ts";
import type { Fixture } from "../fixture.ts";

const PREFIX = "model.diffusion_model.";

export async function quantComfy(fixture: Fixture, device: Device): Promise<void> {
  for (const [name, file] of Object.entries(fixture.config.files as Record<string, string>)) {
    using source = openTensorSource(join(dirname(fixture.path), file));
    const prefix = source.names.every((tensor) => tensor.startsWith(PREFIX)) ? PREFIX : "";
    const head = `outputs.${name}.`;
    for (const output of fixture.names(head).filter((key) => key.endsWith(".weight"))) {
      const layer = output.slice(head.length, -".weight".length);
      await compareLayer(fixture, device, source, { prefix, layer, file: name, shape: fixture.shape(output) });
    }
  }
}

interface Place {
  prefix: string;
  layer: string;
  /** The fixture's name of the file. */
  file: string;
  shape: readonly number[];
}

async function compareLayer(fixture: Fixture, device: Device, source: TensorSource, place: Place): Promise<void> {
  const { prefix, layer, file, shape } = place;
  const tensor = `${prefix}${layer}.weight`;
  const stored = storedWeight(source, tensor, new QuantizationMarks(source, prefix).of(tensor), shape);
  const reader = { names: () => [tensor], find: () => stored, [Symbol.dispose]() {} };
  using loader = new WeightLoader(device, reader, { keepQuantized: true });
  const weight = loader.linear(tensor, shape as [number, number], "f32") as FrozenWeight;
  using _scope = openScope(device);
  const values = await weight.values("f32").read();
  const named = (what: string) => `${file}.${layer}.${what}`;
  const has = (what: string) => fixture.has(`outputs.${named(what)}`);
  fixture.compare(named("weight"), values);
  if (has("rotated_weight")) {
    const group = weight.blocks!.elements;
    for (let i = 0; i < values.length; i += group) turnGroup(values, i, group);
    fixture.compare(named("rotated_weight"), values);
  }
  if (!has("linear")) return;
  const x = fixture.tensor(device, `inputs.x.${layer}`);
  const bias = fixture.tensor(device, `inputs.bias.${layer}`);
  await fixture.compareTensor(named("linear"), linear(x, weight, { bias }));
  if (!has("linear_fp8_input")) return;
  // What ComfyUI's fp8 products make of their inputs.
  const input = `${prefix}${layer}.input_scale`;
  const unit = source.has(input) ? new DataView(source.bytes(input).slice().buffer).getFloat32(0, true) : 1;
  const rounded = fixture.values(`inputs.x.${layer}`).map((value) => {
    const code = f32ToF8e4m3(Math.max(-448, Math.min(448, value / unit)));
    return f8e4m3Values()[code]! * unit;
  });
  await fixture.compareTensor(
    named("linear_fp8_input"),
    linear(fromValues(device, rounded, x.shape), weight, { bias }),
  );
}
