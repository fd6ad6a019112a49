// Looking at source frames before they are scaled: where the picture lies between black bars, and compression blocks.
import type { Frame } from "node-av/lib";
import { avGetPixFmtName } from "node-av/lib";
import { type Geometry as StoredGeometry, shownRect } from "../../io/video/conversion.ts";
import { FrameFilter } from "../../io/video/frame-filter.ts";
import { lumaOf } from "./clip.ts";
import { type Content, contentOf } from "./measures/bars.ts";
import { blockinessOf } from "./measures/blockiness.ts";

/** Formats whose first plane is 8-bit luma as it stands. */
const eightBitLuma = /^(yuvj?4(20|22|44|11|10|40)p|yuva4(20|22|44)p|nv12|nv21|nv16|gray)$/;

export interface Seen {
  /** Undefined for a frame that is black all over. Pixels as shown. */
  content: Content | undefined;
  blockiness: number;
}

export class SourceLook implements Disposable {
  readonly #geometry: StoredGeometry;
  readonly #toGray = new FrameFilter<true>(() => "scale=out_range=limited,format=gray");

  constructor(geometry: StoredGeometry) {
    this.#geometry = geometry;
  }

  async at(frame: Frame): Promise<Seen> {
    if (eightBitLuma.test(avGetPixFmtName(frame.format as never) ?? "")) return this.#judge(frame);
    const [out] = await this.#toGray.push(frame, true);
    using gray = out!.frame;
    return this.#judge(gray);
  }

  #judge(frame: Frame): Seen {
    const luma = lumaOf(frame);
    const stored = contentOf(luma);
    const turned = stored && {
      outer: shownRect(stored.outer, luma.width, luma.height, this.#geometry),
      sure: shownRect(stored.sure, luma.width, luma.height, this.#geometry),
    };
    return { content: turned, blockiness: blockinessOf(luma) };
  }

  [Symbol.dispose](): void {
    this.#toGray[Symbol.dispose]();
  }
}
