// The handle of a job: iterated, awaited, both, left early, stopped, failed; whatever is done with it, nothing hangs and
// no failure goes unhandled.
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { KinoraError } from "../../src/base/errors.ts";
import { JobStopped } from "../../src/jobs/errors.ts";
import { type Driver, JobRun } from "../../src/jobs/run.ts";

/** Tells 1, 2, … up to `count` and gives their sum; stops where it is asked to. */
const counting =
  (count: number, told: number[] = []): Driver<number, number> =>
  async (tell, signal) => {
    let sum = 0;
    for (let i = 1; i <= count; i++) {
      await sleep(1);
      if (signal.aborted) throw new JobStopped(`stopped after ${i - 1}`);
      told.push(i);
      tell(i);
      sum += i;
    }
    return sum;
  };

const failing: Driver<number, number> = async (tell) => {
  tell(1);
  await sleep(1);
  throw new KinoraError("test.failed", "it failed");
};

async function read<E>(run: AsyncIterable<E>): Promise<E[]> {
  const events: E[] = [];
  for await (const event of run) events.push(event);
  return events;
}

it("gives its result where it is only awaited", async () => {
  expect(await new JobRun(counting(3))).toBe(6);
  const [a, b] = await Promise.all([new JobRun(counting(2)), new JobRun(counting(3)).then((sum) => sum * 2)]);
  expect([a, b]).toEqual([3, 12]);
});

it("gives its events where it is only iterated, and both where both are asked for", async () => {
  expect(await read(new JobRun(counting(3)))).toEqual([1, 2, 3]);
  const run = new JobRun(counting(3));
  expect(await read(run)).toEqual([1, 2, 3]);
  expect(await run).toBe(6);
  const other = new JobRun(counting(3));
  expect(await Promise.all([read(other), other])).toEqual([[1, 2, 3], 6]);
});

it("keeps the last events for a loop that begins late", async () => {
  const run = new JobRun(counting(3));
  await run;
  expect(await read(run)).toEqual([1, 2, 3]);
  const many = new JobRun<number, string>(async (tell) => {
    for (let i = 0; i < 1500; i++) tell(i);
    return "done";
  });
  await many;
  const kept = await read(many);
  expect([kept.length, kept.at(-1)]).toEqual([1000, 1499]);
});

it("refuses a second loop by a code", async () => {
  const run = new JobRun(counting(2));
  await read(run);
  await expect(read(run)).rejects.toMatchObject({ code: "job.already-read" });
});

it("stops where its loop is left, and is done when the loop is", async () => {
  const told: number[] = [];
  const run = new JobRun(counting(1000, told));
  for await (const event of run) if (event === 3) break;
  const count = told.length;
  expect(count).toBeLessThanOrEqual(4);
  await sleep(20);
  expect(told).toHaveLength(count);
  await expect(run.result).rejects.toMatchObject({ code: "job.stopped", name: "AbortError" });
});

it("stops by cancel, and by a signal before and after its start", async () => {
  const cancelled = new JobRun(counting(1000));
  cancelled.cancel();
  cancelled.cancel();
  await expect(cancelled).rejects.toBeInstanceOf(JobStopped);
  await expect(new JobRun(counting(5), { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "job.stopped" });
  const controller = new AbortController();
  const run = new JobRun(counting(1000), { signal: controller.signal });
  const events: number[] = [];
  const loop = (async () => {
    for await (const event of run) {
      events.push(event);
      if (event === 2) controller.abort();
    }
  })();
  await expect(loop).rejects.toMatchObject({ code: "job.stopped" });
  expect(events).toEqual([1, 2]);
});

it("ends at once at the second cancel where it can, and never once it has ended", async () => {
  let kills = 0;
  const run = new JobRun(counting(3), { kill: () => void kills++ });
  const end = expect(run).rejects.toMatchObject({ code: "job.stopped" });
  run.cancel();
  expect(kills).toBe(0);
  run.cancel();
  expect(kills).toBe(1);
  await end;
  run.kill();
  expect(kills).toBe(1);
});

it("rejects loop and result alike where it fails, and lets nothing go unhandled", async () => {
  const unhandled: unknown[] = [];
  const listen = (error: unknown) => unhandled.push(error);
  process.on("unhandledRejection", listen);
  try {
    new JobRun(failing);
    const iterated = new JobRun(failing);
    await expect(read(iterated)).rejects.toMatchObject({ code: "test.failed" });
    const awaited = new JobRun(failing);
    await expect(awaited).rejects.toMatchObject({ code: "test.failed" });
    expect(await new JobRun(failing).catch((error) => (error as KinoraError).code)).toBe("test.failed");
    let ended = false;
    await expect(
      new JobRun(failing).finally(() => {
        ended = true;
      }),
    ).rejects.toThrow("it failed");
    expect(ended).toBe(true);
    await sleep(20);
    expect(unhandled).toEqual([]);
  } finally {
    process.off("unhandledRejection", listen);
  }
});
