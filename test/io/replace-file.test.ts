// Renaming over a file that another program holds for a moment, as virus scanners do on Windows.
import { mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { replaceFile } from "../../src/io/atomic.ts";

const folders: string[] = [];
afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
});

async function twoFiles(): Promise<{ from: string; to: string }> {
  const folder = await mkdtemp(join(tmpdir(), "kinora-replace-"));
  folders.push(folder);
  const [from, to] = [join(folder, "new"), join(folder, "old")];
  await writeFile(from, "new");
  await writeFile(to, "old");
  return { from, to };
}

/** Refuses `times` times with a code, then moves. */
function busy(code: string, times: number): { move: typeof rename; tries: () => number } {
  let tries = 0;
  const move = (async (from, to) => {
    if (++tries <= times) throw Object.assign(new Error(code), { code });
    await rename(from, to);
  }) as typeof rename;
  return { move, tries: () => tries };
}

it("waits for a busy file on Windows", async () => {
  const { from, to } = await twoFiles();
  const { move, tries } = busy("EBUSY", 3);
  await replaceFile(from, to, { platform: "win32", move });
  expect(tries()).toBe(4);
  expect(await readFile(to, "utf8")).toBe("new");
});

it("gives up on one that stays busy, and leaves both files", async () => {
  const { from, to } = await twoFiles();
  const { move, tries } = busy("EACCES", 100);
  await expect(replaceFile(from, to, { platform: "win32", move })).rejects.toMatchObject({ code: "EACCES" });
  expect(tries()).toBe(7);
  expect(await readFile(to, "utf8")).toBe("old");
  expect(await readFile(from, "utf8")).toBe("new");
});

it("takes the first refusal at its word elsewhere", async () => {
  const { from, to } = await twoFiles();
  const { move, tries } = busy("EPERM", 1);
  await expect(replaceFile(from, to, { platform: "linux", move })).rejects.toMatchObject({ code: "EPERM" });
  expect(tries()).toBe(1);
});
