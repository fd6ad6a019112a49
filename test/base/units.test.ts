// Numbers in words: which are rounded and which are not.
import { expect, it } from "vitest";
import { formatCount, formatInteger, plural } from "../../src/base/units.ts";

it("keeps every digit of what is reckoned with, and rounds what is only looked at", () => {
  expect([0, 999, 1234, 1_234_567].map(formatInteger)).toEqual(["0", "999", "1,234", "1,234,567"]);
  expect([350, 12_000, 1_400_000, 14_300_000_000].map(formatCount)).toEqual(["350", "12,000", "1.4 M", "14.30 B"]);
});

it("counts one and many", () => {
  expect([plural(1, "step"), plural(0, "step"), plural(2, "batch", "batches")]).toEqual([
    "1 step",
    "0 steps",
    "2 batches",
  ]);
});
