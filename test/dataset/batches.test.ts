// Batches: one dataset and one bucket each, nothing lost, nothing twice, the same for the same seed.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bucketsOf, epochBatches, epochBits, shuffle } from "../../src/dataset/batches.ts";
import { cropFor } from "../../src/dataset/buckets.ts";
import type { DatasetItem } from "../../src/dataset/items.ts";

function item(index: number, dataset: number, width: number, frames: number, repeats = 1): DatasetItem {
  return {
    id: `${dataset + 1}/${index}:0+${frames}`,
    dataset,
    kind: "video",
    name: `${index}.mp4`,
    file: `/${index}.mp4`,
    frameFolder: false,
    cut: undefined,
    facts: { width, height: 64, frames, fps: 16, variableRate: false, damaged: false },
    firstFrame: 0,
    frames,
    rateChange: undefined,
    fps: 16,
    bucket: { width, height: 64, frames },
    crop: cropFor(width, 64, { width, height: 64 }),
    caption: { path: undefined, text: "c" },
    control: undefined,
    repeats,
  };
}

const ids = (batches: readonly { items: readonly DatasetItem[] }[]) =>
  batches.map((batch) => batch.items.map((entry) => entry.id));

describe("batches", () => {
  // Dataset 1: 64×64×1 has a, c and their repeats (4) → batches of 2, 2; 64×64×5 has b, b → 1 batch.
  // Dataset 2 with batch size 3: 32×64×5 has d, 64×64×5 has e, f.
  const items = [
    item(0, 0, 64, 1, 2),
    item(1, 0, 64, 5, 2),
    item(2, 0, 64, 1, 2),
    item(3, 1, 64, 5),
    item(4, 1, 32, 5),
  ];
  const size = (dataset: number) => [2, 3][dataset]!;

  it("in order are by dataset and bucket, repeats beside each other, the last one smaller", () => {
    expect(ids(epochBatches(items, size))).toEqual([
      ["1/0:0+1", "1/0:0+1"],
      ["1/2:0+1", "1/2:0+1"],
      ["1/1:0+5", "1/1:0+5"],
      ["2/4:0+5"],
      ["2/3:0+5"],
    ]);
    expect(bucketsOf(items).map(({ bucket, items: members }) => [bucket.width, bucket.frames, members.length])).toEqual(
      [
        [64, 1, 4],
        [64, 5, 2],
        [32, 5, 1],
        [64, 5, 1],
      ],
    );
  });

  it("of a seed and an epoch are always the same, of others different", () => {
    const many = Array.from({ length: 40 }, (_, i) => item(i, 0, 64, 5));
    const run = (seed: bigint, epoch: number) => ids(epochBatches(many, () => 4, epochBits(seed, epoch)));
    expect(run(7n, 0)).toEqual(run(7n, 0));
    const others = [run(7n, 1), run(8n, 0), run(7n + 2n ** 32n, 0)];
    for (const other of others) expect(other).not.toEqual(run(7n, 0));
    expect(many.map((entry) => entry.id)).toEqual(Array.from({ length: 40 }, (_, i) => `1/${i}:0+5`));
  });

  it("hold every repeat of every item once, never mixed, never too many", () => {
    const any = fc.record({
      dataset: fc.integer({ min: 0, max: 2 }),
      width: fc.constantFrom(32, 64, 96),
      frames: fc.constantFrom(1, 5, 21),
      repeats: fc.integer({ min: 1, max: 3 }),
    });
    fc.assert(
      fc.property(
        fc.array(any, { maxLength: 30 }),
        fc.integer({ min: 1, max: 5 }),
        fc.option(fc.integer()),
        (set, batch, seed) => {
          const all = set.map((entry, i) => item(i, entry.dataset, entry.width, entry.frames, entry.repeats));
          const batches = epochBatches(all, () => batch, seed === null ? undefined : epochBits(BigInt(seed), 0));
          const times = new Map<string, number>();
          for (const { dataset, bucket, items: members } of batches) {
            expect(members.length > 0 && members.length <= batch).toBe(true);
            for (const member of members) {
              expect([member.dataset, member.bucket]).toEqual([dataset, bucket]);
              times.set(member.id, (times.get(member.id) ?? 0) + 1);
            }
          }
          expect(times).toEqual(new Map(all.map((entry) => [entry.id, entry.repeats])));
          // As few batches as a bucket needs: ⌈items / size⌉ each.
          const needed = bucketsOf(all).reduce((sum, { items: members }) => sum + Math.ceil(members.length / batch), 0);
          expect(batches).toHaveLength(needed);
        },
      ),
    );
  });
});

describe("the shuffle", () => {
  it("gives each order equally often", () => {
    const random = epochBits(1n, 0);
    const counts = new Map<string, number>();
    for (let i = 0; i < 24_000; i++) {
      const values = [0, 1, 2, 3];
      shuffle(values, random);
      counts.set(values.join(""), (counts.get(values.join("")) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    // 1,000 each; five standard deviations are about 155.
    for (const count of counts.values()) expect(Math.abs(count - 1000)).toBeLessThan(155);
  });

  it("throws away bits that would favour some", () => {
    // For a bound of 3, 2³² − 1 is beyond the last whole multiple: the next draw counts.
    const drawn = [2 ** 32 - 1, 0, 0];
    const values = ["a", "b", "c"];
    shuffle(values, { nextUint32: () => drawn.shift()! });
    expect(values).toEqual(["b", "c", "a"]);
    expect(drawn).toEqual([]);
  });
});
