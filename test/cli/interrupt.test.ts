// Ctrl-C as commands hear it: one keypress that comes twice, a second one, none at all.
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { stopSignals } from "../../src/base/platform.ts";
import { Interrupt } from "../../src/cli/interrupt.ts";

function listening() {
  const heard: string[] = [];
  const interrupt = new Interrupt({ first: () => heard.push("first"), again: () => heard.push("again") });
  return { heard, interrupt };
}

it("takes signals of one moment for one keypress, and the next for a second", async () => {
  const { heard, interrupt } = listening();
  using _interrupt = interrupt;
  process.emit("SIGINT");
  process.emit("SIGINT");
  await sleep(100);
  process.emit("SIGHUP");
  expect(heard).toEqual(["first"]);
  await sleep(1000);
  process.emit("SIGINT");
  expect(heard).toEqual(["first", "again"]);
});

it("hears every signal that asks to end, and leaves no listener behind", () => {
  for (const signal of stopSignals(process.platform)) {
    const before = process.listenerCount(signal);
    {
      const { heard, interrupt } = listening();
      using _interrupt = interrupt;
      expect(process.listenerCount(signal)).toBe(before + 1);
      process.emit(signal);
      expect(heard).toEqual(["first"]);
    }
    expect(process.listenerCount(signal)).toBe(before);
  }
});
