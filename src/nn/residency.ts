// Which of a model's blocks have their weights on the device, and when they come and go. The runner of the blocks asks for
// block i and says what follows; what to keep, what to let go and what to bring early is decided here.
import { KinoraError } from "../base/errors.ts";
import { formatBytes } from "../base/units.ts";
import type { Device, DeviceEvent, UploadStream } from "../device/device.ts";
import type { StreamedWeight } from "./streamed-weight.ts";

export interface WeightResidency extends Disposable {
  /** Whether weights come and go: a gradient then needs its block acquired again (recompute). */
  readonly streams: boolean;
  /** Block `index` is on the device until what is returned ends. `next`: the blocks after it, in order, as far as known. */
  acquire(index: number, next: readonly number[]): Disposable;
}

/** How many of a model's blocks are in memory at once: all but `swapped`, or what fits into `budget` bytes. */
export type BlockMemory = { readonly swapped: number } | { readonly budget: number };

const nothing: Disposable = { [Symbol.dispose]() {} };

/** All blocks are there for good. */
export const allResident: WeightResidency = { streams: false, acquire: () => nothing, ...nothing };

/** A pass over all blocks: forward alone, forward with its gradient to follow, or that gradient. */
export type Pass = "forward" | "forward and back" | "backward";

/** The blocks that are asked for after `index`, up to the end of the next pass. */
export function blocksAfter(index: number, count: number, pass: Pass): number[] {
  const all = Array.from({ length: count }, (_, i) => i);
  if (pass === "backward") return [...all.slice(0, index).reverse(), ...all];
  const rest = all.slice(index + 1);
  return [...rest, ...(pass === "forward" ? all : all.reverse())];
}

/** From so many blocks in memory on, two are brought before they are asked for, else one: they take the place of others. */
const BLOCKS_FOR_TWO_AHEAD = 6;

const sum = (weights: readonly StreamedWeight[], of: "bytes" | "fetchedBytes" | "held"): number =>
  weights.reduce((total, weight) => total + weight[of], 0);

/**
 * Blocks that come from their file for as long as they are needed. Of those in memory, the one whose turn is farthest off
 * goes first; with `next` known that loads the least. Kept within the budget at every moment, prefetched blocks included.
 */
export class StreamedBlocks implements WeightResidency {
  readonly streams = true;
  /** Bytes of weights that are in memory at most. */
  readonly budget: number;
  readonly #device: Device;
  readonly #blocks: readonly (readonly StreamedWeight[])[];
  readonly #stream: UploadStream;
  /** What the device waits for before a block that is on its way lands. */
  readonly #arrivals = new Map<number, DeviceEvent>();
  readonly #uses = new Map<number, number>();
  readonly #ahead: number;
  #peak = 0;
  #loads = 0;

  /** Throws `memory.block-budget` where not even one block fits, or more blocks are swapped than there are. */
  constructor(device: Device, blocks: readonly (readonly StreamedWeight[])[], memory: BlockMemory) {
    this.#device = device;
    this.#blocks = blocks;
    this.budget = budgetOf(blocks, memory);
    const largest = Math.max(...blocks.map((weights) => sum(weights, "bytes")));
    this.#ahead = this.budget >= BLOCKS_FOR_TWO_AHEAD * largest ? 2 : 1;
    this.#stream = device.createStream();
  }

  /** Bytes of weights in memory now and at most so far, and how many times a block was loaded. */
  get held(): { now: number; peak: number; loads: number } {
    return { now: this.#held(), peak: this.#peak, loads: this.#loads };
  }

  acquire(index: number, next: readonly number[]): Disposable {
    this.#uses.set(index, (this.#uses.get(index) ?? 0) + 1);
    this.#bring(index, next);
    this.#prefetch(next);
    return {
      [Symbol.dispose]: () => {
        this.#uses.set(index, this.#uses.get(index)! - 1);
      },
    };
  }

  /** Lands what is on its way and fetches the rest, one weight at a time. */
  #bring(index: number, next: readonly number[]): void {
    const weights = this.#blocks[index]!;
    const away = weights.some(({ state }) => state === "away");
    const arrival = this.#arrivals.get(index);
    if (arrival) this.#device.wait(arrival);
    this.#arrivals.delete(index);
    for (const weight of weights) {
      if (weight.state === "here") continue;
      this.#makeRoom(weight.mostBytes - weight.held, next);
      if (weight.state === "away") {
        this.#stream.wait(this.#device.event());
        weight.fetch(this.#stream);
        this.#device.wait(this.#stream.event());
      }
      weight.land();
      this.#note();
    }
    if (away) this.#loads++;
  }

  /** Begins to bring the blocks that come next, as far as there is room without those that come sooner. */
  #prefetch(next: readonly number[]): void {
    const wanted = [...new Set(next)].slice(0, this.#ahead);
    for (const index of wanted) {
      const away = this.#blocks[index]!.filter(({ state }) => state === "away");
      if (away.length === 0) continue;
      if (this.#device.computes) for (const weight of away) weight.readAhead();
      if (!this.#makeRoom(sum(away, "fetchedBytes"), next, index)) return;
      this.#stream.wait(this.#device.event());
      for (const weight of away) weight.fetch(this.#stream);
      this.#arrivals.set(index, this.#stream.event());
      this.#note();
      this.#loads++;
    }
  }

  /**
   * Lets blocks go, the one that is used latest first, until `bytes` more fit. For a block that is brought `early`, only
   * those that are used later than it, and none where that is not enough (false). For a block that is needed now it always
   * is: the budget was checked.
   */
  #makeRoom(bytes: number, next: readonly number[], early?: number): boolean {
    let excess = this.#held() + bytes - this.budget;
    if (excess <= 0) return true;
    const turn = (index: number) => {
      const at = next.indexOf(index);
      return at < 0 ? next.length : at;
    };
    const soonest = early === undefined ? -1 : turn(early);
    const leaving: number[] = [];
    const candidates = this.#blocks
      .map((weights, index) => ({ index, turn: turn(index), held: sum(weights, "held") }))
      .filter(({ index, held, turn: at }) => held > 0 && !this.#uses.get(index) && at > soonest)
      .sort((a, b) => b.turn - a.turn || b.index - a.index);
    for (const { index, held } of candidates) {
      if (excess <= 0) break;
      leaving.push(index);
      excess -= held;
    }
    if (excess > 0 && early !== undefined) return false;
    for (const index of leaving) this.#evict(index);
    return true;
  }

  #evict(index: number): void {
    const arrival = this.#arrivals.get(index);
    if (arrival) this.#device.wait(arrival);
    this.#arrivals.delete(index);
    for (const weight of this.#blocks[index]!) weight.evict();
  }

  #held(): number {
    return this.#blocks.reduce((total, weights) => total + sum(weights, "held"), 0);
  }

  #note(): void {
    this.#peak = Math.max(this.#peak, this.#held());
  }

  /** Lets all blocks go. */
  [Symbol.dispose](): void {
    for (const index of this.#blocks.keys()) this.#evict(index);
    this.#stream[Symbol.dispose]();
  }
}

/** What can be told before the weights are known. Throws `memory.block-budget`. */
export function checkBlockMemory(memory: BlockMemory, count: number): void {
  if (!("swapped" in memory)) return;
  const { swapped } = memory;
  if (Number.isInteger(swapped) && swapped >= 0 && swapped < count) return;
  throw new KinoraError("memory.block-budget", `${swapped} blocks cannot be swapped`, {
    expected: `0 to ${count - 1}: the model has ${count} blocks`,
  });
}

/** Bytes for the blocks that stay, and for what the form of a weight is made of while it comes. */
function budgetOf(blocks: readonly (readonly StreamedWeight[])[], memory: BlockMemory): number {
  const sizes = blocks.map((weights) => sum(weights, "bytes")).sort((a, b) => b - a);
  const extra = Math.max(0, ...blocks.flat().map(({ bytes, mostBytes }) => mostBytes - bytes));
  checkBlockMemory(memory, blocks.length);
  if ("swapped" in memory) {
    return sizes.slice(0, blocks.length - memory.swapped).reduce((total, size) => total + size, extra);
  }
  const least = (sizes[0] ?? 0) + extra;
  if (memory.budget >= least) return memory.budget;
  throw new KinoraError("memory.block-budget", "the model's largest block does not fit into its memory", {
    expected: `at least ${formatBytes(least)}`,
    actual: formatBytes(memory.budget),
  });
}
