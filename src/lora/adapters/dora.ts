// DoRA: a low-rank change whose rows (or columns) are scaled to a trained magnitude (arXiv 2402.09353), over any kind that
// changes a weight. LyCORIS' files are applied as ComfyUI applies them, PEFT's as PEFT does; both are in use.
// https://github.com/Comfy-Org/ComfyUI/blob/a125cd8/comfy/weight_adapter/base.py (weight_decompose)
// https://github.com/huggingface/peft/blob/v0.17.0/src/peft/tuners/lora/dora.py
import { KinoraError } from "../../base/errors.ts";
import { elementCount } from "../../base/shape.ts";
import type { Adapter } from "../../nn/adapter.ts";
import { divide, multiply, permute, reshape, rmsNorm, scale, sum } from "../../tensor/ops/index.ts";
import { openScope } from "../../tensor/scope.ts";
import { empty, filled, type Tensor } from "../../tensor/tensor.ts";
import { fileTensor } from "../file-tensor.ts";
import { lycorisStem } from "../key-formats.ts";
import type { ModuleTensors } from "../module-tensors.ts";
import type { AdapterKind, Found } from "./kind.ts";
import { type LohaValues, loha } from "./loha.ts";
import { type LokrValues, lokr } from "./lokr.ts";
import { type LoraValues, lora } from "./lora.ts";
import { ownedFrom } from "./values.ts";

type Inner = LoraValues | LohaValues | LokrValues;

/**
 * Whose rule a file follows, W' the result at strength 1 and V = W + the inner change:
 * `rows`: V·m/‖W‖ by rows (ComfyUI's form of dora_scale [outputs, 1]); `columns`: V·m/‖V‖ by columns ([1, inputs]);
 * the strength then mixes W and W'. `peft`: V·m/‖V‖ by rows, the strength on the inner change.
 */
export type DoraRule = "rows" | "columns" | "peft";

export interface DoraValues {
  readonly kind: "dora";
  readonly inner: Inner;
  readonly rule: DoraRule;
  /** [outputs] or, of columns, [inputs] (a convolution's channels, without its kernel). */
  readonly magnitude: Float32Array;
  /** As in the file. */
  readonly shape: readonly number[];
}

/** torch.finfo(float32).eps, which ComfyUI adds to a norm. */
const FLOAT32_EPS = 2 ** -23;

/** ‖rows‖ of x [R, C] → [R, 1]. */
function rowNorms(x: Tensor): Tensor {
  const columns = x.shape[1]!;
  const unit = rmsNorm(x, filled(x.device, [columns], 1 / Math.sqrt(columns)), { eps: 1e-12, kind: "l2" });
  return sum(multiply(unit, x), [1]);
}

export class DoraAdapter implements Adapter {
  readonly #inner: Adapter;
  readonly #magnitude: Tensor;
  readonly #rule: DoraRule;
  readonly #strength: number;

  constructor(inner: Adapter, magnitude: Tensor, rule: DoraRule, strength: number) {
    this.#inner = inner;
    this.#magnitude = magnitude;
    this.#rule = rule;
    this.#strength = strength;
  }

  delta(total: Tensor): void {
    const { device } = total;
    using _scope = openScope(device);
    const changed = empty(device, total.shape, "f32");
    device.kernels.cast(total, changed);
    this.#inner.delta(changed);
    if (this.#rule === "peft") {
      device.kernels.cast(multiply(changed, divide(this.#column(), rowNorms(changed))), total);
      return;
    }
    const scaled = this.#rule === "rows" ? this.#byRows(total, changed) : this.#byColumns(changed);
    device.kernels.affine(total, 1 - this.#strength, scaled, this.#strength, total);
  }

  #column(): Tensor {
    return reshape(this.#magnitude, [this.#magnitude.size, 1]);
  }

  #byRows(before: Tensor, changed: Tensor): Tensor {
    return multiply(changed, divide(this.#column(), scale(rowNorms(before), 1, FLOAT32_EPS)));
  }

  #byColumns(changed: Tensor): Tensor {
    const [outputs, inputs] = changed.shape as [number, number];
    const channels = this.#magnitude.size;
    const kernel = inputs / channels;
    const split = reshape(changed, [outputs, channels, kernel]);
    const norms = rowNorms(reshape(permute(split, [1, 0, 2]), [channels, outputs * kernel]));
    const factors = reshape(divide(this.#column(), scale(norms, 1, FLOAT32_EPS)), [1, channels, 1]);
    return reshape(multiply(split, factors), changed.shape);
  }

  parameters(): Map<string, Tensor> {
    return new Map([...this.#inner.parameters(), ["magnitude", this.#magnitude]]);
  }

  [Symbol.dispose](): void {
    this.#inner[Symbol.dispose]();
    this.#magnitude[Symbol.dispose]();
  }
}

const innerKinds: readonly { find(module: ModuleTensors): Found<unknown>[] }[] = [lora, loha, lokr];

/** The row of an inner adapter, for its methods. */
const rowOf = (inner: Inner): AdapterKind<Inner> => ({ lora, loha, lokr })[inner.kind] as AdapterKind<Inner>;

export const dora = {
  label: "DoRA",
  parts: [
    [/\.dora_scale$/, "dora_scale"],
    [/\.lora_magnitude_vector(?:\.\w+)*$/, "magnitude"],
  ],
  find(module): Found<unknown>[] {
    const part = ["dora_scale", "magnitude"].find((name) => module.has(name));
    if (part === undefined) return [];
    const inner = innerKinds.flatMap((kind) => kind.find(module));
    const changed = inner.find(({ kind }) => kind !== "difference");
    if (!changed) return inner;
    const magnitude = module.take(part);
    const { shape } = magnitude;
    const [outputs, inputs] = changed.place.shape as readonly [number, number];
    const count = elementCount(shape);
    const rule: DoraRule = part === "magnitude" ? "peft" : shape[0] === outputs ? "rows" : "columns";
    if (rule === "columns" ? inputs % Math.max(1, count) !== 0 : count !== outputs) {
      module.refuse([magnitude], `a magnitude for each of ${outputs} outputs or ${inputs} inputs`);
      return inner;
    }
    const { place, rank, alpha, tensors } = changed;
    const found: Found<DoraValues> = {
      kind: "dora",
      place,
      ...(rank === undefined ? {} : { rank }),
      ...(alpha === undefined ? {} : { alpha }),
      tensors: [...tensors, magnitude.name],
      load: () => ({ kind: "dora", inner: changed.load() as Inner, rule, magnitude: magnitude.values(), shape }),
    };
    return inner.map((entry) => (entry === changed ? found : entry));
  },
  place: ({ inner }) => rowOf(inner).place(inner),
  attach(seam, { inner, rule, magnitude }, strength) {
    const attached = rowOf(inner).attach(seam, inner, rule === "peft" ? strength : 1);
    return new DoraAdapter(
      attached,
      ownedFrom(seam.device, `${inner.module}.magnitude`, magnitude, [magnitude.length]),
      rule,
      strength,
    );
  },
  tensors({ inner, rule, magnitude, shape }, format, options) {
    if (rule === "peft") {
      throw new KinoraError(
        "lora.no-form",
        `${inner.module} is PEFT's variant of DoRA, which no other format can hold`,
        {
          hint: "use the file as it is, merge it into the model, or leave the module out with `exclude`",
        },
      );
    }
    const stem = lycorisStem(format, inner.module, "DoRA");
    return [
      ...rowOf(inner).tensors(inner, format, options),
      fileTensor(`${stem}.dora_scale`, shape, () => magnitude, options),
    ];
  },
  // Its magnitudes change the weight even where the inner change is nothing.
  strength: ({ inner }) => rowOf(inner).strength(inner) || Number.EPSILON,
} satisfies AdapterKind<DoraValues>;
