// Weights into 8 bits and back. The granularity is a run of elements in row-major order, whatever the scale's shape.

import { roundHalfEven } from "../../base/round.ts";
import { elementCount } from "../../base/shape.ts";
import { f32View, i8View, view } from "../host/host-views.ts";
import type { Kernels, Operand } from "../kernels.ts";
import { largest } from "../reference/quantization.ts";
import { asFloat32 } from "./cast.ts";
import { type CpuContext, slice } from "./context.ts";
import { roundToF8 } from "./narrow-floats.ts";
import { dequantize } from "./quantized-weight.ts";
import { eachRowChunk } from "./row-chunks.ts";

/** Visits the elements `[start, start + count)` of x as float32, a chunk at a time. */
function eachFloatChunk(
  ctx: CpuContext,
  x: Operand,
  start: number,
  count: number,
  visit: (values: Float32Array, at: number) => void,
): void {
  eachRowChunk(start, count, 1, (at, length) => {
    using wide = asFloat32(ctx, slice(x, at, [length]));
    visit(f32View(wide.operand), at);
  });
}

function quantize(ctx: CpuContext, x: Operand, data: Operand, scale: Operand): void {
  const count = elementCount(x.shape);
  const scales = f32View(scale);
  const span = count / scales.length;
  const dtype = data.dtype as keyof typeof largest;
  const top = largest[dtype];
  const ratios = new Float32Array(Math.min(count, 1 << 18));
  const bits = new Uint32Array(ratios.buffer);
  for (let group = 0; group < scales.length; group++) {
    let magnitude = 0;
    eachFloatChunk(ctx, x, group * span, span, (values) => {
      for (let i = 0; i < values.length; i++) {
        const size = Math.abs(values[i]!);
        if (size > magnitude) magnitude = size;
      }
    });
    const unit = magnitude === 0 ? 1 : Math.fround(magnitude / top);
    scales[group] = unit;
    eachFloatChunk(ctx, x, group * span, span, (values, at) => {
      const length = values.length;
      const target = slice(data, at, [length]);
      const ratio = (i: number): number => Math.min(top, Math.max(-top, values[i]! / unit));
      if (dtype === "i8") {
        const codes = i8View(target);
        for (let i = 0; i < length; i++) codes[i] = roundHalfEven(ratio(i));
      } else {
        for (let i = 0; i < length; i++) ratios[i] = ratio(i);
        roundToF8(dtype, bits.subarray(0, length), view(target) as Uint8Array);
      }
    });
  }
}

export const quantizationKernels = (ctx: CpuContext) =>
  ({
    quantize: (x, data, scale) => quantize(ctx, x, data, scale),
    dequantize: (data, scale, out, blocks) => dequantize(ctx, data, scale, out, blocks),
  }) satisfies Partial<Kernels>;
