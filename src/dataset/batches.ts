// The batches of an epoch: items of one dataset and one bucket together, in musubi's way; order drawn from a generator.
// https://github.com/kohya-ss/musubi-tuner/blob/30c658c/src/musubi_tuner/dataset/bucket.py (BucketBatchManager)
import { philoxBlock } from "../base/rng/philox.ts";
import { seedWords } from "../base/rng/seed.ts";
import type { Bucket, DatasetItem } from "./items.ts";

/** What shuffling needs of a random generator: 32 uniform bits at a time. */
export interface RandomBits {
  nextUint32(): number;
}

/** Keeps these draws apart from noise of the same seed, whose counters stay below 2^21 in their last word. */
const SHUFFLE = 0x80000001;

/** The bits that order an epoch: Philox under `seed` (64 bits), counters of the epoch's own. No state to save. */
export function epochBits(seed: bigint, epoch: number): RandomBits {
  const { low, high } = seedWords(seed);
  const words = new Uint32Array(4);
  let drawn = 0;
  return {
    nextUint32() {
      if (drawn % 4 === 0) philoxBlock(drawn / 4, 0, epoch, SHUFFLE, low, high, words);
      return words[drawn++ % 4]!;
    },
  };
}

/** Items of one bucket that train together. */
export interface Batch {
  dataset: number;
  bucket: Bucket;
  items: DatasetItem[];
}

/** The items of one dataset that can train together, repeats written out. */
export interface BucketItems {
  dataset: number;
  bucket: Bucket;
  items: DatasetItem[];
}

/** Every bucket that has items, by dataset, then width, height and frames. */
export function bucketsOf(items: readonly DatasetItem[]): BucketItems[] {
  const found = new Map<string, BucketItems>();
  for (const item of items) {
    const { dataset, bucket, repeats } = item;
    const key = `${dataset}/${bucket.width}x${bucket.height}x${bucket.frames}`;
    const group = found.get(key) ?? { dataset, bucket, items: [] };
    found.set(key, group);
    for (let i = 0; i < repeats; i++) group.items.push(item);
  }
  return [...found.values()].sort(
    (a, b) =>
      a.dataset - b.dataset ||
      a.bucket.width - b.bucket.width ||
      a.bucket.height - b.bucket.height ||
      a.bucket.frames - b.bucket.frames,
  );
}

/**
 * The batches of an epoch; a bucket's last one may be smaller. With `random`, items are shuffled within their bucket
 * and then batches among all datasets; without, everything stays in order.
 */
export function epochBatches(
  items: readonly DatasetItem[],
  batchSize: (dataset: number) => number,
  random?: RandomBits,
): Batch[] {
  const batches: Batch[] = [];
  for (const { dataset, bucket, items: members } of bucketsOf(items)) {
    if (random) shuffle(members, random);
    const size = batchSize(dataset);
    for (let i = 0; i < members.length; i += size) batches.push({ dataset, bucket, items: members.slice(i, i + size) });
  }
  if (random) shuffle(batches, random);
  return batches;
}

/** Fisher–Yates, in place. */
export function shuffle<T>(values: T[], random: RandomBits): void {
  for (let i = values.length - 1; i > 0; i--) {
    const j = below(i + 1, random);
    [values[i], values[j]] = [values[j]!, values[i]!];
  }
}

/** A whole number from 0 to `bound` − 1, each equally likely: draws beyond the last whole multiple are thrown away. */
function below(bound: number, random: RandomBits): number {
  const limit = 2 ** 32 - (2 ** 32 % bound);
  for (;;) {
    const bits = random.nextUint32();
    if (bits < limit) return bits % bound;
  }
}
