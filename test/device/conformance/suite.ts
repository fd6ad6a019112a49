// The suite that every device passes. A device that cannot be opened, and a case that a device skips, say why.
import { afterAll, describe, expect, test } from "vitest";
import { type KernelName, kernelNames } from "../../../src/device/check-operands.ts";
import type { DeviceDescriptor } from "../../../src/device/descriptor.ts";
import type { NullDevice } from "../../../src/device/null/null-device.ts";
import { attentionCases } from "./attention-cases.ts";
import { Bench } from "./bench.ts";
import { convolutionCases } from "./convolution-cases.ts";
import { elementwiseCases } from "./elementwise-cases.ts";
import { memoryCases } from "./memory-cases.ts";
import { movementCases } from "./movement-cases.ts";
import { normCases } from "./norm-cases.ts";
import { optimizerCases } from "./optimizer-cases.ts";
import { productCases } from "./product-cases.ts";
import { wideTypeCases } from "./wide-type-cases.ts";

export const cases = [
  ...memoryCases,
  ...productCases,
  ...attentionCases,
  ...normCases,
  ...elementwiseCases,
  ...movementCases,
  ...convolutionCases,
  ...optimizerCases,
  ...wideTypeCases,
];

/** Adds the suite for a device to the test file. `skips`: why the device does not run a case, by the case's name. */
export async function conformance(
  { name, probe, open }: DeviceDescriptor,
  skips: Readonly<Record<string, string>> = {},
): Promise<void> {
  test(`${name} device: skips name cases`, () => {
    expect(cases.map((entry) => entry.name)).toEqual(expect.arrayContaining(Object.keys(skips)));
  });
  const finding = await probe();
  if (!finding.usable) {
    test.skip(`${name} device: ${finding.why}`);
    return;
  }
  const device = await open();

  describe(`${name} device`, () => {
    const calls = new Map<KernelName, number>();
    afterAll(() => device[Symbol.dispose]());

    test("has the name of its descriptor", () => expect(device.name).toBe(name));

    for (const { name: title, run } of cases) {
      const reason = skips[title];
      test.skipIf(reason !== undefined)(reason ? `${title} (${reason})` : title, async () => {
        const bench = new Bench(device, calls);
        await run(bench);
        await bench.close();
      });
    }

    test("every kernel was asked for", () => {
      // A device that never packs is never asked to unpack.
      const unasked = kernelNames.filter((kernel) => !calls.has(kernel) && kernel !== "unpackWeight");
      expect(unasked).toEqual([]);
    });

    if (!("counters" in device)) return;
    test("it counted every call", () => {
      const { byKernel } = (device as NullDevice).counters;
      for (const [kernel, count] of calls) {
        if (kernel !== "packWeight") expect([kernel, byKernel.get(kernel)?.calls]).toEqual([kernel, count]);
      }
    });
  });
}
