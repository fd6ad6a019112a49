// The one configuration reader: where TOML and JSON are wrong, which keys and values cannot be, and what was meant.
import { writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { isKinoraError } from "../../src/base/errors.ts";
import { SEED_MAX } from "../../src/base/rng/seed.ts";
import { checkKeys, keyTree } from "../../src/io/config/keys.ts";
import { type ConfigKind, parseConfig, parseValue, readConfigFile } from "../../src/io/config/read.ts";
import { invalidValues, shown } from "../../src/io/config/values.ts";
import { count, extension, line, place, seed, seedDigits, seedSchema } from "../../src/protocol/config-values.ts";
import { encodeText } from "../support/encode-text.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();
const kind: ConfigKind = { code: "some-config", name: "the configuration", hint: "see the page" };

function failure(work: () => unknown) {
  try {
    work();
  } catch (error) {
    if (isKinoraError(error)) return { code: error.code, message: error.message, hint: error.hint ?? "" };
    throw error;
  }
  return { code: "no error", message: "", hint: "" };
}

const toml = (content: string) => parseConfig(kind, content, { where: "a.toml", format: "toml" });

describe("broken TOML", () => {
  it.each([
    ['path = "D:\\Users\\me"', /backslash.*'C:\\films'.*"C:\/films"/],
    ['path = "C:\\xyz"', /backslash/],
    ['path = "C:\\data\\"\nsteps = 1', /backslash/],
    ['paths = ["C:\\data\\"]', /backslash/],
    ["path = C:\\data", /a path is text and needs quotes/],
    ["path = /data/films", /a path is text and needs quotes/],
    ["name = style", /text needs quotes: name = "style"/],
    ["name = “style”", /straight quotes/],
    ["upscale = True", /lower case/],
    ["upscale = yes", /true or false/],
    ["name: style", /TOML writes name = value/],
    ['{"name": "style"}', /looks like JSON.*\.json/],
    ["rate = .5", /0\.5/],
    ["steps = 1,000", /1000 or 1_000/],
    ["sizes = [1, 2", /lists need \[ \]/],
  ])("says what was meant: %s", (content, hint) => {
    const error = failure(() => toml(content));
    expect(error.code).toBe("some-config.syntax");
    expect(error.message).toMatch(/^a\.toml, line 1, column \d+: .*\n1: {2}/);
    expect(error.message).toMatch(/\n +\^/);
    expect(error.hint).toMatch(hint);
  });

  it("names what is given twice", () => {
    const error = failure(() => toml("steps = 1\nname = 'a'\nsteps = 2\n"));
    expect(error.message).toMatch(/line 3.*steps is duplicated/);
    expect(failure(() => toml("[model]\n[lora]\n[model]\n")).message).toContain("[model] is duplicated");
  });
});

describe("broken JSON", () => {
  const json = (content: string) => parseConfig(kind, content, { where: "a.json", format: "json" });
  it("is told with its line, and of backslashes where there are some", () => {
    expect(failure(() => json('{\n "a": 1,\n}'))).toMatchObject({
      code: "some-config.syntax",
      message: expect.stringContaining("a.json, line 3"),
      hint: expect.stringContaining("comma"),
    });
    expect(failure(() => json('{"path": "C:\\data"}')).hint).toContain("two backslashes");
    expect(failure(() => json("[1]"))).toMatchObject({ code: "some-config.invalid" });
  });
});

describe("a configuration's file", () => {
  it("is read in any encoding, with a word where it was guessed, by its ending", async () => {
    writeFileSync(path("a.toml"), Buffer.from('\ufeffname = "Haus"\r\n', "utf16le"));
    expect(await readConfigFile(kind, path("a.toml"))).toEqual({ root: { name: "Haus" }, notices: [] });
    writeFileSync(path("b.toml"), encodeText('trigger = "crème brûlée"\r', "windows-1252"));
    const { root, notices } = await readConfigFile(kind, path("b.toml"));
    expect(root).toEqual({ trigger: "crème brûlée" });
    expect(notices).toEqual([expect.stringMatching(/b\.toml is not UTF-8 and was read as Windows-1252/)]);
    writeFileSync(path("c.JSON"), '\ufeff{"a": 1}');
    expect((await readConfigFile(kind, path("c.JSON"))).root).toEqual({ a: 1 });
  });

  it("that cannot be read is an error of its kind", async () => {
    await expect(readConfigFile(kind, path("none.toml"))).rejects.toMatchObject({
      code: "some-config.unreadable",
      actual: "no such file",
      hint: "see the page",
    });
    await expect(readConfigFile(kind, path("."))).rejects.toMatchObject({ code: "some-config.unreadable" });
    writeFileSync(path("d.toml"), encodeText('name = "巴林"', "gb18030"));
    await expect(readConfigFile(kind, path("d.toml"))).rejects.toMatchObject({
      code: "some-config.unreadable",
      hint: expect.stringContaining("UTF-8"),
    });
  });

  it("keeps whole numbers as they are, and a key called __proto__ a key", () => {
    expect(toml("seed = 9007199254740993").seed).toBe(9007199254740993n);
    expect(toml("seed = 42").seed).toBe(42);
    expect(parseValue("18446744073709551615")).toBe(SEED_MAX);
    expect(parseValue("a b")).toBe("a b");
    const root = toml("[__proto__]\nsteps = 1\n");
    expect(Object.keys(root)).toEqual(["__proto__"]);
    expect(failure(() => checkKeys(kind, root, { steps: undefined })).message).toContain('unknown key "__proto__"');
    expect(({} as { steps?: unknown }).steps).toBeUndefined();
  });
});

const schema = z.strictObject({
  name: line.optional(),
  place: place.optional(),
  steps: count.optional(),
  on: z.boolean().optional(),
  size: z.union([count, z.tuple([count, count])]).optional(),
  ending: extension.optional(),
  seed: seed.optional(),
  kind: z.enum(["plain", "fancy"]).optional(),
  many: z.array(count).min(1).optional(),
  lora: z.strictObject({ rank: count.optional(), scale: z.number().gt(0).lte(2).prefault(1) }).optional(),
});

describe("unknown keys", () => {
  const unknown = (root: Record<string, unknown>) =>
    failure(() => checkKeys(kind, root, keyTree(schema), { network_dim: "here it is lora.rank" })).hint;
  it("name their table, what they are called here, or the nearest key", () => {
    expect(unknown({ rank: 1 })).toBe("rank belongs in [lora]");
    expect(unknown({ lora: { steps: 1 } })).toBe("steps belongs at the top of the file");
    expect(unknown({ network_dim: 1 })).toBe("here it is lora.rank");
    expect(unknown({ lora: { network_dim: 1 } })).toBe("here it is lora.rank");
    expect(unknown({ stepps: 1 })).toBe("did you mean steps?");
    expect(unknown({ lora: { scal: 1 } })).toBe("did you mean scale?");
    expect(unknown({ xyzzy_plugh: 1 })).toBe(`known keys: ${Object.keys(schema.shape).join(", ")}`);
    expect(unknown({ constructor: 1 })).toContain("known keys");
    expect(unknown({ steps: 1, lora: { rank: 1 } })).toBe("");
  });
});

const seedWords = `must be a whole number from 0 to ${SEED_MAX} (64 bits), in quotes where another program rounds it`;

describe("values that cannot be", () => {
  const told = (root: Record<string, unknown>) => {
    const parsed = schema.safeParse(root);
    const error = invalidValues(kind, parsed.error?.issues ?? [], root, { advice: { steps: "1000 are usual" } });
    return `${error.message} | ${error.hint}`;
  };
  it.each([
    [{ steps: "4" }, 'steps must be a number (it is the text "4") | write it without quotes: steps = 4'],
    [{ steps: 1.5 }, "steps must be a whole number (it is 1.5) | 1000 are usual"],
    [{ steps: 0 }, "steps must be at least 1 (it is 0) | 1000 are usual"],
    [{ steps: 10n ** 30n }, `steps is too large (it is ${10n ** 30n}) | 1000 are usual`],
    [{ steps: [4] }, "steps must be a number (it is [4]) | give a single value, without [ ]"],
    [{ steps: { a: 1 } }, "steps must be a number (it is a table) | 1000 are usual"],
    [{ on: "true" }, 'on must be true or false (it is the text "true") | write it without quotes: on = true'],
    [{ on: 1 }, "on must be true or false (it is 1) | write true or false, without quotes"],
    [{ name: 2024 }, 'name must be text (it is 2024) | write it in quotes: name = "2024"'],
    [{ name: ["a"] }, 'name must be text (it is ["a"]) | give a single value, without [ ]'],
    [{ name: "" }, 'name must not be empty (it is the text "") | see the page'],
    [{ ending: "txt" }, 'ending must be an ending with its dot, e.g. ".txt" (it is the text "txt") | see the page'],
    [{ kind: "plane" }, 'kind must be one of plain, fancy (it is the text "plane") | did you mean plain?'],
    [{ many: 5 }, "many must be a list (it is 5) | write a list: many = [5]"],
    [{ many: [] }, "many must not be empty (it is []) | see the page"],
    [{ many: [1, "2"] }, 'many.1 must be a number (it is the text "2") | write it without quotes: 1 = 2'],
    [{ size: "64" }, 'size must be a number or a list (it is the text "64") | see the page'],
    [{ size: [64, 0] }, "size.1 must be at least 1 (it is 0) | see the page"],
    [
      { lora: "big" },
      'lora must be a table (it is the text "big") | lora is a table: write [lora] on its own line, with its settings below',
    ],
    [{ lora: { scale: 3 } }, "lora.scale must be at most 2 (it is 3) | see the page"],
    [{ seed: -1 }, `seed ${seedWords} (it is -1) | see the page`],
    [{ seed: 1.5 }, `seed ${seedWords} (it is 1.5) | see the page`],
    [{ seed: 2n ** 64n }, `seed ${seedWords} (it is ${2n ** 64n}) | see the page`],
    [{ seed: "1e3" }, `seed ${seedWords} (it is the text "1e3") | see the page`],
    [{ seed: [1] }, `seed ${seedWords} (it is [1]) | see the page`],
  ])("%o", (root, words) => {
    expect(told(root)).toBe(words);
  });

  it("all come at once, and paths with backslashes that became something else are told of them", () => {
    expect(told({ steps: 0, on: 3 })).toMatch(/steps must.*; on must/);
    const spoilt = told({ place: "C:\train\new" });
    expect(spoilt).toMatch(
      /^place must be a path, but contains a tab \(\\t\) and a line break \(\\n\).*\(it is the text "C:\\train\\new"\)/,
    );
    expect(spoilt).toContain("| a backslash starts an escape in double quotes");
    expect(told({ place: "C:\bin\fonts" })).toMatch(/a backspace \(\\b\) and a form feed \(\\f\)/);
  });

  it("are shown as their writer knows them, and never at length", () => {
    expect(shown({ a: 1 })).toBe("a table");
    expect(shown([{ a: 1 }])).toBe("a list of 1");
    expect(shown(Array.from({ length: 100 }, (_, i) => i))).toBe("a list of 100");
    expect(shown(new Date(0))).toBe("the date 1970-01-01T00:00:00.000Z");
    expect(shown("x".repeat(1000)).length).toBeLessThan(80);
  });

  it("do not include seeds of 64 bits, as a number or in quotes", () => {
    for (const good of [0, 2 ** 53 - 1, SEED_MAX, "18446744073709551615", "7"])
      expect(seed.safeParse(good).success).toBe(true);
    for (const bad of [-1, 1.5, 2 ** 53, SEED_MAX + 1n, "18446744073709551616", "1e3", "-1", ""])
      expect(seed.safeParse(bad).success, String(bad)).toBe(false);
  });

  it("are seeds of 64 bits in JSON too, signed or not, and digits where a number cannot hold them", () => {
    for (const good of ["0", "-1", "18446744073709551615", "-9223372036854775808"])
      for (const schema of [seedSchema, seedDigits]) expect(schema.parse(good)).toBe(good);
    for (const bad of ["18446744073709551616", "-9223372036854775809", "1e3", "", "1".repeat(21)])
      for (const schema of [seedSchema, seedDigits]) expect(schema.safeParse(bad).success, bad).toBe(false);
    expect([-7, 2 ** 53 - 1].map((number) => seedSchema.safeParse(number).success)).toEqual([true, true]);
    expect([1.5, 2 ** 53].map((number) => seedSchema.safeParse(number).success)).toEqual([false, false]);
  });
});
