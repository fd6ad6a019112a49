// The fixture of moving averages of weights: an optimizer that puts recorded weights in their place, and its average.
import type { Device } from "../../../src/device/device.ts";
import { openScope } from "../../../src/tensor/scope.ts";
import { ownedEmpty, type Tensor } from "../../../src/tensor/tensor.ts";
import { withEma } from "../../../src/train/optimizers/ema.ts";
import type { Optimizer } from "../../../src/train/optimizers/optimizer.ts";
import type { Fixture } from "../fixture.ts";

export async function ema(fixture: Fixture, device: Device): Promise<void> {
  const { updates, cases } = fixture.config as {
    updates: number;
    cases: Record<string, { decay: number; use_num_updates?: boolean }>;
  };
  const names = fixture.names("inputs.").map((name) => name.slice("inputs.".length));
  for (const [name, { decay, use_num_updates = false }] of Object.entries(cases)) {
    const parameters = new Map<string, Tensor>();
    const put = (step: number) => {
      for (const [parameter, tensor] of parameters)
        tensor.write(fixture.values(`inputs.${parameter}`).subarray(step * tensor.size, (step + 1) * tensor.size));
    };
    for (const parameter of names)
      parameters.set(parameter, ownedEmpty(device, fixture.shape(`inputs.${parameter}`).slice(1), "f32", "weights"));
    put(0);
    let step = 0;
    const recorded: Optimizer = {
      parameters,
      get step() {
        return step;
      },
      async update(learningRate) {
        put(++step);
        return learningRate;
      },
      state: () => ({ tensors: new Map(), numbers: { step } }),
      restore() {},
      [Symbol.dispose]() {},
    };
    using averaged = withEma({ device, parameters }, recorded, { decay, rising: use_num_updates });
    const series = new Map(names.map((parameter) => [parameter, [] as number[]]));
    for (let k = 0; k < updates; k++) {
      await averaged.update(0);
      using _scope = openScope(device);
      for (const [parameter, tensor] of averaged.shown!()) series.get(parameter)!.push(...(await tensor.read()));
    }
    for (const [parameter, values] of series) fixture.compare(`${name}.${parameter}`, values);
    for (const tensor of parameters.values()) tensor[Symbol.dispose]();
  }
}
