// A prefix tree from strings to numbers, in flat arrays: built in a fraction of a second for 256k pieces.
// Walks UTF-16 code units, so that pieces are matched in a JavaScript string without re-encoding it.

const ABSENT = -1;
const ROOT = 0;

/** Maps strings to non-negative numbers and finds every key that is a prefix of a text at a position. */
export class PieceTrie {
  // One open-addressing hash table holds every edge: (node, code unit) → node.
  #edgeFrom = new Int32Array(1 << 10).fill(ABSENT);
  #edgeUnit = new Uint16Array(1 << 10);
  #edgeTo = new Int32Array(1 << 10);
  #values = new Int32Array(1 << 9).fill(ABSENT);
  #nodes = 1;

  /** Adds `key`; a later value replaces an earlier one. The empty key is ignored. */
  set(key: string, value: number): void {
    let node = ROOT;
    for (let i = 0; i < key.length; i++) node = this.#child(node, key.charCodeAt(i));
    if (node !== ROOT) this.#values[node] = value;
  }

  get(key: string): number | undefined {
    let node = ROOT;
    for (let i = 0; i < key.length; i++) {
      node = this.step(node, key.charCodeAt(i));
      if (node === ABSENT) return undefined;
    }
    const value = this.#values[node]!;
    return value === ABSENT ? undefined : value;
  }

  /** The end of the longest key that `text` has at `start`, or undefined. */
  longestMatch(text: string, start: number): { end: number; value: number } | undefined {
    let found: { end: number; value: number } | undefined;
    let node = ROOT;
    for (let i = start; i < text.length; i++) {
      node = this.step(node, text.charCodeAt(i));
      if (node === ABSENT) break;
      const value = this.#values[node]!;
      if (value !== ABSENT) found = { end: i + 1, value };
    }
    return found;
  }

  /** The node reached from `node` (0 is the root) over `unit`, or -1. For callers that walk the tree themselves. */
  step(node: number, unit: number): number {
    const mask = this.#edgeFrom.length - 1;
    for (let slot = hash(node, unit) & mask; ; slot = (slot + 1) & mask) {
      const from = this.#edgeFrom[slot]!;
      if (from === ABSENT) return ABSENT;
      if (from === node && this.#edgeUnit[slot] === unit) return this.#edgeTo[slot]!;
    }
  }

  /** The value of the key that ends at `node`, or -1. */
  valueAt(node: number): number {
    return this.#values[node]!;
  }

  #child(node: number, unit: number): number {
    const existing = this.step(node, unit);
    if (existing !== ABSENT) return existing;
    if (this.#nodes * 2 > this.#edgeFrom.length) this.#grow();
    const child = this.#nodes++;
    if (child >= this.#values.length) {
      const values = new Int32Array(this.#values.length * 2).fill(ABSENT);
      values.set(this.#values);
      this.#values = values;
    }
    this.#insert(node, unit, child);
    return child;
  }

  #insert(from: number, unit: number, to: number): void {
    const mask = this.#edgeFrom.length - 1;
    let slot = hash(from, unit) & mask;
    while (this.#edgeFrom[slot] !== ABSENT) slot = (slot + 1) & mask;
    this.#edgeFrom[slot] = from;
    this.#edgeUnit[slot] = unit;
    this.#edgeTo[slot] = to;
  }

  #grow(): void {
    const [from, unit, to] = [this.#edgeFrom, this.#edgeUnit, this.#edgeTo];
    this.#edgeFrom = new Int32Array(from.length * 2).fill(ABSENT);
    this.#edgeUnit = new Uint16Array(from.length * 2);
    this.#edgeTo = new Int32Array(from.length * 2);
    for (let slot = 0; slot < from.length; slot++) {
      if (from[slot] !== ABSENT) this.#insert(from[slot]!, unit[slot]!, to[slot]!);
    }
  }
}

/** Mixes both numbers over all bits; nodes are consecutive and units cluster, so neither may pass unmixed. */
function hash(node: number, unit: number): number {
  let mixed = Math.imul(node, 0x9e3779b1) ^ Math.imul(unit + 1, 0x85ebca6b);
  mixed ^= mixed >>> 15;
  mixed = Math.imul(mixed, 0x2c1b3c6d);
  return (mixed ^ (mixed >>> 13)) >>> 0;
}
