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
/** The same for a picture that is taken for another one in other light. */
const mostOffLight = 0.35;
/** How much of the way to its end a transition may fall back from one frame to the next: what goes to and fro is flicker. */
const mostBack = 0.1;

/**
 * What lies between two pictures: `mix`, one goes over into the other or into a blank one; `light`, the same picture gets
 * lighter or darker, which is part of a fade only where one follows.
 */
type Passage = "mix" | "light";

/** The share of `before` in `here`, whose rest is `after`: least squares over a part of the pixels. */
function shareOf(here: SmallPicture, before: SmallPicture, after: SmallPicture, every: number): number {
  const [a, m, b] = [before.y, here.y, after.y];
  let dot = 0;
  let norm = 0;
  for (let i = 0; i < a.length; i += every) {
    const d = a[i]! - b[i]!;
    dot += (m[i]! - b[i]!) * d;
    norm += d * d;
  }
  return dot / norm;
}

/** Whether the flatter of two pictures is the other in less light: shades alike, contrast kept, none of them nearly blank. */
function isRelit(before: SmallPicture, after: SmallPicture, apart: number): boolean {
  const [a, b] = [before.y, after.y];
  let [count, sumA, sumB, aa, bb, ab] = [0, 0, 0, 0, 0, 0];
  for (let i = 0; i < a.length; i += 3) {
    const [x, y] = [a[i]!, b[i]!];
    count++;
    sumA += x;
    sumB += y;
    aa += x * x;
    bb += y * y;
    ab += x * y;
  }
  const [meanA, meanB] = [sumA / count, sumB / count];
  const [varA, varB] = [aa / count - meanA * meanA, bb / count - meanB * meanB];
  // A fade's end has lost nearly all contrast.
  if (Math.min(varA, varB) < 0.06 * Math.max(varA, varB)) return false;
  const slope = (ab / count - meanA * meanB) / varA;
  if (slope <= 0) return false;
  let error = 0;
  for (let i = 0; i < a.length; i += 3) error += Math.abs(b[i]! - meanB - slope * (a[i]! - meanA));
  return error / count < mostOffLight * apart;
}

/**
 * Where the middle one of `span` is a mix of the first and the last, which differ and not by motion: a fade or a
 * dissolve. The share of the mix is fitted, so that it need not be the half-way frame.
 */
function passageThrough(span: readonly SmallPicture[], least: number): Passage | undefined {
  const [before, middle, after] = [span[0]!, span[span.length >> 1]!, span.at(-1)!];
  if (before.y.length !== middle.y.length || middle.y.length !== after.y.length) return undefined;
  const apart = difference(before, after);
  if (apart < least) return undefined;
  const share = shareOf(middle, before, after, 3);
  if (share < 0.12 || share > 0.88) return undefined;
  const [a, m, b] = [before.y, middle.y, after.y];
  let error = 0;
  let count = 0;
  for (let i = 0; i < a.length; i += 3) {
    error += Math.abs(m[i]! - b[i]! - share * (a[i]! - b[i]!));
    count++;
  }
  if (error / count > mostOff * apart) return undefined;
  let left = 1;
  for (const picture of span) {
    const here = shareOf(picture, before, after, 7);
    if (here > left + mostBack) return undefined;
    left = Math.min(left, here);
  }
  // A smooth gradient that moves is also the mean of its neighbours, but following the motion explains it. Flow lets
  // light that changes everywhere pass: then what is left is compared with what light alone does not explain.
  const { residual, change } = flowBetween(before, after);
  if (residual <= 0.45 * change) return undefined;
  return isRelit(before, after, apart) ? "light" : "mix";
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
  readonly #passages: (Passage | undefined)[] = [];
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
    this.#passages.push(undefined);
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
      this.#passages.splice(0, spare);
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
    this.#passages.length = this.#frames.length;
  }

  #mark(middle: number, span: number): void {
    const frames = this.#frames.slice(middle - span, middle + span + 1).map(({ small }) => small);
    const least = this.#settings.fade * Math.max(0.5, Math.min(1, (2 * span) / this.#fps));
    const passage = passageThrough(frames, least);
    if (!passage) return;
    // A cut inside the span changes all at once: then it is no mix, whatever the fit says.
    for (let i = middle - span + 1; i <= middle + span; i++) if (this.#isCut(i)) return;
    // The ends of the span may lie outside of the transition, its inner half does not.
    const half = Math.floor(span / 2);
    for (let i = Math.max(0, middle - half); i <= middle + half; i++)
      if (this.#passages[i] !== "mix") this.#passages[i] = passage;
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
    if (this.#inTransition(index)) return "fade";
    // Half a second between two parts of a transition belongs to it.
    let [back, on] = [1, 1];
    while (back <= this.#long && !this.#inTransition(index - back)) back++;
    while (on <= this.#long && !this.#inTransition(index + on)) on++;
    return back + on <= this.#long ? "fade" : undefined;
  }

  /** Light that changes belongs to the fade that it leads to or comes from, as far as is seen. */
  #inTransition(index: number): boolean {
    const proves = (i: number) => this.#passages[i] === "mix" || (i in this.#frames && isBlank(this.#frames[i]!.tone));
    if (proves(index)) return true;
    if (this.#passages[index] !== "light") return false;
    let [back, on] = [index - 1, index + 1];
    while (this.#passages[back] === "light") back--;
    while (this.#passages[on] === "light") on++;
    return proves(back) || proves(on);
  }
}
