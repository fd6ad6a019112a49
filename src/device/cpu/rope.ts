// Rotary position embedding, pairs of adjacent elements, in loops: a head's row is turned in double arithmetic.
import { elementCount } from "../../base/dtype.ts";
import { f32View, view } from "../host-views.ts";
import type { Kernels, Operand, RopeTable } from "../kernels.ts";
import { asFloat32, cast, float32Result } from "./cast.ts";
import { type CpuContext, slice } from "./context.ts";
import { eachRowChunk } from "./row-chunks.ts";

/** Turns the pairs of `heads` rows from `at` by one position's angles; `direction` −1 turns back. from may be to. */
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
  for (let head = 0; head < heads; head++) {
    for (let pair = 0; pair < half; pair++, at += 2) {
      const c = cos[angles + pair]!;
      const s = direction * sin[angles + pair]!;
      const even = from[at]!;
      const odd = from[at + 1]!;
      to[at] = even * c - odd * s;
      to[at + 1] = even * s + odd * c;
    }
  }
}

/** bf16 pairs as 32-bit words: widened, turned and rounded a position at a time, in one pass over memory. */
function turnBf16(
  from: Uint32Array,
  to: Uint32Array,
  position: number,
  heads: number,
  cos: Float32Array,
  sin: Float32Array,
  angles: number,
  half: number,
  direction: number,
  row: Float32Array,
): void {
  const bits = new Int32Array(row.buffer);
  const words = heads * half;
  const start = position * words;
  for (let i = 0; i < words; i++) {
    const word = from[start + i]!;
    bits[2 * i] = word << 16;
    bits[2 * i + 1] = word & 0xffff0000;
  }
  turn(row, row, 0, heads, cos, sin, angles, half, direction);
  for (let i = 0; i < words; i++) {
    const low = bits[2 * i]!;
    const high = bits[2 * i + 1]!;
    to[start + i] = ((low + 0x7fff + ((low >>> 16) & 1)) >>> 16) | ((high + 0x7fff + ((high >>> 16) & 1)) & 0xffff0000);
  }
}

/** An operand's pairs of bf16 as words, where it is aligned for that. */
function words(operand: Operand): Uint32Array | undefined {
  const halves = view(operand) as Uint16Array;
  return halves.byteOffset % 4 === 0
    ? new Uint32Array(halves.buffer, halves.byteOffset, halves.length >>> 1)
    : undefined;
}

function rope(ctx: CpuContext, x: Operand, table: RopeTable, out: Operand, inverse: boolean): void {
  const [batch, length, heads, depth] = x.shape as [number, number, number, number];
  if (elementCount(x.shape) === 0) return;
  const [cos, sin] = [f32View(table.cos), f32View(table.sin)];
  const half = depth / 2;
  const columns = heads * depth;
  const turned = Math.min(length, table.cos.shape[0]!);
  const direction = inverse ? -1 : 1;
  const bf16 = x.dtype === "bf16" && out.dtype === "bf16";
  const [from, to] = bf16 ? [words(x), words(out)] : [undefined, undefined];
  const row = new Float32Array(columns);
  for (let item = 0; item < batch; item++) {
    const first = item * length;
    if (from && to) {
      for (let l = 0; l < turned; l++) {
        turnBf16(from, to, first + l, heads, cos, sin, l * half, half, direction, row);
      }
    } else {
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
    }
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
