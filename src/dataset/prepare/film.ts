// One stretch of a film, decoded once: scenes, clips, measures, and the clips that will be kept encoded on the way.
import type { Frame } from "node-av/lib";
import { conversionChain, outputMatrix, type Rect, shownSize } from "../../io/video/conversion.ts";
import { type FilterChain, FrameFilter } from "../../io/video/frame-filter.ts";
import { packed, sampledFrames } from "../../io/video/read.ts";
import { VideoReader } from "../../io/video/reader.ts";
import { ClipBuilder, type ClipRecord, type Sample } from "./clip.ts";
import { type Flow, flowBetween } from "./flow.ts";
import { type Geometry, planGeometry, scaleOf, tooSmall } from "./geometry.ts";
import { SourceLook } from "./look.ts";
import { type Content, contentOfBoth, settleContent } from "./measures/bars.ts";
import { detailEvery } from "./measures/measure.ts";
import { FilmRendering, renderFilm } from "./render.ts";
import { type SceneDecision, SceneDetector } from "./scenes.ts";
import type { PrepareSettings } from "./settings.ts";
import { type SmallPicture, smallPicture, smallSize, toneOf } from "./small.ts";
import { writeStrip } from "./strip.ts";

/** Slots [start, end) of a film: the unit of work, of parallelism and of what a kill can lose. */
export interface Segment {
  path: string;
  start: number;
  /** Undefined for the last one: to the film's end. */
  end?: number;
}

/** A stretch that belongs to no clip: slots, and why. */
export interface Gap {
  first: number;
  frames: number;
  why: LeftOut;
}

export interface SegmentRecord {
  clips: ClipRecord[];
  /** What is in no clip: frames of one colour, of a transition, with decoding errors. */
  gaps: Gap[];
  /** Slots that showed a frame. */
  slots: number;
  /** Decoding errors that were survived. */
  errors: number;
  /** Places where timestamps jumped. */
  joints: number;
  /** What of the film could not be reached, in words. */
  missing?: string;
}

export type LeftOut = Extract<SceneDecision, { kind: "between" }>["why"];

/** What the pass asks of its surroundings. */
export interface FilmHooks {
  /** Undefined where nothing is to be rendered on the way. */
  rendering?: {
    /** Whether a clip with these measures would be kept. */
    wanted(clip: ClipRecord): boolean;
    /** A new place for a film that may yet be thrown away. */
    scratchPath(): string;
    /** Takes over a finished film. */
    keep(clip: ClipRecord, path: string): Promise<void>;
  };
  /** Where to put the clip's contact strip. */
  stripPath(clip: ClipRecord): string;
  /** Slots passed since the last call. */
  onSlots(count: number): void;
  decoderThreads: number;
  signal?: AbortSignal;
}

/** Seconds of film that are looked at in five places for black bars; shorter ones in one. */
const longFilm = 60;

/** The picture between the bars, guessed from a few key frames; a clip that shows otherwise is read again. */
async function guessContent(reader: VideoReader, look: SourceLook, from: number, to: number): Promise<Rect> {
  const places = to - from > longFilm ? [0.1, 0.3, 0.5, 0.7, 0.9] : [0.3];
  let seen: Content | undefined;
  for (const place of places) {
    using frame = await reader.glimpse(from + place * (to - from));
    if (frame) seen = contentOfBoth(seen, (await look.at(frame)).content);
  }
  return settleContent(seen, reader.video.width, reader.video.height);
}

function sameRect(a: Rect, b: Rect): boolean {
  return a.x === b.x && a.y === b.y && a.width === b.width && a.height === b.height;
}

/** The filters from a source frame to the scaled picture. */
function scaling(reader: VideoReader, { content, scaled }: Geometry): FilterChain {
  const { video } = reader;
  return (frame) => {
    // A stream may change its size on the way; its parts stay where they are relative to the whole.
    const shown = shownSize(frame.width, frame.height, video);
    const [x, y] = [shown.width / video.width, shown.height / video.height];
    const crop = { x: content.x * x, y: content.y * y, width: content.width * x, height: content.height * y };
    const matrix = outputMatrix(video.color);
    return conversionChain(frame, video, { crop, ...scaled, format: "yuv420p", matrix });
  };
}

/** From source frames to samples: scaled, shrunk, measured against the frame before. */
class Sampler implements Disposable {
  readonly geometry: Geometry;
  readonly #look: SourceLook;
  readonly #every: number;
  readonly #small: { width: number; height: number };
  readonly #scale: FrameFilter<Pick<Sample, "slot" | "corrupt" | "seen">>;
  readonly #shrink: FrameFilter<true>;
  #before: SmallPicture | undefined;
  #flow: Flow | undefined;

  constructor(reader: VideoReader, look: SourceLook, geometry: Geometry, fps: number) {
    this.geometry = geometry;
    this.#look = look;
    this.#every = detailEvery(fps);
    this.#small = smallSize(geometry.content.width, geometry.content.height);
    this.#scale = new FrameFilter(scaling(reader, geometry));
    this.#shrink = new FrameFilter(
      () => `scale=${this.#small.width}:${this.#small.height}:flags=area,format=yuv420p`,
      1,
    );
  }

  async push(frame: Frame, slot: number, corrupt: boolean): Promise<Sample[]> {
    const seen = slot % this.#every === 0 ? await this.#look.at(frame, slot % (2 * this.#every) === 0) : undefined;
    const beside = { slot, corrupt, ...(seen ? { seen } : {}) };
    const samples: Sample[] = [];
    for (const out of await this.#scale.push(frame, beside)) {
      const [shrunk] = await this.#shrink.push(out.frame, true);
      using tiny = shrunk!.frame;
      const small = smallPicture(packed(tiny), this.#small.width, this.#small.height);
      const flow = this.#before && flowBetween(this.#before, small, this.#flow);
      this.#before = small;
      this.#flow = flow;
      samples.push({ ...out.beside, working: out.frame, small, tone: toneOf(small), flow });
    }
    return samples;
  }

  [Symbol.dispose](): void {
    this.#scale[Symbol.dispose]();
    this.#shrink[Symbol.dispose]();
  }
}

/** Seconds of a clip after which a good one starts to be encoded; until then its frames are held. */
const judgedAfter = 2;

/** Collects samples of a scene into clips, encodes the promising ones as they pass by, and closes them. */
class ClipCutter implements AsyncDisposable {
  readonly clips: ClipRecord[] = [];
  readonly gaps: Gap[] = [];
  /** Clips that showed another picture between bars than guessed: to be read again with it. */
  readonly again: { first: number; frames: number; scene: number; content: Rect }[] = [];
  readonly #reader: VideoReader;
  readonly #geometry: Geometry;
  readonly #settings: PrepareSettings;
  readonly #hooks: FilmHooks;
  readonly #most: number;
  readonly #least: number;
  readonly #judgedAt: number;
  #builder: ClipBuilder | undefined;
  #held: Frame[] = [];
  #rendering: FilmRendering | undefined;
  /** The clip before, which may still be in the encoder. */
  #finishing: Promise<void> = Promise.resolve();
  #scene: number;

  constructor(reader: VideoReader, geometry: Geometry, settings: PrepareSettings, hooks: FilmHooks, scene = -1) {
    this.#reader = reader;
    this.#geometry = geometry;
    this.#settings = settings;
    this.#hooks = hooks;
    this.#scene = scene;
    const { clips, fps } = settings;
    this.#most = Math.max(1, Math.floor(clips.longest * fps + 1e-6));
    this.#least = Math.max(1, Math.ceil(clips.shortest * fps - 1e-6));
    this.#judgedAt = Math.max(1, Math.ceil(Math.min(clips.shortest, judgedAfter) * fps));
  }

  /** Takes a sample over, its frame included. */
  async take(sample: Sample, decision: SceneDecision): Promise<void> {
    if (decision.kind === "between") {
      sample.working.free();
      this.#leaveOut(sample.slot, decision.why);
      await this.close();
      return;
    }
    if (decision.begins) {
      await this.close();
      this.#scene++;
    } else if (this.#builder && this.#builder.frames >= this.#most) {
      await this.close();
    }
    this.#builder ??= new ClipBuilder(sample.slot, this.#geometry, {
      fps: this.#settings.fps,
      kind: "video",
      scale: scaleOf(this.#geometry),
    });
    this.#builder.add(sample);
    await this.#pass(this.#builder, sample.working);
  }

  #leaveOut(slot: number, why: Gap["why"]): void {
    const last = this.gaps.at(-1);
    if (last && last.why === why && last.first + last.frames === slot) last.frames++;
    else this.gaps.push({ first: slot, frames: 1, why });
  }

  async #pass(builder: ClipBuilder, frame: Frame): Promise<void> {
    const { rendering } = this.#hooks;
    if (this.#rendering) {
      await this.#rendering.push(frame);
      return;
    }
    if (!rendering || builder.frames > this.#judgedAt) {
      frame.free();
      return;
    }
    this.#held.push(frame);
    if (builder.frames < this.#judgedAt) return;
    const held = this.#held.splice(0);
    // One that looks bad so far is not encoded; should it turn out well, it is decoded once more.
    const promising = builder.finish(this.#scene, this.#settings.crop);
    if (!rendering.wanted(promising)) {
      for (const one of held) one.free();
      return;
    }
    this.#rendering = new FilmRendering(rendering.scratchPath(), {
      geometry: this.#geometry,
      window: promising.window!,
      settings: this.#settings,
      matrix: outputMatrix(this.#reader.video.color),
    });
    for (const one of held) await this.#rendering.push(one);
  }

  async close(): Promise<void> {
    const builder = this.#builder;
    const rendering = this.#rendering;
    const held = this.#held.splice(0);
    this.#builder = undefined;
    this.#rendering = undefined;
    for (const frame of held) frame.free();
    if (!builder) return;
    const { first, frames } = builder;
    if (frames < this.#least) {
      await rendering?.abandon();
      this.clips.push({ first, frames, scene: this.#scene, short: true, values: {}, hashes: [] });
      return;
    }
    const { width, height } = this.#reader.video;
    const content = builder.content(width, height);
    if (!sameRect(content, this.#geometry.content)) {
      await rendering?.abandon();
      this.again.push({ first, frames, scene: this.#scene, content });
      return;
    }
    const clip = builder.finish(this.#scene, this.#settings.crop);
    this.clips.push(clip);
    await writeStrip(this.#hooks.stripPath(clip), builder.strip());
    if (!rendering) return;
    const { wanted, keep } = this.#hooks.rendering!;
    if (!wanted(clip)) {
      await rendering.abandon();
      return;
    }
    await this.#finishing;
    this.#finishing = rendering.finish().then((path) => keep(clip, path));
    // The failure is thrown where it is awaited; until then it is no unhandled one.
    this.#finishing.catch(() => {});
  }

  async finish(): Promise<void> {
    await this.close();
    await this.#finishing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const frame of this.#held.splice(0)) frame.free();
    await this.#rendering?.abandon();
    await this.#finishing.catch(() => {});
  }
}

/**
 * Analyses one segment. Equal input gives an equal record, whether or not clips were rendered on the way.
 * @throws KinoraError `media.*` where the film cannot be opened, `prepare.too-small`, `media.disk-full`, `io.*`.
 */
export async function analyseSegment(
  segment: Segment,
  settings: PrepareSettings,
  hooks: FilmHooks,
): Promise<SegmentRecord> {
  const { fps } = settings;
  await using reader = await VideoReader.open(segment.path, { threads: hooks.decoderThreads, quantizers: true });
  using look = new SourceLook(reader.video);
  const from = segment.start / fps;
  const to = segment.end === undefined ? undefined : segment.end / fps;
  const content = await guessContent(reader, look, from, to ?? Math.max(from, reader.media.duration));
  const geometry = planGeometry(content, settings);
  if (!geometry) throw tooSmall(content, settings);

  let [slots, joints] = [0, 0];
  let missing: string | undefined;
  using sampler = new Sampler(reader, look, geometry, fps);
  await using cutter = new ClipCutter(reader, geometry, settings, hooks);
  const detector = new SceneDetector<Sample>(settings.scenes, fps);
  try {
    const range = {
      fps,
      start: from,
      ...(to === undefined ? {} : { end: to }),
      ...(hooks.signal ? { signal: hooks.signal } : {}),
    };
    for await (const { frame, time, corrupt } of sampledFrames(reader, range)) {
      slots++;
      hooks.onSlots(1);
      for (const sample of await sampler.push(frame, Math.round(time * fps), corrupt))
        for (const { frame: decided, decision } of detector.push(sample)) await cutter.take(decided, decision);
    }
    for (const { frame: decided, decision } of detector.finish()) await cutter.take(decided, decision);
    await cutter.finish();
    joints = reader.joints;
    missing = await reader.missing();
  } finally {
    detector.release((sample) => sample.working.free());
  }
  const clips = [...cutter.clips];
  for (const part of cutter.again) clips.push(await analyseAgain(reader, look, part, settings, hooks));
  clips.sort((a, b) => a.first - b.first);
  const { errors } = reader;
  return { clips, slots, gaps: cutter.gaps, errors, joints, ...(missing === undefined ? {} : { missing }) };
}

/** A clip read a second time with its own picture between the bars. Its frames are known, so scenes are not looked for. */
async function analyseAgain(
  reader: VideoReader,
  look: SourceLook,
  part: { first: number; frames: number; scene: number; content: Rect },
  settings: PrepareSettings,
  hooks: FilmHooks,
): Promise<ClipRecord> {
  const { fps } = settings;
  const { first, frames, scene, content } = part;
  const geometry = planGeometry(content, settings);
  if (!geometry) return { first, frames, scene, values: { resolution: 0 }, hashes: [] };
  using sampler = new Sampler(reader, look, geometry, fps);
  // What was seen once is not judged again: the cutter's own check would compare the same rectangle.
  await using cutter = new ClipCutter(reader, geometry, settings, hooks, scene - 1);
  const range = {
    fps,
    start: first / fps,
    end: (first + frames) / fps,
    ...(hooks.signal ? { signal: hooks.signal } : {}),
  };
  let begins = true;
  for await (const { frame, time, corrupt } of sampledFrames(reader, range))
    for (const sample of await sampler.push(frame, Math.round(time * fps), corrupt)) {
      await cutter.take(sample, { kind: "scene", begins });
      begins = false;
    }
  await cutter.finish();
  const [clip] = cutter.clips;
  // A film that decodes differently the second time is not to be trusted.
  return clip ?? { first, frames, scene, values: {}, hashes: [], short: true };
}

/** Decodes a clip once more and renders it: after limits changed, or with normalisation. */
export async function renderAgain(
  path: string,
  clip: ClipRecord,
  settings: PrepareSettings,
  target: string,
  options: { shift?: { exposure: number; u: number; v: number }; decoderThreads: number; signal?: AbortSignal },
): Promise<void> {
  const { fps } = settings;
  const geometry = clip.geometry!;
  await using reader = await VideoReader.open(path, { threads: options.decoderThreads });
  using scale = new FrameFilter<true>(scaling(reader, geometry));
  const range = {
    fps,
    start: clip.first / fps,
    end: (clip.first + clip.frames) / fps,
    ...(options.signal ? { signal: options.signal } : {}),
  };
  async function* frames() {
    for await (const { frame } of sampledFrames(reader, range))
      for (const out of await scale.push(frame, true)) {
        using ready = out.frame;
        yield ready;
      }
  }
  await renderFilm(target, frames(), {
    geometry,
    window: clip.window!,
    settings,
    matrix: outputMatrix(reader.video.color),
    ...(options.shift ? { shift: options.shift } : {}),
  });
}
