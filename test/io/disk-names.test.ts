// Files found by name, whichever way Unicode lets the name be spelled.
import { mkdirSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { DiskNames, sameName } from "../../src/io/disk-names.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();
const composed = "caf\u00e9";
const decomposed = "cafe\u0301";

describe("names on a disk", () => {
  it("are found in either spelling, and written where they are", async () => {
    mkdirSync(path(`${decomposed}/deep`), { recursive: true });
    writeFileSync(path(`${decomposed}/deep/${composed}.txt`), "a cup");
    const names = new DiskNames();
    const there = path(`${decomposed}/deep/${composed}.txt`);
    expect(await names.find(there)).toBe(there);
    expect(await names.find(path(`${composed}/deep/${decomposed}.txt`))).toBe(there);
    expect(await names.find(path(composed))).toBe(path(decomposed));
    expect(await names.find(path(`${composed}/deep/tea.txt`))).toBeUndefined();
    expect(await names.spelled(path(`${composed}/new.txt`))).toBe(path(`${composed}/new.txt`));
    expect(await names.find(path("none/at/all"))).toBeUndefined();
    expect(sameName(composed, decomposed)).toBe(true);
    expect(sameName("cafe", composed)).toBe(false);
  });

  it.skipIf(process.platform === "darwin")(
    "that differ only in spelling are told apart where both are there",
    async () => {
      writeFileSync(path(`${composed}.txt`), "one");
      writeFileSync(path(`${decomposed}.txt`), "two");
      const names = new DiskNames();
      expect(await names.find(path(`${composed}.txt`))).toBe(path(`${composed}.txt`));
      expect(await names.find(path(`${decomposed}.txt`))).toBe(path(`${decomposed}.txt`));
    },
  );
});
