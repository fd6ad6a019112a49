// Eight processes publish, note and promote at once over one store and are killed at random: what one was told is kept is
// in the log, each version number is given once, and the store is whole.
import { type ChildProcess, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, expect, it } from "vitest";
import { finished } from "../../src/base/generators.ts";
import { parseAddress } from "../../src/registry/address.ts";
import { openRegistry, storageAt } from "../../src/registry/open.ts";
import { Registry } from "../../src/registry/registry.ts";
import { verifyStore } from "../../src/registry/verify.ts";
import { S3Server } from "../support/s3-server.ts";

const racer = fileURLToPath(new URL("racer.ts", import.meta.url));
const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Racer {
  process: ChildProcess;
  told: string[];
  ended: Promise<unknown>;
}

function race(store: string, who: string, file: string, environment: NodeJS.ProcessEnv): Racer {
  const child = spawn(process.execPath, ["--import", "tsx", racer, store, who, file, "4"], {
    env: { ...process.env, ...environment },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const told: string[] = [];
  let rest = "";
  child.stdout!.on("data", (chunk) => {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop()!;
    told.push(...lines);
  });
  return { process: child, told, ended: new Promise((resolve) => child.on("close", resolve)) };
}

async function raceOver(store: string, environment: NodeJS.ProcessEnv): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "kinora-race-"));
  cleanups.push(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, "race.safetensors");
  await writeFile(file, Buffer.alloc(4096, 7));
  const everything = { ...process.env, ...environment };
  await Registry.init(storageAt(store, everything), "judge");
  const racers = Array.from({ length: 8 }, (_, i) => race(store, `p${i}`, file, environment));
  // Three of them are killed, each after something it was told.
  for (const [i, victim] of racers.slice(0, 3).entries()) {
    const after = randomInt(1, 6) + i;
    victim.process.stdout!.on("data", () => {
      if (victim.told.length >= after) victim.process.kill("SIGKILL");
    });
  }
  await Promise.all(racers.map(({ ended }) => ended));

  const registry = await openRegistry(store, everything);
  const state = await registry.state(parseAddress("styles/acme/race"));
  const happened = state.events.map(({ what }) =>
    what.type === "note" ? `noted ${what.text}` : "version" in what ? `${what.type} ${what.version}` : what.type,
  );
  for (const { told } of racers) for (const line of told) expect(happened).toContain(line);
  const published = happened.filter((line) => line.startsWith("published"));
  expect(published).toEqual(Array.from(published, (_, i) => `published v${i + 1}`));
  expect(published.length).toBeGreaterThanOrEqual(5 * 4);
  for (const { told } of racers.slice(3)) expect(told).toHaveLength(12);
  const report = await finished(verifyStore(registry));
  expect(report.problems).toEqual([]);
  expect(report.events).toBe(state.events.length);
}

it("loses no event in a folder", async () => {
  const store = await mkdtemp(join(tmpdir(), "kinora-store-"));
  cleanups.push(() => rm(store, { recursive: true, force: true }));
  await raceOver(store, {});
});

it("loses no event in a bucket", async () => {
  const server = await S3Server.listen();
  cleanups.push(() => server.close());
  server.dropEvery = 20;
  await raceOver("s3://race/loras", server.environment);
});
