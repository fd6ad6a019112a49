// A transformer set up for training: its weights in the form asked for, what trains in it, and the optimizer.
import type { Device } from "../../device/device.ts";
import { trainableKinds } from "../../lora/adapters/table.ts";
import { type AttachedLora, freshLora } from "../../lora/attach.ts";
import { selectsLinear } from "../../lora/targets.ts";
import { openTransformer } from "../../models/wan/check-files.ts";
import type { WanDit } from "../../models/wan/dit/dit.ts";
import { fp8BlockScale } from "../../models/wan/fp8-blocks.ts";
import { buildDit } from "../../models/wan/load.ts";
import type { DitConfig, WanModel } from "../../models/wan/params.ts";
import type { Expert } from "../../models/wan/recognize.ts";
import type { LoadOptions, WeightReader } from "../../nn/weights.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { TrainSettings } from "../config/settings.ts";
import { withEma } from "../optimizers/ema.ts";
import { createOptimizer } from "../optimizers/index.ts";
import type { Optimizer } from "../optimizers/optimizer.ts";
import { drawUniforms } from "../step/draws.ts";
import type { LoraDropout } from "../step/dropout.ts";

/** What of the settings decides a model in memory. */
export type ExpertSettings = Pick<
  TrainSettings,
  "kind" | "model" | "base" | "dtype" | "blocks" | "lora" | "optimizer" | "ema" | "seed"
>;

/** Trains where it has an optimizer; else it is only run (previews of a model whose other expert trains). */
export interface ExpertModel extends Disposable {
  readonly expert: Expert;
  readonly dit: WanDit;
  readonly training?: {
    readonly parameters: ReadonlyMap<string, Tensor>;
    readonly optimizer: Optimizer;
    readonly lora?: AttachedLora;
  };
}

/** A transformer's weights, wherever they come from. */
export interface DitSource {
  reader: WeightReader;
  config: DitConfig;
}

/** Opens a file as the transformer of `model`. Throws `checkpoint.wrong-model`, `weights.*`, `io.*`. */
export function openDitFile(path: string, model: WanModel): DitSource {
  const { reader, recognized } = openTransformer(path, model);
  return { reader, config: { ...recognized.config, textLength: model.dit.textLength } };
}

const experts = { low: 0, high: 1 } as const;

/**
 * Sets an expert up from `source`, which it owns; weights go to the device one by one. `dropout` is asked for each
 * adapter's seam.
 */
export function openExpert(
  device: Device,
  settings: ExpertSettings,
  expert: Expert,
  source: DitSource,
  options: { train: boolean; dropout?: LoraDropout; loaded?: LoadOptions["loaded"] },
): ExpertModel {
  const { kind, base, dtype, lora, blocks } = settings;
  const trainsWeights = options.train && kind === "full";
  const { dit, weights } = buildDit(device, source.reader, source.config, {
    dtype,
    ...(options.loaded ? { loaded: options.loaded } : {}),
    ...(trainsWeights ? { trainable: true } : { keepQuantized: base === "fp8", blocks }),
    ...(base === "fp8" ? { quantize: fp8BlockScale } : {}),
  });
  const owned: Disposable[] = [dit];
  try {
    const free = () => {
      for (const item of owned.splice(0).reverse()) item[Symbol.dispose]();
    };
    if (!options.train) return { expert, dit, [Symbol.dispose]: free };
    const adapters = trainsWeights ? undefined : freshAdapters(dit, lora, settings.seed, expert, options.dropout);
    if (adapters) owned.push(adapters);
    const parameters = adapters?.parameters() ?? weights.parameters;
    const context = { device, parameters, ...(adapters ? { rateOf: rateOf(lora) } : {}) };
    const plain = createOptimizer(context, settings.optimizer);
    const optimizer = settings.ema ? withEma(context, plain, settings.ema) : plain;
    owned.push(optimizer);
    return {
      expert,
      dit,
      training: { parameters, optimizer, ...(adapters ? { lora: adapters } : {}) },
      [Symbol.dispose]: free,
    };
  } catch (error) {
    for (const item of owned.reverse()) item[Symbol.dispose]();
    throw error;
  }
}

/** LoRA+: some parts of an adapter have a learning rate of their own. */
function rateOf({ kind, plus_ratio }: TrainSettings["lora"]): (name: string) => number {
  const { faster }: { faster?: readonly string[] } = trainableKinds[kind];
  return (name) => (faster?.some((part) => name.endsWith(`.${part}`)) ? plus_ratio : 1);
}

function freshAdapters(
  dit: WanDit,
  { kind, rank, alpha, targets, dropout: rate }: TrainSettings["lora"],
  seed: bigint,
  expert: Expert,
  dropout: LoraDropout | undefined,
): AttachedLora {
  const options = { kind, rank, alpha, select: selectsLinear(targets) };
  const uniform = (count: number, module: number) =>
    drawUniforms(seed, "initialization", count, module, experts[expert]);
  return freshLora(
    dit.linears(),
    dropout && rate > 0 ? { ...options, dropout: (module) => dropout.of(module) } : options,
    uniform,
  );
}
