// One suite for all devices of the table.
import { expect, test } from "vitest";
import { devices } from "../../../src/device/devices.ts";
import { cudaSkips } from "./skips.ts";
import { cases, conformance } from "./suite.ts";

test("case names differ", () => {
  const names = cases.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
});

for (const descriptor of Object.values(devices))
  await conformance(descriptor, descriptor.name === "cuda" ? cudaSkips : {});
