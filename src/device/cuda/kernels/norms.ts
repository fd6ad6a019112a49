// Norms and softmax on the cuda device, forward and backward.
import { lastOf, rowsOf } from "../../check-operands.ts";
import type { Kernels, ModulatedNorm, Operand } from "../../kernels.ts";
import { type CudaContext, dtypeCodes } from "../context.ts";
import { writeInt64 } from "../structs.ts";
import { typed } from "./elementwise.ts";
import { chunksOf, columnGrid, gatherParts, rowLaunch } from "./rows.ts";

const FILE = "norms";

/** The kernels' Affine: tables, their formats, and whether 1 is added to the gain. */
function affine(ctx: CudaContext, { weight, bias, modulation }: ModulatedNorm): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  const [gain, shift] = modulation ? [modulation.scale, modulation.shift] : [weight, bias];
  writeInt64(view, 0, ctx.optional(gain));
  writeInt64(view, 8, ctx.optional(shift));
  view.setInt32(16, gain ? dtypeCodes[gain.dtype] : 0, true);
  view.setInt32(20, shift ? dtypeCodes[shift.dtype] : 0, true);
  view.setInt32(24, modulation ? 1 : 0, true);
  return bytes;
}

export function normKernels(ctx: CudaContext) {
  const { launcher } = ctx;
  return {
    layerNorm(x, out, options) {
      using runs = ctx.runs(options.modulation?.runs ?? []);
      const kernel = launcher.kernel(FILE, "layer_norm", "pipispiifil");
      const tables = [affine(ctx, options), ctx.address(runs), options.modulation?.runs.length ?? 0];
      const { blocks, last } = rowLaunch(lastOf(x), rowsOf(x));
      const values = [...typed(ctx, x), ...typed(ctx, out), ...tables, lastOf(x), options.eps, ...last];
      launcher.launch(kernel, blocks, ...values);
    },
    layerNormBackward(x, dy, options, gradients) {
      const { dx, dweight, dbias, dscale, dshift } = gradients;
      const [rows, columns] = [rowsOf(x), lastOf(x)];
      const given = options.modulation?.runs;
      using runs = ctx.runs(given ?? []);
      using statistics = ctx.temporary("f32", [Math.max(1, rows), 2]);
      const kernel = launcher.kernel(FILE, "layer_norm_backward", "pipispipipifil");
      const tables = [affine(ctx, options), ctx.address(runs), given?.length ?? 0];
      const { blocks, last } = rowLaunch(columns, rows);
      const results = [...typed(ctx, dx), ctx.address(statistics), columns, options.eps, ...last];
      launcher.launch(kernel, blocks, ...typed(ctx, x), ...typed(ctx, dy), ...tables, ...results);
      const targets: [Operand | undefined, Operand | undefined] = given ? [dscale, dshift] : [dweight, dbias];
      if (!targets[0] && !targets[1]) return;
      using chunks = chunksOf(ctx, given ?? [{ start: 0, count: rows, row: 0 }]);
      using gains = ctx.temporary("f32", [Math.max(1, chunks.count), columns]);
      using shifts = ctx.temporary("f32", [Math.max(1, chunks.count), columns]);
      const parts = launcher.kernel(FILE, "layer_norm_parts", "pipippppi");
      const places = [statistics, chunks.table, gains, shifts].map((operand) => ctx.address(operand));
      const grid = columnGrid(columns, chunks.count);
      launcher.launch(parts, grid, ...typed(ctx, x), ...typed(ctx, dy), ...places, columns);
      for (const [i, target] of targets.entries()) {
        if (target) gatherParts(ctx, i === 0 ? gains : shifts, chunks, target, columns);
      }
    },
    rmsNorm(x, weight, out, { eps, kind, silu }) {
      const kernel = launcher.kernel(FILE, "rms_norm", "pipipiiiifil");
      const operands = [x, weight, out].flatMap((operand) => typed(ctx, operand));
      const { blocks, last } = rowLaunch(lastOf(x), rowsOf(x));
      const way = [kind === "mean" ? 0 : 1, silu ? 1 : 0, lastOf(x), eps];
      launcher.launch(kernel, blocks, ...operands, ...way, ...last);
    },
    rmsNormBackward(x, weight, dy, { eps, kind, silu }, { dx, dweight }) {
      const [rows, columns] = [rowsOf(x), lastOf(x)];
      using factors = ctx.temporary("f32", [Math.max(1, rows)]);
      const kernel = launcher.kernel(FILE, "rms_norm_backward", "pipipipipiiifil");
      const operands = [x, weight, dy, dx].flatMap((operand) => typed(ctx, operand));
      const way = [kind === "mean" ? 0 : 1, silu ? 1 : 0, columns, eps];
      const { blocks, last } = rowLaunch(columns, rows);
      launcher.launch(kernel, blocks, ...operands, ctx.address(factors), ...way, ...last);
      if (!dweight) return;
      using chunks = chunksOf(ctx, [{ start: 0, count: rows, row: 0 }]);
      using parts = ctx.temporary("f32", [Math.max(1, chunks.count), columns]);
      const sums = launcher.kernel(FILE, "rms_norm_parts", "pipipipppii");
      const inputs = [x, weight, dy].flatMap((operand) => typed(ctx, operand));
      const places = [factors, chunks.table, parts].map((operand) => ctx.address(operand));
      launcher.launch(sums, columnGrid(columns, chunks.count), ...inputs, ...places, silu ? 1 : 0, columns);
      gatherParts(ctx, parts, chunks, dweight, columns);
    },
    softmax(x, out) {
      const kernel = launcher.kernel(FILE, "softmax", "pipiiil");
      const { blocks, last } = rowLaunch(lastOf(x), rowsOf(x));
      launcher.launch(kernel, blocks, ...typed(ctx, x), ...typed(ctx, out), lastOf(x), ...last);
    },
    softmaxBackward(y, dy, dx) {
      const kernel = launcher.kernel(FILE, "softmax_backward", "pipipiiil");
      const operands = [y, dy, dx].flatMap((operand) => typed(ctx, operand));
      const { blocks, last } = rowLaunch(lastOf(y), rowsOf(y));
      launcher.launch(kernel, blocks, ...operands, lastOf(y), ...last);
    },
  } satisfies Partial<Kernels>;
}
