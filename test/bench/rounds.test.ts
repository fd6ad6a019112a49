// How the benchmarks take their times: warm-ups, turns, medians, ratios of medians.
import { describe, expect, test } from "vitest";
import { formatRatio, interleaved, parseRounds, ratioOf, Times } from "../../bench/rounds.ts";

describe("rounds of a benchmark", () => {
  test("begin with a warm-up of each contender and then go on in turn", async () => {
    const turns: string[] = [];
    const contender = (name: string) => () => void turns.push(name);
    const times = await interleaved({ peer: contender("peer"), ours: contender("ours") }, 3);
    expect(turns.join(" ")).toBe("peer ours peer ours peer ours peer ours");
    expect(times.ours.seconds).toHaveLength(3);
  });

  test("take a contender's own seconds where it gives them, and leave out those of its warm-up", async () => {
    const own = [100, 3, 1, 2];
    const { other } = await interleaved({ other: async () => own.shift()! }, 3);
    expect(other.seconds).toEqual([3, 1, 2]);
    expect([other.median, other.least, other.most]).toEqual([2, 1, 3]);
  });

  test("are told as their median with the spread", () => {
    expect(new Times([4, 1, 2, 3]).median).toBe(2.5);
    expect(`${new Times([1.5, 1, 3])}`).toBe("1.50 s (1.00–3.00)");
    expect(`${new Times([0.0021, 0.002, 0.0032])}`).toBe("2.10 ms (2.00–3.20)");
  });

  test("compare medians, and show the spread of the rounds side by side", () => {
    const ratio = ratioOf(new Times([4, 8, 6]), new Times([2, 2, 3]));
    expect(ratio).toEqual({ ratio: 3, least: 2, most: 4 });
    expect(formatRatio(ratio)).toBe("3.00 (2.00–4.00)");
  });

  test("are five or more", () => {
    expect(parseRounds(undefined)).toBe(5);
    expect(parseRounds("9")).toBe(9);
    for (const text of ["4", "0", "5.5", "many"]) expect(() => parseRounds(text)).toThrow("rounds");
    expect(parseRounds("1", 1)).toBe(1);
  });
});
