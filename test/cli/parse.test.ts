// Values that several commands read alike: what is wrong is said with what would be right.
import { describe, expect, it } from "vitest";
import { parseChoice, parseNumber, parseSize, parseWholeNumber } from "../../src/cli/parse.ts";

describe("values of options", () => {
  it("are read", () => {
    expect(parseSize("1280x720")).toEqual({ width: 1280, height: 720 });
    expect(parseNumber("--shift", "-1e-1")).toBe(-0.1);
    expect(parseWholeNumber("--steps", "20")).toBe(20);
    expect(parseChoice("--dtype", "bf16", ["bf16", "f32"])).toBe("bf16");
  });

  it.each([
    [() => parseSize("1280"), "cli.bad-size", "e.g. 1280*720 or 1280x720"],
    [() => parseNumber("--shift", "0,8"), "cli.bad-number", "use a decimal point: --shift 0.8"],
    [() => parseNumber("--shift", ""), "cli.bad-number", "e.g. --shift 1.5"],
    [() => parseWholeNumber("--steps", "20.4"), "cli.bad-number", "e.g. --steps 20"],
    [() => parseWholeNumber("--steps", "many"), "cli.bad-number", "e.g. --steps 1"],
    [() => parseChoice("--dtype", "bf6", ["bf16", "f32"]), "cli.bad-value", "did you mean bf16?"],
    [() => parseChoice("--dtype", "integers", ["bf16", "f32"]), "cli.bad-value", "e.g. --dtype bf16"],
  ])("are refused with a hint", (read, code, hint) => {
    expect(read).toThrow(expect.objectContaining({ code, hint }));
  });
});
