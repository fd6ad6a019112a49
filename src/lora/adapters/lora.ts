// LoRA: W + α/rank · up·down (Hu et al., arXiv 2106.09685), in the names of kohya/musubi, ComfyUI, diffusers, DiffSynth.
import { z } from "zod";
import type { Device } from "../../device/device.ts";
import type { Adapter } from "../../nn/adapter.ts";
import { cast, linear, multiply } from "../../tensor/ops/index.ts";
import { openScope } from "../../tensor/scope.ts";
import { ownedEmpty, type Tensor } from "../../tensor/tensor.ts";
import { fileTensor, scalarTensor } from "../file-tensor.ts";
import { formatHasAlpha, type LoraFormat, stemOf } from "../key-formats.ts";
import { type DifferenceValues, foundDifference } from "./difference.ts";
import type { Dropout, Found, TrainableKind } from "./kind.ts";
import { norm, ownedFrom } from "./values.ts";

/** One adapter as values: y += strength·(alpha/rank)·up(down(x)). */
export interface LoraValues {
  readonly kind: "lora";
  /** The Linear's official name, e.g. `blocks.0.self_attn.q`. */
  readonly module: string;
  readonly rank: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly alpha: number;
  /** [rank, inputs] */
  readonly down: Float32Array;
  /** [outputs, rank] */
  readonly up: Float32Array;
}

export class LoraAdapter implements Adapter {
  /** [rank, K] */
  readonly #down: Tensor;
  /** [N, rank] */
  readonly #up: Tensor;
  /** strength · alpha / rank */
  readonly #scale: number;
  readonly #dropout: Dropout | undefined;

  constructor(down: Tensor, up: Tensor, scale: number, dropout?: Dropout) {
    this.#down = down;
    this.#up = up;
    this.#scale = scale;
    this.#dropout = dropout;
  }

  apply(x: Tensor, addend: Tensor | undefined): Tensor {
    const hidden = linear(x, cast(this.#down, x.dtype));
    const mask = this.#dropout?.(hidden.shape, hidden.dtype);
    return linear(mask ? multiply(hidden, mask) : hidden, cast(this.#up, x.dtype), {
      scale: this.#scale,
      ...(addend ? { residual: addend } : {}),
    });
  }

  delta(total: Tensor): void {
    const { kernels } = total.device;
    using _scope = openScope(total.device);
    kernels.matmul(cast(this.#up, "f32"), cast(this.#down, "f32"), total, { scale: this.#scale, accumulate: true });
  }

  parameters(): Map<string, Tensor> {
    return new Map([
      ["down", this.#down],
      ["up", this.#up],
    ]);
  }

  [Symbol.dispose](): void {
    for (const tensor of [this.#down, this.#up]) {
      tensor.clearGradient();
      tensor[Symbol.dispose]();
    }
  }
}

const endings: Record<LoraFormat, readonly [down: string, up: string]> = {
  kohya: [".lora_down.weight", ".lora_up.weight"],
  peft: [".lora_A.weight", ".lora_B.weight"],
  diffusers: [".lora_A.weight", ".lora_B.weight"],
  diffsynth: [".lora_A.default.weight", ".lora_B.default.weight"],
};

/** The names of a module's matrices and, where the format has one, of its α. Throws `lora.unknown-module`. */
export function loraNames(format: LoraFormat, module: string): { down: string; up: string; alpha?: string } {
  const stem = stemOf(format, module);
  const [down, up] = endings[format];
  return { down: stem + down, up: stem + up, ...(formatHasAlpha[format] ? { alpha: `${stem}.alpha` } : {}) };
}

function emptyPair(device: Device, { inputs, outputs }: { inputs: number; outputs: number }, rank: number) {
  return {
    down: ownedEmpty(device, [rank, inputs], "f32", "weights"),
    up: ownedEmpty(device, [outputs, rank], "f32", "weights"),
  };
}

export const lora = {
  label: "LoRA",
  // Where PEFT puts an adapter's name between, any single word is allowed: `bias` comes first, which is none.
  parts: [
    [/\.(?:lora_B(?:\.\w+)??|lora_up)\.bias$/, "up_bias"],
    [
      /(?:\.lora_down\.weight|\.lora_A(?:\.\w+)??(?:\.weight)?|[._]lora\.down\.weight|\.lora_linear_layer\.down\.weight)$/,
      "down",
    ],
    [
      /(?:\.lora_up\.weight|\.lora_B(?:\.\w+)??(?:\.weight)?|[._]lora\.up\.weight|\.lora_linear_layer\.up\.weight)$/,
      "up",
    ],
    [/\.alpha$/, "alpha"],
  ],
  help: "a low-rank change beside each weight",
  settings: z.strictObject({
    rank: z.int().min(1).max(16_384).default(32).describe("width of the two matrices"),
    alpha: z.number().positive().max(1e6).describe("the change is scaled by alpha/rank"),
    dropout: z.number().min(0).lt(1).default(0).describe("dropout: share of hidden values dropped in each step"),
    rslora: z.boolean().default(false).describe("scale by alpha/√rank instead (rank-stabilised)"),
    plus_ratio: z
      .number()
      .positive()
      .max(1000)
      .default(1)
      .describe("learning rate of the up matrices as a multiple of the others' (LoRA+)"),
  }),
  presets: { alpha: "the rank" },
  find(module): Found<LoraValues | DifferenceValues>[] {
    if (!module.has("down", "up")) return [];
    const down = module.take("down");
    const up = module.take("up");
    const [rank, inputs] = down.matrix ?? [];
    // A convolution's up matrix ends in ones.
    const [outputs, width] = up.matrix ?? [];
    if (rank === undefined || inputs === undefined || outputs === undefined || width !== rank) {
      module.refuse([down, up], "[rank, inputs] and [outputs, rank]");
      return [];
    }
    const { alpha, tensors } = module.alpha(rank);
    // PEFT's lora_bias: a bias of the up matrix, scaled with it.
    const bias = module.has("up_bias")
      ? foundDifference(module, "up_bias", "bias", { scale: alpha / rank })
      : undefined;
    return [
      ...(bias ? [bias] : []),
      {
        kind: "lora",
        place: { parameter: `${module.module}.weight`, shape: [outputs, inputs] },
        rank,
        alpha,
        tensors: [down.name, up.name, ...tensors],
        load: (): LoraValues => ({
          kind: "lora",
          module: module.module,
          rank,
          inputs,
          outputs,
          alpha,
          down: down.values(),
          up: up.values(),
        }),
      },
    ];
  },
  place: ({ module, inputs, outputs }) => ({ parameter: `${module}.weight`, shape: [outputs, inputs] }),
  attach({ device }, { module, rank, inputs, outputs, alpha, down, up }, strength) {
    const name = (part: string) => `${module}.${part}`;
    return new LoraAdapter(
      ownedFrom(device, name("down"), down, [rank, inputs]),
      ownedFrom(device, name("up"), up, [outputs, rank]),
      (strength * alpha) / rank,
    );
  },
  tensors({ module, rank, inputs, outputs, alpha, ...matrices }, format, options) {
    const names = loraNames(format, module);
    const scale = formatHasAlpha[format] ? 1 : alpha / rank;
    return [
      fileTensor(names.down, [rank, inputs], () => matrices.down, options),
      fileTensor(names.up, [outputs, rank], () => matrices.up, options, scale),
      ...(names.alpha === undefined ? [] : [scalarTensor(names.alpha, alpha)]),
    ];
  },
  strength: ({ rank, alpha, down, up }) => ((alpha / rank) * norm(down) * norm(up)) / Math.sqrt(rank),
  /**
   * Down Kaiming-uniform with a = √5, that is U(−1/√inputs, 1/√inputs); up zero, so that training starts from the base
   * model (kohya's initialisation).
   */
  fresh(layer, { rank, alpha, dropout }, uniform) {
    const { down, up } = emptyPair(layer.device, layer, rank);
    const bound = 1 / Math.sqrt(layer.inputs);
    // A device that only counts keeps no values, and a plan of a large model would spend its time drawing them.
    if (layer.device.computes) down.write(uniform(rank * layer.inputs).map((value) => (2 * value - 1) * bound));
    layer.device.kernels.fill(up, 0);
    return new LoraAdapter(down.requireGradient(), up.requireGradient(), alpha / rank, dropout);
  },
  trained: ["down", "up"],
  faster: ["up"],
  fromTrained(module, alpha, part) {
    const [down, up] = [part("down"), part("up")];
    const [rank, inputs] = down.shape as [number, number];
    return {
      kind: "lora",
      module,
      rank,
      inputs,
      outputs: up.shape[0]!,
      alpha,
      // Read as they are written: a run's state may be larger than memory.
      get down() {
        return down.values();
      },
      get up() {
        return up.values();
      },
    };
  },
} satisfies TrainableKind<LoraValues, z.ZodObject>;
