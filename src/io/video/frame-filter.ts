// A chain of FFmpeg filters that frames go through one by one, set up from the first frame and again when frames change.
import { AV_BUFFERSRC_FLAG_KEEP_REF, AVERROR_EAGAIN, AVERROR_EOF } from "node-av/constants";
import { type FilterContext, FilterGraph, Frame } from "node-av/lib";
import { KinoraError } from "../../base/errors.ts";
import { check } from "./ffmpeg.ts";

interface Graph {
  graph: FilterGraph;
  source: FilterContext;
  sink: FilterContext;
  shape: string;
}

/** A frame that came out, with what was handed in beside the frame it was made from. The receiver frees the frame. */
export interface Filtered<Beside> {
  frame: Frame;
  beside: Beside;
}

/** Describes the filters for frames of this shape, e.g. `scale=832:480:flags=lanczos`; no inputs, no outputs. */
export type FilterChain = (frame: Frame) => string;

/**
 * Filters that give exactly one frame for each frame in, in order (scale, crop, transpose, bwdif in its frame mode).
 * A filter may hold frames back; `finish` brings them out.
 */
export class FrameFilter<Beside> implements Disposable {
  readonly #chain: FilterChain;
  readonly #threads: number;
  readonly #waiting: Beside[] = [];
  #current: Graph | undefined;
  #pushed = 0n;

  /** `threads`: how many a filter may use on one frame; 0 for one a core. */
  constructor(chain: FilterChain, threads = 0) {
    this.#chain = chain;
    this.#threads = threads;
  }

  /** Hands in a frame, which stays the caller's, and gives the frames that are ready. */
  async push(frame: Frame, beside: Beside): Promise<Filtered<Beside>[]> {
    const shape = `${frame.width}x${frame.height}/${frame.format}/${frame.colorSpace}/${frame.colorRange}/${frame.sampleAspectRatio}`;
    const ready: Filtered<Beside>[] = [];
    if (this.#current && this.#current.shape !== shape) ready.push(...(await this.finish()));
    this.#current ??= await this.#open(frame, shape);
    // Timestamps only have to rise: time travels in `beside`.
    frame.pts = this.#pushed++;
    this.#waiting.push(beside);
    check(await this.#current.source.buffersrcAddFrame(frame, AV_BUFFERSRC_FLAG_KEEP_REF), "filtering a frame");
    ready.push(...(await this.#drain(this.#current)));
    return ready;
  }

  /** Brings out what filters held back; the chain can be used again afterwards. */
  async finish(): Promise<Filtered<Beside>[]> {
    const current = this.#current;
    if (!current) return [];
    await current.source.buffersrcAddFrame(null);
    const ready = await this.#drain(current);
    this.#current = undefined;
    this.#waiting.length = 0;
    current.graph.free();
    return ready;
  }

  [Symbol.dispose](): void {
    this.#current?.graph.free();
    this.#current = undefined;
  }

  async #drain({ sink }: Graph): Promise<Filtered<Beside>[]> {
    const ready: Filtered<Beside>[] = [];
    for (;;) {
      const frame = new Frame();
      frame.alloc();
      const status = await sink.buffersinkGetFrame(frame);
      if (status < 0) {
        frame.free();
        if (status === AVERROR_EAGAIN || status === AVERROR_EOF) return ready;
        check(status, "filtering a frame");
      }
      const beside = this.#waiting.shift();
      if (beside === undefined) {
        frame.free();
        throw new KinoraError("media.filter-count", "a filter returned more frames than it received");
      }
      ready.push({ frame, beside });
      // Nothing more can come of nothing: a call saved on every frame.
      if (this.#waiting.length === 0) return ready;
    }
  }

  async #open(frame: Frame, shape: string): Promise<Graph> {
    const graph = new FilterGraph();
    graph.alloc();
    if (this.#threads > 0) graph.nbThreads = this.#threads;
    const aspect = frame.sampleAspectRatio;
    const pixelAspect = aspect.num > 0 && aspect.den > 0 ? `${aspect.num}/${aspect.den}` : "1/1";
    const source = [
      `buffer@in=video_size=${frame.width}x${frame.height}`,
      `pix_fmt=${frame.format}`,
      "time_base=1/1000",
      `pixel_aspect=${pixelAspect}`,
      `colorspace=${frame.colorSpace}`,
      `range=${frame.colorRange}`,
    ].join(":");
    const chain = this.#chain(frame) || "null";
    const text = `${source},${chain},buffersink@out`;
    try {
      check(graph.parse2(text), `setting up the filters ${chain}`);
      check(await graph.config(), `setting up the filters ${chain}`);
      const [input, output] = [graph.getFilter("buffer@in"), graph.getFilter("buffersink@out")];
      if (!input || !output)
        throw new KinoraError("media.failed", `FFmpeg lost an end of the filters ${chain}`, {
          hint: "the file may be damaged",
        });
      return { graph, source: input, sink: output, shape };
    } catch (error) {
      graph.free();
      throw error;
    }
  }
}
