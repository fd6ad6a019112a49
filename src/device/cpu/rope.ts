// Rotary position embedding, pairs of adjacent elements, in double arithmetic over float32 rows.
import { elementCount } from "../../base/shape.ts";
import { f32View } from "../host/host-views.ts";
import type { Kernels, Operand, RopeTable } from "../kernels.ts";
import { asFloat32, cast, float32Result } from "./cast.ts";
import { type CpuContext, slice } from "./context.ts";
import { eachRowChunk } from "./row-chunks.ts";

/**
 * Turns the pairs of one position's `heads` rows, which start at `at`, by its angles; `direction` −1 turns back. from may
 * be to. All heads of a pair are turned before the next: its sine and cosine are read once (15 against 20 ms for 12 M).
 */
function turn(
  from: Float32Array,
  to: Float32Array,
  at: number,
  heads: number,
  cos: Float32Array,
  sin: Float32Array,
  angles: number,
  half: number,
  direction: number,
): void {
  const depth = 2 * half;
  const end = at + heads * depth;
  for (let pair = 0; pair < half; pair++) {
    const c = cos[angles + pair]!;
    const s = direction * sin[angles + pair]!;
    for (let i = at + 2 * pair; i < end; i += depth) {
      const even = from[i]!;
      const odd = from[i + 1]!;
      to[i] = even * c - odd * s;
      to[i + 1] = even * s + odd * c;
    }
  }
}

function rope(ctx: CpuContext, x: Operand, table: RopeTable, out: Operand, inverse: boolean): void {
  const [batch, length, heads, depth] = x.shape as [number, number, number, number];
  if (elementCount(x.shape) === 0) return;
  const [cos, sin] = [f32View(table.cos), f32View(table.sin)];
  const half = depth / 2;
  const columns = heads * depth;
  const turned = Math.min(length, table.cos.shape[0]!);
  const direction = inverse ? -1 : 1;
  for (let item = 0; item < batch; item++) {
    const first = item * length;
    eachRowChunk(0, turned, columns, (start, count) => {
      const part = (operand: Operand): Operand => slice(operand, (first + start) * columns, [count, columns]);
      using source = asFloat32(ctx, part(x));
      using target = float32Result(ctx, part(out));
      const [values, results] = [f32View(source.operand), f32View(target.operand)];
      for (let l = 0; l < count; l++) {
        turn(values, results, l * columns, heads, cos, sin, (start + l) * half, half, direction);
      }
      target.store();
    });
    if (turned < length) {
      const rest = (operand: Operand) => slice(operand, (first + turned) * columns, [(length - turned) * columns]);
      cast(ctx, rest(x), rest(out));
    }
  }
}

export const ropeKernels = (ctx: CpuContext) =>
  ({
    rope: (x, table, out, options = {}) => rope(ctx, x, table, out, options.inverse === true),
  }) satisfies Partial<Kernels>;
