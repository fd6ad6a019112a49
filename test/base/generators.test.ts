// Generators run to their end or passed on: results come through, and what is left early is ended.
import { expect, it } from "vitest";
import { finished, mapped } from "../../src/base/generators.ts";

function work(log: string[]): AsyncGenerator<number, string> {
  return (async function* () {
    try {
      yield 1;
      yield 2;
      return "done";
    } finally {
      log.push("ended");
    }
  })();
}

it("gives every event and the result", async () => {
  const [log, heard]: [string[], string[]] = [[], []];
  const result = await finished(
    mapped(work(log), (event) => `event ${event}`),
    (text) => heard.push(text),
  );
  expect([heard, result, log]).toEqual([["event 1", "event 2"], "done", ["ended"]]);
});

it("ends the work where its reader goes away or fails", async () => {
  const log: string[] = [];
  for await (const _event of mapped(work(log), String)) break;
  expect(log).toEqual(["ended"]);
  const failing = finished(work(log), () => {
    throw new Error("no more");
  });
  await expect(failing).rejects.toThrow("no more");
  expect(log).toEqual(["ended", "ended"]);
});
