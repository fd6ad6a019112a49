// Counts live and peak bytes by category. Every device reports from one of these.
import { type MemoryCategory, type MemoryReport, memoryCategories } from "./device.ts";

const zeros = (): Record<MemoryCategory, number> => ({
  weights: 0,
  gradients: 0,
  optimizer: 0,
  activations: 0,
  workspace: 0,
});

export class MemoryCounter {
  #live = 0;
  #peak = 0;
  #liveBy = zeros();
  #peakBy = zeros();

  get live(): number {
    return this.#live;
  }

  add(bytes: number, category: MemoryCategory): void {
    this.#live += bytes;
    this.#liveBy[category] += bytes;
    if (this.#live > this.#peak) this.#peak = this.#live;
    if (this.#liveBy[category] > this.#peakBy[category]) this.#peakBy[category] = this.#liveBy[category];
  }

  remove(bytes: number, category: MemoryCategory): void {
    this.#live -= bytes;
    this.#liveBy[category] -= bytes;
  }

  /** The same bytes under another purpose; the sum stays. */
  move(bytes: number, from: MemoryCategory, to: MemoryCategory): void {
    this.#liveBy[from] -= bytes;
    this.#liveBy[to] += bytes;
    if (this.#liveBy[to] > this.#peakBy[to]) this.#peakBy[to] = this.#liveBy[to];
  }

  /** The peak starts again from what is live now. */
  resetPeak(): void {
    this.#peak = this.#live;
    this.#peakBy = { ...this.#liveBy };
  }

  /** `peak` by category is each category's own; they need not have been reached together. */
  report(): MemoryReport {
    const byCategory = Object.fromEntries(
      memoryCategories.map((category) => [category, { live: this.#liveBy[category], peak: this.#peakBy[category] }]),
    ) as Record<MemoryCategory, { live: number; peak: number }>;
    return { live: this.#live, peak: this.#peak, byCategory };
  }
}
