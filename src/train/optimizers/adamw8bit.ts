// AdamW with moments in 8 bits (Dettmers et al., arXiv 2110.02861): a code per element, a float32 scale per 256 of them.
// Small parameters keep float32 moments, as in bitsandbytes (min_8bit_size).
import type { Device } from "../../device/device.ts";
import { ownedEmpty, type Tensor } from "../../tensor/tensor.ts";
import { AdamW, type AdamWSettings, adamwOptions } from "./adamw.ts";
import { globalNorm, type Optimizer } from "./optimizer.ts";

/** Elements that share a scale; see device/kernels.ts. */
const BLOCK = 256;
/** https://github.com/bitsandbytes-foundation/bitsandbytes/blob/0.45.0/bitsandbytes/optim/optimizer.py (min_8bit_size) */
export const SMALLEST_8BIT = 4096;

interface Codes {
  m: Tensor;
  mScale: Tensor;
  v: Tensor;
  vScale: Tensor;
}

export class AdamW8bit implements Optimizer {
  readonly settings: AdamWSettings;
  readonly parameters: ReadonlyMap<string, Tensor>;
  readonly #device: Device;
  readonly #codes = new Map<string, Codes>();
  readonly #small: AdamW;

  constructor(device: Device, parameters: ReadonlyMap<string, Tensor>, settings: AdamWSettings) {
    this.#device = device;
    this.parameters = parameters;
    this.settings = settings;
    const small = [...parameters].filter(([, parameter]) => parameter.size < SMALLEST_8BIT);
    this.#small = new AdamW(device, new Map(small), settings);
    for (const [name, parameter] of parameters) {
      if (parameter.size < SMALLEST_8BIT) continue;
      const make = (count: number, dtype: "u8" | "f32") => {
        const tensor = ownedEmpty(device, [count], dtype, "optimizer");
        // A scale of 0 makes every code 0.
        tensor.writeBytes(new Uint8Array(tensor.byteLength));
        return tensor;
      };
      const scales = Math.ceil(parameter.size / BLOCK);
      const { size } = parameter;
      this.#codes.set(name, {
        m: make(size, "u8"),
        mScale: make(scales, "f32"),
        v: make(size, "u8"),
        vScale: make(scales, "f32"),
      });
    }
  }

  get step(): number {
    return this.#small.step;
  }

  set step(value: number) {
    this.#small.step = value;
  }

  gradientNorm(): Promise<number> {
    return globalNorm(this.#device, this.parameters);
  }

  update(learningRate: number, gradientScale = 1): void {
    this.#small.update(learningRate, gradientScale);
    const options = adamwOptions(this.settings, this.step, learningRate, gradientScale);
    for (const [name, state] of this.#codes) {
      const parameter = this.parameters.get(name)!;
      const { gradient } = parameter;
      if (!gradient) continue;
      this.#device.kernels.adamw8bit(parameter, gradient, state, options);
      parameter.clearGradient();
    }
  }

  state(): Map<string, Tensor> {
    const entries = [...this.#codes].flatMap(([name, codes]) =>
      Object.entries(codes).map(([part, tensor]) => [`${name}.${part}`, tensor as Tensor] as const),
    );
    return new Map([...this.#small.state(), ...entries]);
  }

  [Symbol.dispose](): void {
    this.#small[Symbol.dispose]();
    for (const codes of this.#codes.values()) {
      for (const tensor of [codes.m, codes.mScale, codes.v, codes.vScale]) tensor[Symbol.dispose]();
    }
    this.#codes.clear();
  }
}
