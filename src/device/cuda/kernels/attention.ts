// Attention on the cuda device: flash on tensor cores where formats and sizes allow, exact kernels elsewhere.
import { elementCount } from "../../../base/shape.ts";
import type { AttentionOptions, Kernels, Operand } from "../../kernels.ts";
import { type CudaContext, dtypeCodes } from "../context.ts";

const FILE = "attention";
const QUERIES = 64;
const THREADS = 128;
const FLOAT = 4;

/** The kernels' Sizes. */
function sizes(q: Operand, k: Operand, scale: number): Uint8Array {
  const [, queries, heads, depth] = q.shape as [number, number, number, number];
  const bytes = new Uint8Array(24);
  const view = new DataView(bytes.buffer);
  const values = [heads, queries, k.shape[1]!, depth, dtypeCodes[q.dtype]];
  for (const [i, value] of values.entries()) view.setInt32(4 * i, value, true);
  view.setFloat32(20, scale, true);
  return bytes;
}

const takesFlash = (q: Operand, { bias }: AttentionOptions): boolean =>
  q.dtype === "bf16" && (q.shape[3] === 64 || q.shape[3] === 128) && bias === undefined;

export function attentionKernels(ctx: CudaContext) {
  const { launcher } = ctx;
  const lengths = ({ keyLengths }: AttentionOptions) => ctx.table(Int32Array.from(keyLengths ?? []));
  return {
    attention(q, k, v, out, options, logSumExp) {
      const [batch, queries, heads, depth] = q.shape as [number, number, number, number];
      using table = lengths(options);
      const limits = options.keyLengths ? ctx.address(table) : 0;
      const operands = [q, k, v, out].map((operand) => ctx.address(operand));
      if (takesFlash(q, options)) {
        const shared = 5 * QUERIES * depth * 2;
        const kernel = launcher.kernel(FILE, `flash_forward_${depth}`, "ppppppiiif", { threads: THREADS, shared });
        const values = [...operands, ctx.optional(logSumExp), limits, heads, queries, k.shape[1]!, options.scale];
        launcher.launch(kernel, [Math.ceil(queries / QUERIES), heads, batch], ...values);
        return;
      }
      const shared = (2 * depth + THREADS + 32) * FLOAT;
      const kernel = launcher.kernel(FILE, "attention_exact", "ppppppps", { threads: THREADS, shared });
      const values = [
        ...operands,
        ctx.optional(logSumExp),
        limits,
        ctx.optional(options.bias),
        sizes(q, k, options.scale),
      ];
      launcher.launch(kernel, [queries, heads, batch], ...values);
    },
    attentionBackward({ q, k, v, out, logSumExp, dout }, options, { dq, dk, dv }) {
      const [batch, queries, heads, depth] = q.shape as [number, number, number, number];
      const rows = batch * queries * heads;
      const size = sizes(q, k, options.scale);
      using table = lengths(options);
      using delta = ctx.temporary("f32", [Math.max(1, elementCount(logSumExp.shape))]);
      const sums = launcher.kernel(FILE, "attention_delta", "pppsl", { threads: THREADS });
      launcher.launch(sums, Math.ceil(rows / 4), ctx.address(out), ctx.address(dout), ctx.address(delta), size, rows);
      const inputs = [q, k, v, dout, logSumExp, delta].map((operand) => ctx.address(operand));
      const limits = options.keyLengths ? ctx.address(table) : 0;
      const common = [...inputs, limits, ctx.optional(options.bias)];
      if (dq) {
        const shared = (3 * depth + THREADS) * FLOAT;
        const kernel = launcher.kernel(FILE, "attention_backward_query", "ppppppppps", { threads: THREADS, shared });
        launcher.launch(kernel, [queries, heads, batch], ...common, ctx.address(dq), size);
      }
      if (dk || dv) {
        const shared = (4 * depth + 2 * THREADS) * FLOAT;
        const kernel = launcher.kernel(FILE, "attention_backward_key", "pppppppppps", { threads: THREADS, shared });
        launcher.launch(kernel, [k.shape[1]!, heads, batch], ...common, ctx.optional(dk), ctx.optional(dv), size);
      }
    },
  } satisfies Partial<Kernels>;
}
