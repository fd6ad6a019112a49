// Sums over rows in two steps: parts over chunks of rows, then the parts of each table row, so that they are the same each
// time and the whole card takes part.
import type { Operand, RowRuns } from "../../kernels.ts";
import type { CudaContext, Temporary } from "../context.ts";
import { type Argument, THREADS } from "../launch.ts";
import { typed } from "./elementwise.ts";

/** Rows of a chunk. */
const CHUNK = 64;
const COLUMNS = 256;

export interface Chunks extends Disposable {
  readonly count: number;
  /** Pairs (first row, rows). */
  readonly table: Temporary;
  /** The table row of each. */
  readonly owners: Temporary;
}

/** Rows up to this long are shared by a warp, longer ones by a block. */
const WARP_ROW = 1024;
const WARP = 32;

/** Blocks for `rows` rows of `columns`, and what kernels of rows take last: threads of a row, and rows. */
export function rowLaunch(columns: number, rows: number): { blocks: number; last: [width: number, rows: number] } {
  const width = columns <= WARP_ROW ? WARP : THREADS;
  return { blocks: Math.ceil((rows * width) / THREADS), last: [width, rows] };
}

/** Runs cut into chunks. */
export function chunksOf(ctx: CudaContext, runs: RowRuns): Chunks {
  const pairs: number[] = [];
  const owners: number[] = [];
  for (const { start, count, row } of runs) {
    for (let at = 0; at < count; at += CHUNK) {
      pairs.push(start + at, Math.min(CHUNK, count - at));
      owners.push(row);
    }
  }
  const table = ctx.table(Int32Array.from(pairs));
  const ownerTable = ctx.table(Int32Array.from(owners));
  return {
    count: owners.length,
    table,
    owners: ownerTable,
    [Symbol.dispose]() {
      table[Symbol.dispose]();
      ownerTable[Symbol.dispose]();
    },
  };
}

/** Grids of a launch that has a thread for each column and `rows` blocks of them; y is bounded, so that it may take several. */
export const columnGrid = (columns: number, rows: number): [number, number] => [Math.ceil(columns / COLUMNS), rows];

/** out [R, C] = for each of its rows the sum of the parts [chunks, C] that belong to it. */
export function gatherParts(ctx: CudaContext, parts: Operand, chunks: Chunks, out: Operand, columns: number): void {
  const rows = columns === 0 ? 0 : out.shape.reduce((product, length) => product * length, 1) / columns;
  const kernel = ctx.launcher.kernel("movement", "gather_parts", "ppipii");
  const values: Argument[] = [
    ctx.address(parts),
    ctx.address(chunks.owners),
    chunks.count,
    ...typed(ctx, out),
    columns,
  ];
  ctx.launcher.launch(kernel, columnGrid(columns, rows), ...values);
}
