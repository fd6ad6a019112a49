// Where one scene ends and the next begins: hard cuts, fades and dissolves, found by content with a second or so of look-ahead.
import { type Flow, flowBetween } from "./flow.ts";
import { difference, type SmallPicture, type Tone } from "./small.ts";

export interface SceneSettings {
  detect: boolean;
  /** Grey levels left after following motion that make a cut. */
  cut: number;
  /** Grey levels of change within a second that make a fade. */
  fade: number;
}

export interface SceneFrame {
  small: SmallPicture;
  tone: Tone;
  /** From the frame before; undefined for the first, or where the two cannot be compared. */
  flow: Flow | undefined;
  /** Damaged pixels: never part of a scene. */
  corrupt: boolean;
}

export type SceneDecision =
  /** The frame belongs to a scene; `begins` where it is the scene's first. */
  | { kind: "scene"; begins: boolean }
  /** The frame belongs to none. */
  | { kind: "between"; why: "blank" | "fade" | "damaged" };

/** A frame with almost one grey level, near black or white. */
function isBlank({ mean, deviation }: Tone): boolean {
  return deviation < 0.006 && (mean < 0.08 || mean > 0.92);
}

/** How far a mix may be off, of what lies between its two ends: things move while pictures fade. */
const mostOff = 0.2;

/**
 * True where `middle` is a mix of `before` and `after`, which differ and not by motion: a fade or a dissolve.
 * The share of the mix is fitted, so that it need not be the half-way frame.
 */
function isMix(before: SmallPicture, middle: SmallPicture, after: SmallPicture, least: number): boolean {
  if (before.y.length !== middle.y.length || middle.y.length !== after.y.length) return false;
  const apart = difference(before, after);
  if (apart < least) return false;
  const [a, m, b] = [before.y, middle.y, after.y];
  let dot = 0;
  let norm = 0;
  for (let i = 0; i < a.length; i += 3) {
    const d = a[i]! - b[i]!;
    dot += (m[i]! - b[i]!) * d;
    norm += d * d;
  }
  const share = dot / norm;
  if (share < 0.12 || share > 0.88) return false;
  let error = 0;
  let count = 0;
  for (let i = 0; i < a.length; i += 3) {
    error += Math.abs(m[i]! - b[i]! - share * (a[i]! - b[i]!));
    count++;
  }
  if (error / count > mostOff * apart) return false;
  // A smooth gradient that moves is also the mean of its neighbours, but following the motion explains it. Flow lets
  // light that changes everywhere pass: then what is left is compared with what light alone does not explain.
  const { residual, change } = flowBetween(before, after);
  return residual > 0.45 * change;
}

/** Frames on each side that a cut's change is compared with. */
const neighbours = 6;

/** Decides about every frame once the frames of the next second or so are known. Local: what is further off has no say. */
export class SceneDetector<Frame extends SceneFrame> {
  readonly #settings: SceneSettings;
  readonly #fps: number;
  readonly #short: number;
  readonly #long: number;
  readonly #lookahead: number;
  /** The frames from `#first` on. */
  readonly #frames: Frame[] = [];
  readonly #mixes: boolean[] = [];
  #decided = 0;
  #inScene = false;

  constructor(settings: SceneSettings, fps: number) {
    this.#settings = settings;
    this.#fps = fps;
    this.#short = Math.max(2, Math.round(fps / 6));
    this.#long = Math.max(4, Math.round(fps / 2));
    this.#lookahead = Math.ceil(2.5 * this.#long) + 1;
  }

  /** Adds the next frame; gives the frames decided now, in order. */
  *push(frame: Frame): Generator<{ frame: Frame; decision: SceneDecision }> {
    this.#frames.push(frame);
    this.#mixes.push(false);
    // The frame whose later neighbours are all there now.
    for (const span of [this.#short, this.#long]) {
      const middle = this.#frames.length - 1 - span;
      if (this.#settings.detect && middle - span >= 0) this.#mark(middle, span);
    }
    while (this.#decided + this.#lookahead < this.#frames.length) yield this.#decide();
    // Keep what later decisions look back at.
    const spare = this.#decided - this.#lookahead - neighbours;
    if (spare > 0) {
      this.#frames.splice(0, spare);
      this.#mixes.splice(0, spare);
      this.#decided -= spare;
    }
  }

  /** Decides about the rest at the film's end. */
  *finish(): Generator<{ frame: Frame; decision: SceneDecision }> {
    while (this.#decided < this.#frames.length) yield this.#decide();
  }

  /** Hands over the frames not yet decided about, when the film is given up. */
  release(letGo: (frame: Frame) => void): void {
    for (const frame of this.#frames.splice(this.#decided)) letGo(frame);
    this.#mixes.length = this.#frames.length;
  }

  #mark(middle: number, span: number): void {
    const [before, here, after] = [middle - span, middle, middle + span].map((i) => this.#frames[i]!);
    const least = this.#settings.fade * Math.max(0.5, Math.min(1, (2 * span) / this.#fps));
    if (!isMix(before!.small, here!.small, after!.small, least)) return;
    // A cut inside the span changes all at once: then it is no mix, whatever the fit says.
    for (let i = middle - span + 1; i <= middle + span; i++) if (this.#isCut(i)) return;
    // The ends of the span may lie outside of the transition, its inner half does not.
    const half = Math.floor(span / 2);
    for (let i = Math.max(0, middle - half); i <= middle + half; i++) this.#mixes[i] = true;
  }

  #residual(index: number): number {
    return this.#frames[index]?.flow?.residual ?? 0;
  }

  #isCut(index: number): boolean {
    const residual = this.#residual(index);
    if (residual < this.#settings.cut) return false;
    const around: number[] = [];
    for (let i = index - neighbours; i <= index + neighbours; i++)
      if (i !== index && this.#frames[i]?.flow) around.push(this.#residual(i));
    around.sort((a, b) => a - b);
    // Wild motion leaves much over in every frame; a cut stands out.
    const usual = around[around.length >> 1] ?? 0;
    return residual > 2.5 * usual && residual - usual > 0.7 * this.#settings.cut;
  }

  #decide(): { frame: Frame; decision: SceneDecision } {
    const index = this.#decided++;
    const frame = this.#frames[index]!;
    const between = this.#between(frame, index);
    if (between) {
      this.#inScene = false;
      return { frame, decision: { kind: "between", why: between } };
    }
    const begins = !this.#inScene || (this.#settings.detect && this.#isCut(index));
    this.#inScene = true;
    return { frame, decision: { kind: "scene", begins } };
  }

  #between(frame: Frame, index: number): "blank" | "fade" | "damaged" | undefined {
    if (frame.corrupt) return "damaged";
    if (!this.#settings.detect) return undefined;
    if (isBlank(frame.tone)) return "blank";
    if (this.#mixes[index]) return "fade";
    // Half a second between two parts of a transition belongs to it.
    const inTransition = (i: number) => this.#mixes[i] || (i in this.#frames && isBlank(this.#frames[i]!.tone));
    let [back, on] = [1, 1];
    while (back <= this.#long && !inTransition(index - back)) back++;
    while (on <= this.#long && !inTransition(index + on)) on++;
    return back + on <= this.#long ? "fade" : undefined;
  }
}
