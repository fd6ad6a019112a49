// Looking at source frames before they are scaled: where the picture lies between black bars, and compression blocks.
import type { Frame } from "node-av/lib";
import { avGetPixFmtName } from "node-av/lib";
import { type Geometry as StoredGeometry, shownRect } from "../../io/video/conversion.ts";
import { FrameFilter } from "../../io/video/frame-filter.ts";
import { quantizerOf } from "../../io/video/quantizer.ts";
import { lumaOf } from "./clip.ts";
import { bandingOf } from "./measures/banding.ts";
import { type Content, contentOf } from "./measures/bars.ts";
import { blockinessOf } from "./measures/blockiness.ts";
import { combingOf } from "./measures/combing.ts";
import { compressionOf } from "./measures/compression.ts";
import type { LumaPlane, SourceMarks } from "./measures/measure.ts";

/** Formats whose first plane is 8-bit luma as it stands. */
const eightBitLuma = /^(yuvj?4(20|22|44|11|10|40)p|yuva4(20|22|44)p|nv12|nv21|nv16|gray)$/;

export interface Seen {
  /** Undefined for a frame that is black all over. Pixels as shown. */
  content: Content | undefined;
  /** Where they were asked for. */
  marks?: SourceMarks;
}

/** The marks of compression, scanning and quantising in a picture at its source's own size. */
export function marksOf(luma: LumaPlane, quantizer?: number): SourceMarks {
  return {
    quantizer,
    blockiness: blockinessOf(luma),
    compression: compressionOf(luma),
    banding: bandingOf(luma),
    combing: combingOf(luma),
  };
}

export class SourceLook implements Disposable {
  readonly #geometry: StoredGeometry;
  readonly #toGray = new FrameFilter<true>(() => "scale=out_range=limited,format=gray");

  constructor(geometry: StoredGeometry) {
    this.#geometry = geometry;
  }

  /** `marks`: whether to look for the marks of the source too, which takes most of the time. */
  async at(frame: Frame, marks = false): Promise<Seen> {
    const quantizer = marks ? quantizerOf(frame) : undefined;
    if (eightBitLuma.test(avGetPixFmtName(frame.format as never) ?? "")) return this.#judge(frame, marks, quantizer);
    const [out] = await this.#toGray.push(frame, true);
    using gray = out!.frame;
    return this.#judge(gray, marks, quantizer);
  }

  #judge(frame: Frame, marks: boolean, quantizer: number | undefined): Seen {
    const luma = lumaOf(frame);
    const stored = contentOf(luma);
    const turned = stored && {
      outer: shownRect(stored.outer, luma.width, luma.height, this.#geometry),
      sure: shownRect(stored.sure, luma.width, luma.height, this.#geometry),
    };
    return { content: turned, ...(marks ? { marks: marksOf(luma, quantizer) } : {}) };
  }

  [Symbol.dispose](): void {
    this.#toGray[Symbol.dispose]();
  }
}
