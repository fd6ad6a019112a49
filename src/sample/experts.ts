// The transformer of the moment, with its LoRAs on. One at a time: the idle expert is not in memory.
import { elementCount } from "../base/shape.ts";
import type { Device } from "../device/device.ts";
import { type AttachedLora, attachLora } from "../lora/attach.ts";
import { readLora } from "../lora/read.ts";
import type { WanDit } from "../models/wan/dit/dit.ts";
import { loadDit } from "../models/wan/load.ts";
import type { DitConfig } from "../models/wan/params.ts";
import type { Expert } from "../models/wan/recognize.ts";
import { ditShapes } from "../models/wan/weight-shapes.ts";
import type { BlockMemory } from "../nn/residency.ts";
import type { ResolvedLora } from "./lora-files.ts";

export interface ExpertOptions {
  config: DitConfig;
  dtype: "f32" | "bf16";
  loras: readonly ResolvedLora[];
  /** How much of the transformer's blocks is in memory at once; all where absent. */
  blocks?: BlockMemory | undefined;
  /** Called as each parameter is loaded; loading is one piece of work. */
  loaded?: ((bytes: number) => void) | undefined;
}

/** Weights widened and in the device's own layout are copies: worth it up to this share of all the device's memory. */
const PACKED_SHARE = 0.4;

export class Experts implements Disposable {
  readonly #device: Device;
  readonly #files: { high?: string; low: string };
  readonly #options: ExpertOptions;
  #loaded: { which: Expert; model: WanDit; loras: AttachedLora[] } | undefined;

  constructor(device: Device, files: { high?: string; low: string }, options: ExpertOptions) {
    this.#device = device;
    this.#files = files;
    this.#options = options;
  }

  /** The expert in memory. */
  get which(): Expert | undefined {
    return this.#loaded?.which;
  }

  /** The transformer of an expert; loads it, and frees the other first, where it is not the one in memory. */
  get(which: Expert): WanDit {
    if (this.#loaded?.which === which) return this.#loaded.model;
    this[Symbol.dispose]();
    const { config, dtype, loras, blocks, loaded } = this.#options;
    const pack = packsWeights(this.#device, config, dtype);
    const path = which === "high" ? (this.#files.high ?? this.#files.low) : this.#files.low;
    const model = loadDit(this.#device, path, {
      dtype,
      // Quantised weights cost a conversion at every use; they stay so where memory asks for it.
      keepQuantized: !pack,
      pack,
      blocks,
      ...(loaded ? { loaded: (_name, bytes) => loaded(bytes) } : {}),
    });
    const entry = { which, model, loras: [] as AttachedLora[] };
    this.#loaded = entry;
    for (const lora of loras) {
      // A strength of 0 must leave every bit as it is.
      if (lora.strength === 0 || (lora.expert !== "both" && lora.expert !== which)) continue;
      const adapters = readLora(lora.path, { expert: which, exclude: lora.exclude });
      entry.loras.push(attachLora(model, adapters, lora.strength));
    }
    return model;
  }

  [Symbol.dispose](): void {
    for (const lora of this.#loaded?.loras ?? []) lora[Symbol.dispose]();
    this.#loaded?.model[Symbol.dispose]();
    this.#loaded = undefined;
  }
}

/** Decided by what does not change from run to run, since it may change the last bits of results. */
function packsWeights(device: Device, config: DitConfig, dtype: "f32" | "bf16"): boolean {
  let elements = 0;
  for (const shape of ditShapes(config).values()) elements += elementCount(shape);
  return elements * (dtype === "f32" ? 4 : 2) <= PACKED_SHARE * device.capacity().total;
}
