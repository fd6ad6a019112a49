// A descriptor is all that a device needs to be opened and held to the suite: one that traces the kernels it is asked for,
// added as docs/extending.md says.
import { expect, test } from "vitest";
import { type AnyKernel, kernelNames } from "../../src/device/check-operands.ts";
import type { DeviceDescriptor } from "../../src/device/descriptor.ts";
import type { Device } from "../../src/device/device.ts";
import { devices } from "../../src/device/devices.ts";
import type { Kernels } from "../../src/device/kernels.ts";
import { descriptorOf, openDevice } from "../../src/device/open-device.ts";
import { createReferenceDevice } from "../../src/device/reference/reference-device.ts";
import { measureSpeed } from "../../src/device/speed.ts";
import { planForward } from "../../src/models/wan/forward-cost.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import { activation, linear } from "../../src/tensor/ops/index.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { fromValues } from "../../src/tensor/tensor.ts";
import { conformance } from "./conformance/suite.ts";

interface TracedDevice extends Device {
  readonly trace: string[];
}

function createTracedDevice(unit: string): TracedDevice {
  const device = createReferenceDevice();
  const trace: string[] = [];
  const traced = kernelNames.map((name) => {
    const kernel = device.kernels[name] as AnyKernel;
    const tracing: AnyKernel = (...args) => {
      trace.push(`${unit}: ${name}`);
      return kernel(...args);
    };
    return [name, tracing];
  });
  return { ...device, name: "traced", trace, kernels: Object.fromEntries(traced) as unknown as Kernels };
}

const traced: DeviceDescriptor = {
  name: "traced",
  help: "the reference device, and what was asked of it",
  automatic: true,
  probe: async () => ({ usable: true, what: "needs no library" }),
  units: true,
  open: async (unit = "first") => createTracedDevice(unit),
  memoryModel: { mapsHost: false, workspace: { linear: () => 4096 } },
  speedSizes: { product: 32, vector: 1 << 10 },
};

await conformance(traced);

test("it is opened by name, by unit and, where it comes first, automatically", async () => {
  const table = { traced, ...devices };
  for (const [choice, unit] of [
    ["traced", "first"],
    ["traced:second", "second"],
    ["auto", "first"],
  ] as const) {
    const { device, descriptor } = await openDevice(choice, table);
    expect(descriptor).toBe(traced);
    {
      using _scope = openScope(device);
      const x = fromValues(device, Float32Array.of(1, 2), [1, 2]);
      const weight = fromValues(device, Float32Array.of(3, 4), [1, 2]);
      expect([...(await activation("silu", linear(x, weight)).read())]).toEqual([expect.closeTo(11, 3)]);
    }
    expect((device as TracedDevice).trace).toEqual([`${unit}: linear`, `${unit}: activation`]);
    device[Symbol.dispose]();
  }
});

test("a unit of a device of which there is only one is refused, not ignored", async () => {
  for (const choice of ["reference:1", "null:", "cpu:9"]) {
    const name = choice.split(":")[0];
    await expect(openDevice(choice)).rejects.toMatchObject({ code: "device.unavailable", hint: `use ${name}` });
    await expect(descriptorOf(choice)).rejects.toMatchObject({ code: "device.unavailable", hint: `use ${name}` });
  }
});

test("its speed is measured at its own sizes, and plans count what it holds", async () => {
  const device = await traced.open();
  expect((await measureSpeed(device, "f32", traced.speedSizes)).flopsPerSecond).toBeGreaterThan(0);
  device[Symbol.dispose]();
  const { memoryModel } = traced;
  const size = { width: 64, height: 64, frames: 9 };
  expect(planForward(wanModels["tiny-t2v"], size, { dtype: "f32", memoryModel }).bytes.workspace).toBe(4096);
});
