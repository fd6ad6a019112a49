// One golden fixture file: its configuration, inputs, expected outputs and tolerances.
import { KinoraError } from "../../src/base/errors.ts";
import { toFloat32 } from "../../src/base/float-formats.ts";
import type { Device } from "../../src/device/device.ts";
import { SafetensorsFile } from "../../src/io/safetensors.ts";
import type { WeightReader } from "../../src/nn/weights.ts";
import { fromValues, type Tensor } from "../../src/tensor/tensor.ts";

export interface Check {
  output: string;
  /** ‖out − ref‖ / ‖ref‖ over the whole tensor; for exact outputs the number of wrong elements. */
  error: number;
  tolerance: number;
}

export const passes = ({ error, tolerance }: Check): boolean => error <= tolerance;

/** ‖out − ref‖ / ‖ref‖; ‖out‖ where the reference is all zero. NaN anywhere is infinitely wrong. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2;
    norm += expected[i]! ** 2;
  }
  const error = Math.sqrt(difference) / (norm > 0 ? Math.sqrt(norm) : 1);
  return Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
}

export class Fixture implements Disposable {
  readonly path: string;
  readonly kind: string;
  // biome-ignore lint/suspicious/noExplicitAny: each kind knows the configuration of its own fixtures
  readonly config: any;
  readonly #file: SafetensorsFile;
  readonly #tolerance: number;
  readonly #tolerances: ReadonlyMap<string, number>;
  readonly #checked = new Set<string>();
  readonly #checks: Check[] = [];
  /** Replaces the file's tolerances: half-precision runs. */
  readonly #override: number | undefined;

  constructor(path: string, tolerance?: number) {
    this.path = path;
    this.#file = SafetensorsFile.open(path);
    const { metadata } = this.#file;
    this.kind = metadata.kind ?? "";
    this.config = JSON.parse(metadata.config ?? "{}");
    this.#tolerance = Number(metadata.tolerance ?? 0);
    this.#tolerances = new Map(Object.entries(JSON.parse(metadata.tolerances ?? "{}") as Record<string, number>));
    this.#override = tolerance;
  }

  has(name: string): boolean {
    return this.#file.has(name);
  }

  names(prefix = ""): string[] {
    return this.#file.names.filter((name) => name.startsWith(prefix));
  }

  shape(name: string): readonly number[] {
    return this.#file.info(name).shape;
  }

  values(name: string): Float32Array {
    return toFloat32(this.#file.bytes(name), this.#file.info(name).dtype);
  }

  bytes(name: string): Uint8Array {
    return this.#file.bytes(name).slice();
  }

  integers(name: string): number[] {
    return Array.from(this.values(name));
  }

  tensor(device: Device, name: string, shape: readonly number[] = this.shape(name)): Tensor {
    return fromValues(device, this.values(name), shape);
  }

  /** The weights under a prefix, by their published names. */
  weights(prefix = "weights."): WeightReader {
    const file = this.#file;
    return {
      names: () => this.names(prefix).map((name) => name.slice(prefix.length)),
      find: (name) => {
        if (!file.has(prefix + name)) return undefined;
        return { ...file.info(prefix + name), bytes: () => file.bytes(prefix + name) };
      },
      [Symbol.dispose]() {},
    };
  }

  /** Compares an output with the file's `outputs.<name>`. */
  compare(name: string, actual: ArrayLike<number>): void {
    const key = `outputs.${name}`;
    const { dtype } = this.#file.info(key);
    const expected = this.values(key);
    this.#checked.add(key);
    if (dtype === "f32") {
      this.#checks.push({ output: name, error: relativeError(actual, expected), tolerance: this.tolerance(key) });
      return;
    }
    const wrong = expected.reduce((count, value, i) => count + (actual[i] === value ? 0 : 1), 0);
    this.#checks.push({
      output: name,
      error: actual.length === expected.length ? wrong : expected.length,
      tolerance: 0,
    });
  }

  /** Compares with `inputs.<name>`: what we prepare ourselves from a raw input, at the file's tolerance. */
  compareInput(name: string, actual: ArrayLike<number>): void {
    const key = `inputs.${name}`;
    this.#checks.push({ output: key, error: relativeError(actual, this.values(key)), tolerance: this.tolerance(key) });
  }

  async compareTensor(name: string, actual: Tensor): Promise<void> {
    this.compare(name, await actual.read());
  }

  tolerance(key: string): number {
    if (this.#override !== undefined) return this.#override;
    let longest = "";
    for (const prefix of this.#tolerances.keys()) {
      if (key.startsWith(prefix) && prefix.length > longest.length) longest = prefix;
    }
    return this.#tolerances.get(longest) ?? this.#tolerance;
  }

  /** All comparisons. Throws where an output of the file was compared with nothing. */
  finish(): Check[] {
    const forgotten = this.names("outputs.").filter((name) => !this.#checked.has(name));
    if (forgotten.length > 0) {
      throw new KinoraError("golden.unchecked", "outputs were not compared", {
        actual: forgotten.slice(0, 5).join(", "),
      });
    }
    return this.#checks;
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}
