// Splitting pictures into overlapping tiles, and blending what comes out. Each tile is computed as if it were the whole
// picture, so results differ slightly from untiled ones: most where a tile was cut, a little everywhere, because the
// middle's attention sees one tile only. Blending keeps the difference from showing as a seam. Has no gradient.
import { KinoraError } from "../../../base/errors.ts";
import { rowMajorStrides } from "../../../base/shape.ts";
import type { Device } from "../../../device/device.ts";
import { multiply, slice } from "../../../tensor/ops/index.ts";
import { openScope, scoped } from "../../../tensor/scope.ts";
import { fromValues, type Tensor, zeros } from "../../../tensor/tensor.ts";
import type { ClipStream } from "./streams.ts";

/** In pixels, multiples of the autoencoder's stride. */
export interface Tiling {
  /** Side of a tile. */
  size: number;
  /** How far neighbours overlap at least; over this distance one fades into the other. */
  overlap: number;
}

/** A tile along one axis, in latent pixels. */
export interface Span {
  start: number;
  length: number;
  /** Its share of each output pixel; the shares of all tiles sum to 1. */
  weights: Float32Array;
}

/**
 * Covers `length` latent pixels with as few spans of `tile` as overlap by `overlap` or more, evenly spread and all of one
 * length. Where neighbours overlap, one fades into the other linearly. `scale`: output pixels per latent pixel.
 */
export function planSpans(length: number, tile: number, overlap: number, scale: number): Span[] {
  const size = Math.min(tile, length);
  const count = tile >= length ? 1 : 1 + Math.ceil((length - tile) / (tile - overlap));
  const starts = Array.from({ length: count }, (_, i) => Math.round((i * (length - size)) / Math.max(1, count - 1)));
  const total = new Float32Array(length * scale);
  const spans = starts.map((start, i) => {
    // How far the neighbours on either side reach into this span, in output pixels.
    const before = i === 0 ? 0 : (starts[i - 1]! + size - start) * scale;
    const after = i === count - 1 ? 0 : (start + size - starts[i + 1]!) * scale;
    const weights = Float32Array.from({ length: size * scale }, (_, p) =>
      Math.min(1, before > 0 ? (p + 0.5) / before : 1, after > 0 ? (size * scale - p - 0.5) / after : 1),
    );
    for (const [p, weight] of weights.entries()) total[start * scale + p]! += weight;
    return { start, length: size, weights };
  });
  for (const { start, weights } of spans) {
    for (let p = 0; p < weights.length; p++) weights[p]! /= total[start * scale + p]!;
  }
  return spans;
}

/** How a picture of `height`×`width` latent pixels is cut, in which units it goes in and comes out. */
export interface TilePlan {
  tiles: readonly { rows: Span; columns: Span }[];
  /** Input and output pixels per latent pixel. */
  inputScale: number;
  outputScale: number;
  height: number;
  width: number;
}

/** Undefined where one tile holds the whole picture. Throws `vae.tiling`. */
export function planTiles(
  latent: { height: number; width: number },
  tiling: Tiling,
  stride: number,
  direction: "encode" | "decode",
): TilePlan | undefined {
  const { size, overlap } = tiling;
  if (size % stride !== 0 || overlap % stride !== 0 || overlap < 0 || overlap >= size) {
    throw new KinoraError("vae.tiling", "the autoencoder does not support these tiles", {
      expected: `multiples of ${stride} pixels, the overlap smaller than the tile`,
      actual: `tiles of ${size}, overlap ${overlap}`,
    });
  }
  const outputScale = direction === "decode" ? stride : 1;
  const spans = (length: number) => planSpans(length, size / stride, overlap / stride, outputScale);
  const columns = spans(latent.width);
  const tiles = spans(latent.height).flatMap((rows) => columns.map((column) => ({ rows, columns: column })));
  if (tiles.length === 1) return undefined;
  return { tiles, inputScale: direction === "decode" ? 1 : stride, outputScale, ...latent };
}

/** One tile of a plan on a device: what to cut, and how much its result counts. */
class Tile implements Disposable {
  readonly #plan: TilePlan;
  readonly #rows: Span;
  readonly #columns: Span;
  readonly #mask: Tensor;

  constructor(device: Device, plan: TilePlan, { rows, columns }: { rows: Span; columns: Span }) {
    const mask = new Float32Array(rows.weights.length * columns.weights.length);
    for (const [y, row] of rows.weights.entries()) {
      for (const [x, column] of columns.weights.entries()) mask[y * columns.weights.length + x] = row * column;
    }
    this.#plan = plan;
    this.#rows = rows;
    this.#columns = columns;
    using scope = openScope(device);
    this.#mask = scope.release(fromValues(device, mask, [rows.weights.length, columns.weights.length]));
  }

  /** Its part of [C, T, H, W]. */
  cut(input: Tensor): Tensor {
    const scale = this.#plan.inputScale;
    const band = slice(input, 2, this.#rows.start * scale, this.#rows.length * scale);
    return slice(band, 3, this.#columns.start * scale, this.#columns.length * scale);
  }

  /** Adds its weighted result [C, t, h, w] to [C, T, H, W] from frame `frame` on. */
  addTo(output: Tensor, result: Tensor, frame: number): void {
    using _scope = openScope(output.device);
    const weighted = multiply(result, this.#mask);
    const strides = rowMajorStrides(output.shape);
    const scale = this.#plan.outputScale;
    output.device.kernels.stridedCopy(
      { operand: weighted, offset: 0, strides: rowMajorStrides(result.shape) },
      {
        operand: output,
        offset:
          frame * strides[1]! + this.#rows.start * scale * strides[2]! + this.#columns.start * scale * strides[3]!,
        strides,
      },
      result.shape,
      { accumulate: true },
    );
  }

  [Symbol.dispose](): void {
    this.#mask[Symbol.dispose]();
  }
}

/** What comes out of one tile, added into `output` (made on the first call) from frame `frame` on. */
function blend(output: Tensor | undefined, plan: TilePlan, tile: Tile, result: Tensor, frames: number, frame: number) {
  const { height, width, outputScale } = plan;
  const target = output ?? zeros(result.device, [result.shape[0]!, frames, height * outputScale, width * outputScale]);
  tile.addTo(target, result, frame);
  result[Symbol.dispose]();
  return target;
}

/** A whole clip, one tile after the other: besides the output, only one tile's memory. `frames`: of the output. */
export function runTiles(
  device: Device,
  plan: TilePlan,
  frames: number,
  open: () => ClipStream,
  chunks: () => Iterable<Tensor>,
): Tensor {
  return scoped(device, () => {
    let output: Tensor | undefined;
    for (const place of plan.tiles) {
      using tile = new Tile(device, plan, place);
      using stream = open();
      let frame = 0;
      for (const chunk of chunks()) {
        const result = scoped(device, () => stream.push(tile.cut(chunk)));
        chunk[Symbol.dispose]();
        const count = result.shape[1]!;
        output = blend(output, plan, tile, result, frames, frame);
        frame += count;
      }
    }
    return output!;
  });
}

/** All tiles side by side, for a clip that nobody holds: less memory for a layer's work, as much for cached frames. */
export class TiledStream implements ClipStream {
  readonly #plan: TilePlan;
  readonly #tiles: readonly { tile: Tile; stream: ClipStream }[];

  constructor(device: Device, plan: TilePlan, open: () => ClipStream) {
    this.#plan = plan;
    this.#tiles = plan.tiles.map((place) => ({ tile: new Tile(device, plan, place), stream: open() }));
  }

  push(chunk: Tensor): Tensor {
    return scoped(chunk.device, () => {
      let output: Tensor | undefined;
      for (const { tile, stream } of this.#tiles) {
        const result = scoped(chunk.device, () => stream.push(tile.cut(chunk)));
        output = blend(output, this.#plan, tile, result, result.shape[1]!, 0);
      }
      return output!;
    });
  }

  [Symbol.dispose](): void {
    for (const { tile, stream } of this.#tiles) {
      tile[Symbol.dispose]();
      stream[Symbol.dispose]();
    }
  }
}
