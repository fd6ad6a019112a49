// The same job here and in a child process; a child that is asked to stop, ended, killed by others, left alone.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import type { KinoraError } from "../../src/base/errors.ts";
import { isRunning } from "../../src/base/platform.ts";
import { listNames } from "../../src/base/table.ts";
import { startChild } from "../../src/jobs/child.ts";
import { startJob } from "../../src/jobs/start.ts";
import type { EventOf, RequestOf } from "../../src/jobs/table.ts";
import { generateContract } from "../../src/protocol/jobs/generate.ts";
import { loadLatents } from "../../src/sample/latents-file.ts";
import { samplers } from "../../src/sample/schedulers/index.ts";
import { tinyParts, writeKinoraFolder } from "../support/checkpoint-layouts.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();
const cacheFolder = path("cache");

beforeAll(() => writeKinoraFolder(path("tiny-t2v"), tinyParts("tiny-t2v")));

const request = (name: string, more: Partial<RequestOf<"generate">> = {}): RequestOf<"generate"> => ({
  model: "tiny-t2v",
  prompt: "a red circle",
  seed: 7,
  steps: 3,
  size: { width: 32, height: 32 },
  frames: 5,
  checkpoint: path("tiny-t2v"),
  out: path(name),
  ...more,
});
const long = { steps: 2000, keepLatents: true };

/** What is the same in every run: not times, nor how often a model that loads was heard of. */
function lasting(events: readonly EventOf<"generate">[]): unknown[] {
  return events
    .filter(({ type }) => type !== "progress")
    .map((event) => {
      const times = ["seconds", "secondsPerStep", "etaSeconds", "path"];
      return Object.fromEntries(Object.entries(event).filter(([key]) => !times.includes(key)));
    });
}

describe("a job in a child process", () => {
  it("tells the same events and leaves the same bytes as one in this process", async () => {
    const runs = await Promise.all(
      [false, true].map(async (child) => {
        const run = startJob("generate", request(`${child}.mp4`), { child, cacheFolder });
        const events: EventOf<"generate">[] = [];
        for await (const event of run) events.push(event);
        const { video } = await run;
        return { events, bytes: readFileSync(video.path), video };
      }),
    );
    const [here, there] = runs as [(typeof runs)[0], (typeof runs)[0]];
    expect(lasting(there.events)).toEqual(lasting(here.events));
    expect(there.bytes.equals(here.bytes)).toBe(true);
    for (const event of [...here.events, ...there.events]) {
      const crossed = JSON.parse(JSON.stringify(event)) as unknown;
      expect(generateContract.event.parse(crossed)).toEqual(crossed);
    }
    expect(there.video.recipe).toEqual(here.video.recipe);
  });

  it("rejects with the error that was thrown, its code, what was expected and its hint", async () => {
    const wrong = { sampler: "unipcc" };
    const [here, there] = await Promise.all(
      [false, true].map((child) =>
        startJob("generate", request("wrong.mp4", wrong), { child, cacheFolder }).catch(
          (error) => error as KinoraError,
        ),
      ),
    );
    const { code, message, expected, hint } = here as KinoraError;
    expect({ code, expected, hint }).toEqual({
      code: "generate.unknown-sampler",
      expected: listNames(samplers),
      hint: "did you mean unipc?",
    });
    expect(there).toMatchObject({ name: "KinoraError", code, message, expected, hint });
  });

  it("stops where it is asked to, with what is done on disk, and goes on from there", async () => {
    const run = startJob("generate", request("stopped.mp4", long), { child: true, cacheFolder });
    let stopped: Extract<EventOf<"generate">, { type: "stopped" }> | undefined;
    const loop = (async () => {
      for await (const event of run) {
        if (event.type === "step" && event.step === 2) run.cancel();
        if (event.type === "stopped") stopped = event;
      }
    })();
    await expect(loop).rejects.toMatchObject({ code: "job.stopped", name: "AbortError" });
    await expect(run).rejects.toMatchObject({
      code: "job.stopped",
      message: `stopped after step ${stopped!.step} of 2000`,
    });
    expect(stopped!.step).toBeGreaterThanOrEqual(2);
    expect(loadLatents(stopped!.latents!).scheduler.step).toBe(stopped!.step);
  });

  it("ends at once where it is killed, and leaves no lock that holds", async () => {
    const controller = new AbortController();
    const run = startChild("generate", request("killed.mp4", long), { signal: controller.signal, cacheFolder });
    for await (const event of run) {
      if (event.type !== "step") continue;
      controller.abort();
      run.cancel();
      break;
    }
    await expect(run).rejects.toMatchObject({ code: "job.stopped" });
    expect(isRunning(run.pid!)).toBe(false);
    const next = startJob("generate", request("killed.mp4", { resume: true, steps: undefined }), { cacheFolder });
    for await (const event of next) if (event.type === "step") break;
    await expect(next).rejects.toMatchObject({ code: "job.stopped" });
  });

  it.skipIf(process.platform === "win32")("that crashes is a clear error", async () => {
    const run = startChild("generate", request("crashed.mp4", long), { cacheFolder });
    const loop = (async () => {
      for await (const event of run) if (event.type === "step") process.kill(run.pid!, "SIGSEGV");
    })();
    await expect(loop).rejects.toMatchObject({
      code: "job.crashed",
      actual: expect.stringContaining("SIGSEGV"),
      hint: expect.stringMatching(/./),
    });
  });

  it.skipIf(process.platform !== "linux")("ends with its parent, in the middle of a kernel too", async () => {
    const script = path("parent.mts");
    const start = new URL("../../src/jobs/child.ts", import.meta.url).href;
    const asked = request("orphan.mp4", { size: { width: 1024, height: 1024 }, frames: 17 });
    writeFileSync(
      script,
      `import { startChild } from ${JSON.stringify(start)};
      const run = startChild("generate", ${JSON.stringify(asked)}, { cacheFolder: ${JSON.stringify(cacheFolder)} });
      for await (const event of run) if (event.type === "stage" && event.stage === "sample") console.log(run.pid);`,
    );
    const api = fileURLToPath(new URL("../../node_modules/tsx/dist/esm/index.mjs", import.meta.url));
    const parent = spawn(process.execPath, ["--import", api, script], { stdio: ["ignore", "pipe", "inherit"] });
    const [chunk] = (await once(parent.stdout, "data")) as [Buffer];
    const pid = Number(chunk.toString());
    parent.kill("SIGKILL");
    await once(parent, "close");
    for (let i = 0; i < 200 && isRunning(pid); i++) await new Promise((resolve) => setTimeout(resolve, 50));
    expect(isRunning(pid)).toBe(false);
    expect(existsSync(path("orphan.mp4"))).toBe(false);
  });
});
