// `kinora doctor`: it says what is here, and goes on where something is missing.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { main } from "../../src/cli/main.ts";
import { freeSpace } from "../../src/device/machine.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();
const binary = fileURLToPath(new URL("../../bin/kinora.mjs", import.meta.url));

async function doctor(...argv: string[]): Promise<{ code: number; text: string }> {
  const data: string[] = [];
  const code = await main(["doctor", ...argv], { data: (text) => data.push(text), note: () => {}, progress: () => {} });
  return { code, text: data.join("\n") };
}

it("tells machines what it found, and names the device that auto opens", async () => {
  const { code, text } = await doctor("--json");
  expect(code).toBe(0);
  const report = JSON.parse(text);
  using device = (await openDevice("auto")).device;
  expect(report.device.name).toBe(device.name);
  expect(report.machine).toMatchObject({ node: process.versions.node, platform: process.platform });
  expect(report.machine.memory.available).toBeLessThanOrEqual(report.machine.memory.total);
  expect(report.ffmpeg).toMatchObject({ h264Encoder: true, missingDecoders: [] });
  expect(report.models.map(({ name }: { name: string }) => name)).toEqual(["tiny-t2v", "tiny-ti2v"]);
  if (device.name !== "cpu") return;
  expect(report.oneDnn.version).toMatch(/^[23]\.\d+\.\d+$/);
  if (process.platform === "linux") expect(existsSync(report.oneDnn.file)).toBe(true);
});

it("tells people the same, and how far the cuda device is proven", async () => {
  const { code, text } = await doctor();
  expect(code).toBe(0);
  const headings = text
    .split("\n")
    .flatMap((line) => /^(\S.*?) {2,}/.exec(line)?.[1] ?? /^to install/.exec(line)?.[0] ?? []);
  const expected = ["Kinora", "Node.js", "system", "processor", "memory", "oneDNN", "FFmpeg", "NVIDIA", "cuda"];
  expect(headings).toEqual([...expected, "device", "models", "disk", "to install"]);
  expect(text).toContain("emulated and statically checked; not yet run on a card");
});

it("without oneDNN says so, what is used instead and what to do, and succeeds", () => {
  const missing = path("libdnnl.so");
  const env = { ...process.env, KINORA_ONEDNN: missing };
  const { status, stdout } = spawnSync(process.execPath, [binary, "doctor", "--json"], { env, encoding: "utf8" });
  expect(status).toBe(0);
  const report = JSON.parse(stdout);
  expect(report.oneDnn.missing).toContain(missing);
  expect(report.device).toMatchObject({ name: "reference", why: expect.stringMatching(/oneDNN.*run `/) });
  expect(report.advice).toContainEqual({ what: "KINORA_ONEDNN", why: expect.stringContaining(missing) });
});

it("knows the room on a disk for folders that are not there yet", () => {
  expect(freeSpace(path("not/yet/there"))).toBeGreaterThan(0);
});
