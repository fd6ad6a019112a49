// Work side by side: how much of it at once, what a failure or a signal stops, and that nothing is left running.
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { inParallel, pool, stream } from "../../src/base/parallel.ts";

/** Work that goes on until it is let go, and what became of it. */
function gated() {
  const started: number[] = [];
  const ended: number[] = [];
  const gates = new Map<number, () => void>();
  const work = async (item: number) => {
    started.push(item);
    await new Promise<void>((resolve) => gates.set(item, resolve));
    ended.push(item);
  };
  const release = async (item: number) => {
    gates.get(item)!();
    await turn();
  };
  return { started, ended, work, release };
}

describe("inParallel", () => {
  it("runs so many at once, in order of starting", async () => {
    const { started, work, release } = gated();
    const all = inParallel([1, 2, 3, 4], 2, work);
    expect(started).toEqual([1, 2]);
    await release(2);
    expect(started).toEqual([1, 2, 3]);
    await release(1);
    await release(3);
    await release(4);
    await all;
    await inParallel([], 3, work);
    expect(started).toHaveLength(4);
  });

  it("starts none after a failure, tells those under way, and throws it once they have ended", async () => {
    const { started, ended, work, release } = gated();
    const told: boolean[] = [];
    const all = inParallel([1, 2, 3], 2, async (item, signal) => {
      if (item === 1) throw new Error("the first");
      await work(item);
      told.push(signal.aborted);
      throw new Error("the second");
    });
    const thrown = expect(all).rejects.toThrow("the first");
    await turn();
    expect([started, ended]).toEqual([[2], []]);
    await release(2);
    await thrown;
    expect([started, ended, told]).toEqual([[2], [2], [true]]);
  });

  it("starts none once its signal aborts, and throws the reason when those under way have ended", async () => {
    const { started, ended, work, release } = gated();
    const controller = new AbortController();
    const all = inParallel([1, 2], 1, work, controller.signal);
    const thrown = expect(all).rejects.toThrow("enough");
    controller.abort(new Error("enough"));
    await turn();
    expect(ended).toEqual([]);
    await release(1);
    await thrown;
    expect([started, ended]).toEqual([[1], [1]]);
  });
});

describe("a stream of events", () => {
  it("gives them in order of arrival, those before a failure too", async () => {
    const seen: number[] = [];
    const failing = stream<number>(async (emit) => {
      emit(1);
      await turn();
      emit(2);
      emit(3);
      throw new Error("after the third");
    });
    await expect(
      (async () => {
        for await (const event of failing) seen.push(event);
      })(),
    ).rejects.toThrow("after the third");
    expect(seen).toEqual([1, 2, 3]);
  });

  it("stops the work where it is left, by the reason given, and is done when the work is", async () => {
    let reason: unknown;
    let ended = false;
    const events = stream<number>(
      async (emit, signal) => {
        emit(1);
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        reason = signal.reason;
        await turn();
        ended = true;
        throw new Error("of being stopped: nobody asks");
      },
      undefined,
      new Error("left"),
    );
    for await (const _event of events) break;
    expect([(reason as Error).message, ended]).toEqual(["left", true]);
  });
});

describe("a pool", () => {
  it("gives the events of all its work", async () => {
    const events: string[] = [];
    const work = async (item: number, emit: (event: string) => void) => {
      emit(`${item} begins`);
      await turn();
      emit(`${item} ends`);
    };
    for await (const event of pool([1, 2, 3], 2, work)) events.push(event);
    expect(events.slice(0, 2)).toEqual(["1 begins", "2 begins"]);
    expect([...events].sort()).toEqual([1, 2, 3].flatMap((i) => [`${i} begins`, `${i} ends`]));
  });

  it("ends by its signal's reason, though work that was stopped returns", async () => {
    const controller = new AbortController();
    const work = async (item: number, emit: (event: number) => void, signal: AbortSignal) => {
      emit(item);
      if (item === 1) controller.abort(new Error("enough"));
      expect(signal.aborted).toBe(true);
    };
    const seen: number[] = [];
    await expect(
      (async () => {
        for await (const event of pool([1, 2, 3], 1, work, controller.signal)) seen.push(event);
      })(),
    ).rejects.toThrow("enough");
    expect(seen).toEqual([1]);
  });
});
