// One suite for all devices. A device that cannot be opened, and a case that a device skips, say why.
import { afterAll, describe, expect, test } from "vitest";
import { isKinoraError } from "../../../src/base/errors.ts";
import { type KernelName, kernelNames } from "../../../src/device/check-operands.ts";
import type { Device, DeviceName } from "../../../src/device/device.ts";
import type { NullDevice } from "../../../src/device/null/null-device.ts";
import { openDevice } from "../../../src/device/open-device.ts";
import { attentionCases } from "./attention-cases.ts";
import { Bench } from "./bench.ts";
import { convolutionCases } from "./convolution-cases.ts";
import { elementwiseCases } from "./elementwise-cases.ts";
import { movementCases } from "./movement-cases.ts";
import { normCases } from "./norm-cases.ts";
import { optimizerCases } from "./optimizer-cases.ts";
import { productCases } from "./product-cases.ts";
import { wideTypeCases } from "./wide-type-cases.ts";

const cases = [
  ...productCases,
  ...attentionCases,
  ...normCases,
  ...elementwiseCases,
  ...movementCases,
  ...convolutionCases,
  ...optimizerCases,
  ...wideTypeCases,
];

/** Why a device does not run a case. */
const skips: { readonly [K in DeviceName]?: Readonly<Record<string, string>> } = {};

function open(name: DeviceName): { device: Device } | { reason: string } {
  try {
    return openDevice(name);
  } catch (error) {
    if (isKinoraError(error)) return { reason: error.message };
    throw error;
  }
}

test("case names differ, and skips name cases", () => {
  const names = cases.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  for (const skipped of Object.values(skips)) expect(names).toEqual(expect.arrayContaining(Object.keys(skipped)));
});

for (const name of ["reference", "cpu", "null"] as const) {
  const opened = open(name);
  if ("reason" in opened) {
    test.skip(`${name} device: ${opened.reason}`);
    continue;
  }
  const { device } = opened;

  describe(`${name} device`, () => {
    const calls = new Map<KernelName, number>();
    afterAll(() => device[Symbol.dispose]());

    for (const { name: title, run } of cases) {
      const reason = skips[name]?.[title];
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

    if (name !== "null") return;
    test("it counted every call", () => {
      const { byKernel } = (device as NullDevice).counters;
      for (const [kernel, count] of calls) {
        if (kernel !== "packWeight") expect([kernel, byKernel.get(kernel)?.calls]).toEqual([kernel, count]);
      }
    });
  });
}
