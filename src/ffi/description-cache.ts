// A bounded table of what was made for a description, the least recently used going first. Its keys are lists of numbers:
// building a string of the same takes as long as the small primitives that are looked up by it.

const words = new Map<string, number>();

function wordNumber(word: string): number {
  let number = words.get(word);
  if (number === undefined) {
    number = words.size;
    words.set(word, number);
  }
  return number;
}

/** A description as numbers. One is written again and again: `clear` comes first. */
export class DescriptionKey {
  readonly #numbers: number[] = [];
  #length = 0;
  #hash = 0;

  get hash(): number {
    return this.#hash;
  }

  clear(): void {
    this.#length = 0;
    this.#hash = 0;
  }

  number(value: number): void {
    this.#numbers[this.#length++] = value;
    this.#hash = Math.imul(this.#hash ^ value, 0x01000193);
  }

  word(word: string): void {
    this.number(wordNumber(word));
  }

  list(values: readonly number[]): void {
    this.number(values.length);
    for (let i = 0; i < values.length; i++) this.number(values[i]!);
  }

  copy(): readonly number[] {
    return this.#numbers.slice(0, this.#length);
  }

  equals(numbers: readonly number[]): boolean {
    if (numbers.length !== this.#length) return false;
    for (let i = 0; i < numbers.length; i++) if (numbers[i] !== this.#numbers[i]) return false;
    return true;
  }
}

interface Entry<T> {
  readonly hash: number;
  readonly numbers: readonly number[];
  readonly value: T;
  /** When it was last found, on the cache's own clock. */
  used: number;
}

export class DescriptionCache<T> {
  readonly #byHash = new Map<number, Entry<T>[]>();
  readonly #entries = new Set<Entry<T>>();
  readonly #capacity: number;
  #clock = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  find(key: DescriptionKey): Entry<T> | undefined {
    const entry = this.#byHash.get(key.hash)?.find(({ numbers }) => key.equals(numbers));
    if (entry) entry.used = ++this.#clock;
    return entry;
  }

  /** Gives what had to go, if anything. */
  add(key: DescriptionKey, value: T): T | undefined {
    const entry = { hash: key.hash, numbers: key.copy(), value, used: ++this.#clock };
    this.#entries.add(entry);
    this.#byHash.set(entry.hash, [...(this.#byHash.get(entry.hash) ?? []), entry]);
    if (this.#entries.size <= this.#capacity) return undefined;
    let oldest: Entry<T> = entry;
    for (const other of this.#entries) if (other.used < oldest.used) oldest = other;
    this.#entries.delete(oldest);
    const others = this.#byHash.get(oldest.hash)!.filter((other) => other !== oldest);
    if (others.length > 0) this.#byHash.set(oldest.hash, others);
    else this.#byHash.delete(oldest.hash);
    return oldest.value;
  }

  *values(): Iterable<T> {
    for (const { value } of this.#entries) yield value;
  }

  clear(): void {
    this.#entries.clear();
    this.#byHash.clear();
  }
}
