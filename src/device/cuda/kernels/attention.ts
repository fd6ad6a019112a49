// Attention on the cuda device: flash on tensor cores where formats and sizes allow, exact kernels elsewhere.
import { elementCount } from "../../../base/shape.ts";
import type { AttentionOptions, Kernels, Operand } from "../../kernels.ts";
import { type CudaContext, dtypeCodes } from "../context.ts";
import type { Argument } from "../launch.ts";
import { int32s, writeInt64 } from "../structs.ts";

const EXACT = "attention";
const FLASH = "flash";
/** Queries or keys of a block on tensor cores. */
const ROWS = 64;
/** Rows of a stage of the backward kernels. */
const STAGE_ROWS = 32;
const THREADS = 128;
const FLOAT = 4;
const BF16 = 2;

/** The exact kernels' Sizes. */
function sizes(q: Operand, k: Operand, scale: number): Uint8Array {
  const [, queries, heads, depth] = q.shape as [number, number, number, number];
  const bytes = int32s([heads, queries, k.shape[1]!, depth, dtypeCodes[q.dtype], 0]);
  new DataView(bytes.buffer).setFloat32(20, scale, true);
  return bytes;
}

export function attentionKernels(ctx: CudaContext) {
  const { launcher } = ctx;
  const lengths = ({ keyLengths }: AttentionOptions) => ctx.table(Int32Array.from(keyLengths ?? []));
  /** They copy 16 bytes at a time. */
  const takesTensorCores = (q: Operand, ...others: Operand[]): boolean =>
    q.dtype === "bf16" &&
    (q.shape[3] === 64 || q.shape[3] === 128) &&
    [q, ...others].every((operand) => ctx.address(operand) % 16 === 0);
  /** The flash kernels' Backward. */
  const backward = (pointers: readonly number[], q: Operand, k: Operand, scale: number): Uint8Array => {
    const [, queries, heads] = q.shape as [number, number, number, number];
    const bytes = new Uint8Array(8 * pointers.length + 16);
    const view = new DataView(bytes.buffer);
    for (const [i, pointer] of pointers.entries()) writeInt64(view, 8 * i, pointer);
    bytes.set(int32s([heads, queries, k.shape[1]!]), 8 * pointers.length);
    view.setFloat32(bytes.length - 4, scale, true);
    return bytes;
  };
  return {
    attention(q, k, v, out, options, logSumExp) {
      const [batch, queries, heads, depth] = q.shape as [number, number, number, number];
      using table = lengths(options);
      const { bias, scale } = options;
      const common = [
        ...[q, k, v, out].map((operand) => ctx.address(operand)),
        ctx.optional(logSumExp),
        options.keyLengths ? ctx.address(table) : 0,
        ctx.optional(bias),
      ];
      if (takesTensorCores(q, k, v, out)) {
        const shared = 5 * ROWS * depth * BF16;
        const name = `flash_forward_${bias ? "bias_" : ""}${depth}`;
        const kernel = launcher.kernel(FLASH, name, "pppppppiiif", { threads: THREADS, shared });
        const grid = [Math.ceil(queries / ROWS), heads, batch] as const;
        launcher.launch(kernel, grid, ...common, heads, queries, k.shape[1]!, scale);
        return;
      }
      const shared = (2 * depth + THREADS + 32) * FLOAT;
      const kernel = launcher.kernel(EXACT, "attention_exact", "ppppppps", { threads: THREADS, shared });
      launcher.launch(kernel, [queries, heads, batch], ...common, sizes(q, k, scale));
    },
    attentionBackward({ q, k, v, out, logSumExp, dout }, options, { dq, dk, dv }) {
      const [batch, queries, heads, depth] = q.shape as [number, number, number, number];
      const keys = k.shape[1]!;
      const rows = batch * queries * heads;
      using table = lengths(options);
      using delta = ctx.temporary("f32", [Math.max(1, elementCount(logSumExp.shape))]);
      const sources = [out, dout, delta].map((operand) => ctx.address(operand));
      const inputs = [q, k, v, dout, logSumExp, delta].map((operand) => ctx.address(operand));
      const limits = options.keyLengths ? ctx.address(table) : 0;
      const run = (file: string, name: string, signature: string, shared: number, grid: number, values: Argument[]) => {
        const kernel = launcher.kernel(file, name, signature, { threads: THREADS, shared });
        launcher.launch(kernel, [grid, heads, batch], ...values);
      };
      if (takesTensorCores(q, k, v, out, dout) && !options.bias) {
        const sums = launcher.kernel(FLASH, `flash_delta_${depth}`, "pppiil", { threads: THREADS });
        launcher.launch(sums, Math.ceil((rows * depth) / (8 * THREADS)), ...sources, heads, queries, rows);
        const given = backward([...inputs, limits], q, k, options.scale);
        const tiles = (2 * ROWS + 4 * STAGE_ROWS) * depth * BF16;
        if (dq) {
          const values = [given, ctx.address(dq)];
          run(FLASH, `flash_backward_query_${depth}`, "sp", tiles, Math.ceil(queries / ROWS), values);
        }
        if (dk || dv) {
          const shared = tiles + 2 * 2 * STAGE_ROWS * FLOAT;
          const values = [given, ctx.optional(dk), ctx.optional(dv)];
          run(FLASH, `flash_backward_key_${depth}`, "spp", shared, Math.ceil(keys / ROWS), values);
        }
        return;
      }
      const size = sizes(q, k, options.scale);
      const sums = launcher.kernel(EXACT, "attention_delta", "pppsl", { threads: THREADS });
      launcher.launch(sums, Math.ceil(rows / 4), ...sources, size, rows);
      const common = [...inputs, limits, ctx.optional(options.bias)];
      if (dq) {
        const shared = (3 * depth + THREADS) * FLOAT;
        const values = [...common, ctx.address(dq), size];
        run(EXACT, "attention_backward_query", "ppppppppps", shared, queries, values);
      }
      if (dk || dv) {
        const shared = (4 * depth + 2 * THREADS) * FLOAT;
        const values = [...common, ctx.optional(dk), ctx.optional(dv), size];
        run(EXACT, "attention_backward_key", "pppppppppps", shared, keys, values);
      }
    },
  } satisfies Partial<Kernels>;
}
