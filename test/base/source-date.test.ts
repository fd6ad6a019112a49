import { expect, it } from "vitest";
import { sourceDate } from "../../src/base/source-date.ts";

it("reads SOURCE_DATE_EPOCH as whole seconds and refuses all else", () => {
  expect(sourceDate({})).toBeUndefined();
  expect(sourceDate({ SOURCE_DATE_EPOCH: "" })).toBeUndefined();
  expect(sourceDate({ SOURCE_DATE_EPOCH: "0" })).toBe(0);
  expect(sourceDate({ SOURCE_DATE_EPOCH: "1700000000" })).toBe(1_700_000_000);
  for (const text of ["-1", "1.5", "today", "1e9", "999999999999", "9".repeat(40)])
    expect(() => sourceDate({ SOURCE_DATE_EPOCH: text })).toThrow(expect.objectContaining({ code: "env.source-date" }));
});
