// The table of what was made for a description: equal lists of numbers find it, others do not, old ones go first.
import { describe, expect, test } from "vitest";
import { DescriptionCache, DescriptionKey } from "../../src/ffi/description-cache.ts";

function keyOf(...lists: number[][]): DescriptionKey {
  const key = new DescriptionKey();
  for (const list of lists) key.list(list);
  return key;
}

describe("DescriptionCache", () => {
  test("finds by the numbers, not by how they add up", () => {
    const cache = new DescriptionCache<string>(10);
    cache.add(keyOf([1, 2], [3]), "a");
    cache.add(keyOf([1], [2, 3]), "b");
    expect(cache.find(keyOf([1, 2], [3]))?.value).toBe("a");
    expect(cache.find(keyOf([1], [2, 3]))?.value).toBe("b");
    expect(cache.find(keyOf([1, 2, 3]))).toBeUndefined();
  });

  test("keeps apart numbers whose hashes are alike: fractions and numbers beyond 32 bits", () => {
    const cache = new DescriptionCache<number>(10);
    const numbers = [0, 0.25, 0.5, 2 ** 32, 2 ** 33];
    expect(new Set(numbers.map((number) => keyOf([number]).hash)).size).toBe(1);
    for (const number of numbers) cache.add(keyOf([number]), number);
    for (const number of numbers) expect(cache.find(keyOf([number]))?.value).toBe(number);
  });

  test("lets the least recently used go, also from a row of alike hashes", () => {
    const cache = new DescriptionCache<number>(3);
    for (const number of [0, 0.25, 0.5]) expect(cache.add(keyOf([number]), number)).toBeUndefined();
    cache.find(keyOf([0]));
    expect(cache.add(keyOf([7]), 7)).toBe(0.25);
    expect(cache.find(keyOf([0.25]))).toBeUndefined();
    expect([...cache.values()]).toEqual([0, 0.5, 7]);
  });

  test("a key is written again", () => {
    const key = new DescriptionKey();
    key.word("matmul");
    const [hash, numbers] = [key.hash, key.copy()];
    key.clear();
    key.word("reorder");
    expect(key.equals(numbers)).toBe(false);
    key.clear();
    key.word("matmul");
    expect(key.hash).toBe(hash);
    expect(key.equals(numbers)).toBe(true);
  });
});
