// Weights in 8 bits or in blocks, with float32 scales: per tensor, per output channel, or per block of inputs.
import { type BlockFormat, widenBlocks } from "../../base/block-format.ts";
import { roundHalfEven } from "../../base/round.ts";
import { elementCount } from "../../base/shape.ts";
import { u8View } from "../host/host-views.ts";
import type { Kernels, Operand } from "../kernels.ts";
import { openOutput, read, type Values } from "./values.ts";

/** Elements that share one scale: all granularities are runs of this length in row-major order. */
const span = (data: Operand, scale: Operand): number => elementCount(data.shape) / elementCount(scale.shape);

function widened(data: Operand, blocks: BlockFormat): Values {
  const bytes = u8View(data);
  const values = new Float32Array((bytes.length / blocks.bytes) * blocks.elements);
  widenBlocks(blocks, bytes, values);
  return Float64Array.from(values);
}

/** The largest value of each format, which the largest magnitude of a span is mapped to. */
export const largest = { f8e4m3: 448, f8e5m2: 57344, i8: 127 } as const;

/** data·scale. */
export function dequantized(data: Operand, scale: Operand | undefined, blocks?: BlockFormat): Values {
  const values = blocks ? widened(data, blocks) : read(data);
  if (!scale) return values;
  const scales = read(scale);
  const length = values.length / scales.length;
  const result = new Float64Array(values.length);
  for (let i = 0; i < values.length; i++) result[i] = values[i]! * scales[Math.floor(i / length)]!;
  return result;
}

export const quantizationKernels = {
  quantize(x, data, scale) {
    const values = read(x);
    const target = openOutput(data);
    const scales = openOutput(scale);
    const length = span(data, scale);
    const top = largest[data.dtype as keyof typeof largest];
    for (let group = 0; group < scales.values.length; group++) {
      const [start, end] = [group * length, (group + 1) * length];
      let magnitude = 0;
      for (let i = start; i < end; i++) magnitude = Math.max(magnitude, Math.abs(values[i]!));
      const unit = magnitude === 0 ? 1 : Math.fround(magnitude / top);
      scales.values[group] = unit;
      for (let i = start; i < end; i++) {
        const ratio = Math.min(top, Math.max(-top, values[i]! / unit));
        target.values[i] = data.dtype === "i8" ? roundHalfEven(ratio) : ratio;
      }
    }
    target.store();
    scales.store();
  },

  dequantize(data, scale, out, blocks) {
    const target = openOutput(out);
    target.values.set(dequantized(data, scale, blocks));
    target.store();
  },
} satisfies Partial<Kernels>;
