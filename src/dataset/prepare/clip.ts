// One clip while it passes by: its measures, its hashes, where most moves, its frames kept for encoding.
import type { Frame } from "node-av/lib";
import type { Rect } from "../../io/video/conversion.ts";
import { plane } from "../../io/video/read.ts";
import { type MeasureName, measureNames } from "../../protocol/prepare-config.ts";
import type { Flow } from "./flow.ts";
import { busiestWindow, centerWindow, type Geometry, type Window } from "./geometry.ts";
import { pictureHash } from "./hash.ts";
import type { Seen } from "./look.ts";
import { type Content, contentOfBoth, settleContent } from "./measures/bars.ts";
import {
  type ClipContext,
  type ClipFrame,
  type Detail,
  detailEvery,
  type LumaPlane,
  type SourceMarks,
  type Tally,
} from "./measures/measure.ts";
import { OverlayTally, packStillEdges } from "./measures/overlay.ts";
import { resolutionOf } from "./measures/resolution.ts";
import { measures } from "./measures/table.ts";
import type { SceneFrame } from "./scenes.ts";
import type { SmallPicture, Tone } from "./small.ts";

/** What the work store keeps of a clip. Verdicts are not in it: they follow from the limits of each run. */
export interface ClipRecord {
  /** First slot and number of slots of the set's rate; 0 and 1 for pictures. */
  first: number;
  frames: number;
  scene: number;
  /** Too short to be measured. */
  short?: true;
  geometry?: Geometry;
  window?: Window;
  values: Partial<Record<MeasureName, number | null>>;
  hashes: string[];
  /** Means over the clip: luma 0–1, chroma levels from grey. */
  tone?: { mean: number; u: number; v: number };
  /** Edges that stood still over the whole clip; see packStillEdges. */
  stillEdges?: string;
}

/** A frame on its way into a clip. */
export interface Sample extends SceneFrame {
  slot: number;
  /** The scaled picture; freed by whoever ends its way. */
  working: Frame;
  /** What the source frame showed, where it was looked at. */
  seen?: Seen;
  flow: Flow | undefined;
}

export function lumaOf(frame: Frame): LumaPlane {
  const { data, stride } = plane(frame, 0);
  return { data, stride, width: frame.width, height: frame.height };
}

/** Of a YUV 4:2:0 frame. */
function detailOf(frame: Frame): Detail {
  const [width, height] = [(frame.width + 1) >> 1, (frame.height + 1) >> 1];
  const [u, v] = [1, 2].map((index): LumaPlane => ({ ...plane(frame, index), width, height }));
  return { luma: lumaOf(frame), chroma: [u!, v!] };
}

const cell = 8;

export class ClipBuilder {
  readonly first: number;
  readonly geometry: Geometry;
  readonly #every: number;
  readonly #tallies: readonly (readonly [MeasureName, Tally])[];
  readonly #overlay: OverlayTally | undefined;
  readonly #hashes: string[] = [];
  readonly #tone = { mean: 0, u: 0, v: 0 };
  readonly #strip: SmallPicture[] = [];
  #energy: Float64Array | undefined;
  #content: Content | undefined;
  frames = 0;

  constructor(first: number, geometry: Geometry, context: ClipContext) {
    this.first = first;
    this.geometry = geometry;
    this.#every = detailEvery(context.fps);
    this.#tallies = measureNames
      .filter((name) => context.kind === "video" || !measures[name].filmsOnly)
      .map((name) => [name, measures[name].start(context)] as const);
    const overlay = this.#tallies.find(([name]) => name === "overlay")?.[1];
    this.#overlay = overlay instanceof OverlayTally ? overlay : undefined;
  }

  add(sample: Sample): void {
    const index = this.frames;
    const { small, tone, seen } = sample;
    const dear = index % this.#every === 0;
    this.#take(
      {
        small,
        tone,
        flow: index === 0 ? undefined : sample.flow,
        detail: dear ? detailOf(sample.working) : undefined,
        marks: seen?.marks,
      },
      dear,
    );
    if (seen) this.#content = contentOfBoth(this.#content, seen.content);
  }

  /** The one frame of a picture; its `content` is settled before. */
  addPicture(small: SmallPicture, tone: Tone, detail: Detail, marks: SourceMarks | undefined): void {
    this.#take({ small, tone, flow: undefined, detail, marks }, true);
  }

  #take(frame: ClipFrame, dear: boolean): void {
    const index = this.frames++;
    for (const [, tally] of this.#tallies) tally.add(frame, index);
    const { small, tone } = frame;
    this.#tone.mean += tone.mean;
    this.#tone.u += tone.u;
    this.#tone.v += tone.v;
    if (dear) {
      this.#hashes.push(pictureHash(small));
      this.#strip.push(small);
    }
    this.#addEnergy(frame);
  }

  /** Motion, and detail where nothing moves, cell by cell. */
  #addEnergy({ small: { y, width, height }, flow }: ClipFrame): void {
    const across = width / cell;
    this.#energy ??= new Float64Array(across * (height / cell));
    if (flow)
      for (let i = 0; i < flow.dx.length; i++)
        this.#energy[i] = this.#energy[i]! + Math.hypot(flow.dx[i]!, flow.dy[i]!);
    if (this.frames % this.#every !== 1) return;
    for (let row = 1; row < height; row += 2) {
      const line = Math.floor(row / cell) * across;
      for (let x = 1; x < width; x++) {
        const at = row * width + x;
        const edge = Math.abs(y[at]! - y[at - 1]!) + Math.abs(y[at]! - y[at - width]!);
        const into = line + Math.floor(x / cell);
        this.#energy[into] = this.#energy[into]! + edge / 400;
      }
    }
  }

  /** The picture without bars as this clip showed it; where it showed too little, as it was taken to be. */
  content(width: number, height: number): Rect {
    return this.#content ? settleContent(this.#content, width, height, this.geometry.content) : this.geometry.content;
  }

  /** Five pictures spread over the clip, for the report. */
  strip(): SmallPicture[] {
    const count = Math.min(5, this.#strip.length);
    return Array.from({ length: count }, (_, i) => {
      const at = count === 1 ? 0 : Math.round((i * (this.#strip.length - 1)) / (count - 1));
      return this.#strip[at]!;
    });
  }

  finish(scene: number, crop: "center" | "motion"): ClipRecord {
    const { frames, first, geometry } = this;
    const values: ClipRecord["values"] = {};
    for (const [name, tally] of this.#tallies) {
      const value = name === "resolution" ? resolutionOf(geometry.scaleToTarget) : tally.result();
      values[name] = value === undefined || !Number.isFinite(value) ? null : Math.round(value * 1e4) / 1e4;
    }
    const last = this.#strip.at(-1)!;
    const window =
      crop === "motion" && this.#energy
        ? busiestWindow(geometry, this.#energy, last.width / cell, last.height / cell)
        : centerWindow(geometry);
    const still = this.#overlay?.stillEdges();
    const mean = (sum: number) => Math.round((sum / frames) * 1e4) / 1e4;
    return {
      first,
      frames,
      scene,
      geometry,
      window,
      values,
      hashes: this.#hashes,
      tone: { mean: mean(this.#tone.mean), u: mean(this.#tone.u), v: mean(this.#tone.v) },
      ...(still ? { stillEdges: packStillEdges(still) } : {}),
    };
  }
}
