// Every source looked into, several at a time: films in stretches, pictures whole; what was done before is taken from the store.
import { stat } from "node:fs/promises";
import { isKinoraError, type KinoraError } from "../../base/errors.ts";
import { inParallel } from "../../base/parallel.ts";
import { partialPath } from "../../io/atomic.ts";
import { ImageReader } from "../../io/image/read.ts";
import { type MediaInfo, probe } from "../../io/video/probe.ts";
import { timelineOf } from "../../io/video/timeline.ts";
import type { ManifestSource, Reason } from "../../protocol/dataset-manifest.ts";
import type { ClipRecord } from "./clip.ts";
import { analyseSegment, type FilmHooks, type Segment, type SegmentRecord } from "./film.ts";
import { filmNotes } from "./film-notes.ts";
import { tooSmall } from "./geometry.ts";
import { judge } from "./judge.ts";
import { analysePicture } from "./picture.ts";
import { pictureRecordSchema, segmentRecordSchema } from "./records.ts";
import { renderKey } from "./render.ts";
import type { PrepareSettings } from "./settings.ts";
import { accessProblem, type SourceFile } from "./sources.ts";
import { keyOf, type WorkStore } from "./store.ts";

/** Long films are worked on in stretches of this many seconds. A scene over the seam becomes two clips. */
const segmentSeconds = 240;
/** What one picture counts in progress, in seconds of film. */
const pictureSeconds = 0.5;
/** Sources whose headers are read at a time. */
const openAtOnce = 4;

export interface AnalysedClip {
  record: ClipRecord;
  /** Key of the analysis it came from. */
  unit: string;
  /** Key of its contact strip. */
  strip: string;
}

export interface AnalysedSource {
  file: SourceFile;
  facts: Omit<ManifestSource, "path" | "kind">;
  clips: AnalysedClip[];
  /** Keys of its analyses, those without a clip too. */
  units: string[];
}

export interface AnalyseOptions {
  settings: PrepareSettings;
  store: WorkStore;
  /** Sources worked on at a time. */
  width: number;
  decoderThreads: number;
  /** Called whenever a source turns out not to be (wholly) readable. */
  onProblem(file: SourceFile, reason: Reason, hint: string | undefined): void;
  /** Sources opened and in all. */
  onOpened(done: number, total: number, current: string): void;
  /** Seconds of film done and in all; `fresh` of the done ones were worked on now. */
  onProgress(done: number, total: number, fresh: number, current: string): void;
  /** Called for each stretch of film and each picture that had to be worked on. */
  onAnalysed(): void;
  onRendered(): void;
  signal?: AbortSignal;
}

interface Unit {
  source: number;
  seconds: number;
  segment?: Segment;
}

/** Errors of our own output stop everything; those of a source only concern that source. */
export function isOutputError(error: unknown): boolean {
  return isKinoraError(error) && (error.code.startsWith("io.") || error.code === "prepare.busy");
}

/** What is wrong with a source. Who reads it knows which one, so that its path is not said again. */
function reasonOf({ code, message }: KinoraError, path: string): Reason {
  const name = JSON.stringify(path);
  return { code, message: message.replace(`${name} `, "").replace(` ${name}`, "") };
}

/** The content of a source. What is wrong with reading it comes as the system says it: codes `io.*` are the output's. */
async function hashOfSource(path: string, store: WorkStore): Promise<string> {
  try {
    return await store.contentHash(path);
  } catch (error) {
    throw isKinoraError(error) && error.cause !== undefined ? error.cause : error;
  }
}

function filmFacts(media: MediaInfo): Partial<ManifestSource> {
  const { video } = media;
  if (!video) return {};
  const { matrix, range, transfer, assumed } = video.color;
  return {
    width: video.width,
    height: video.height,
    fps: Math.round(video.fps * 1000) / 1000,
    duration: Math.round(media.duration * 1000) / 1000,
    codec: video.codec,
    color: `${matrix}${assumed ? " (assumed)" : ""}, ${range} range${transfer === "sdr" ? "" : `, ${transfer}`}`,
  };
}

const stretchesOf = (duration: number): number => Math.max(1, Math.round(duration / segmentSeconds));

function segmentsOf(path: string, duration: number, fps: number): Segment[] {
  const count = stretchesOf(duration);
  const slots = Math.round(segmentSeconds * fps);
  return Array.from({ length: count }, (_, i) => ({
    path,
    start: i * slots,
    ...(i < count - 1 ? { end: (i + 1) * slots } : {}),
  }));
}

/** The settings that decide an analysis; limits are none of them. */
function analysisSettings(settings: PrepareSettings, kind: "video" | "image"): unknown {
  const { fps, sizeMultiple, resolution, sizes, upscale, crop, scenes, clips } = settings;
  const both = { fps, sizeMultiple, resolution, sizes, upscale, crop };
  return kind === "image" ? both : { ...both, scenes, clips };
}

class Analysis {
  readonly #options: AnalyseOptions;
  readonly sources: AnalysedSource[];
  readonly #records: (SegmentRecord & { unit: string })[][];
  readonly #hashes: (Promise<string> | undefined)[] = [];
  #done = 0;
  #fresh = 0;
  #total = 0;

  constructor(files: readonly SourceFile[], options: AnalyseOptions) {
    this.#options = options;
    this.sources = files.map((file) => ({ file, facts: { bytes: 0 }, clips: [], units: [] }));
    this.#records = files.map(() => []);
  }

  async run(): Promise<AnalysedSource[]> {
    const found: Unit[][] = this.sources.map(() => []);
    let opened = 0;
    await inParallel([...this.sources.keys()], openAtOnce, async (index) => {
      this.#options.signal?.throwIfAborted();
      found[index] = await this.#open(index);
      this.#options.onOpened(++opened, this.sources.length, this.sources[index]!.file.path);
    });
    const units = found.flat();
    this.#total = units.reduce((sum, unit) => sum + unit.seconds, 0);
    await inParallel(units, this.#options.width, (unit) => this.#work(unit));
    for (const index of this.sources.keys()) this.#gather(index);
    return this.sources;
  }

  /** What there is to do for a source; nothing where it cannot be opened. */
  async #open(index: number): Promise<Unit[]> {
    const source = this.sources[index]!;
    const { path, kind } = source.file;
    try {
      const info = await stat(path);
      // Hashing a pipe would wait for its writer for ever, a device may never end.
      if (!info.isFile()) {
        this.#problem(index, { code: "media.not-a-file", message: "is a pipe, a socket or a device" });
        return [];
      }
      source.facts.bytes = info.size;
      if (kind === "image") return [{ source: index, seconds: pictureSeconds }];
      const media = await probe(path);
      Object.assign(source.facts, filmFacts(media));
      if (!media.video) {
        this.#problem(index, {
          code: "media.no-video",
          message: media.hasAudio ? "contains audio but no video" : "contains no video",
        });
        return [];
      }
      const segments = await this.#segments(media);
      const { duration = 0 } = Object.assign(source.facts, segments.facts);
      const seconds = (duration || 1) / segments.list.length;
      return segments.list.map((segment) => ({ source: index, segment, seconds }));
    } catch (error) {
      await this.#fail(index, error);
      return [];
    }
  }

  /** Long films in stretches. How long they are and whether they can be entered in their middle, only their packets tell. */
  async #segments({ path, duration }: MediaInfo): Promise<{ list: Segment[]; facts: Partial<ManifestSource> }> {
    const { settings, signal } = this.#options;
    if (stretchesOf(duration) === 1) return { list: segmentsOf(path, 0, settings.fps), facts: {} };
    const timeline = await timelineOf(path, signal);
    const list = segmentsOf(path, timeline.joints > 0 ? 0 : timeline.duration, settings.fps);
    return { list, facts: { duration: Math.round(timeline.duration * 1000) / 1000 } };
  }

  #problem(index: number, reason: Reason, hint?: string): void {
    const source = this.sources[index]!;
    source.facts.problem ??= reason;
    this.#options.onProblem(source.file, reason, hint);
  }

  /** Notes why a source cannot be read; what is not about the source goes on up. */
  async #fail(index: number, error: unknown): Promise<void> {
    if (isOutputError(error) || this.#options.signal?.aborted) throw error;
    const { path } = this.sources[index]!.file;
    if (isKinoraError(error)) {
      this.#problem(index, reasonOf(error, path), error.hint);
      return;
    }
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    this.#problem(index, await accessProblem(path, error));
  }

  async #work(unit: Unit): Promise<void> {
    this.#options.signal?.throwIfAborted();
    const { source: index, seconds } = unit;
    const source = this.sources[index]!;
    this.#advance(0, source);
    try {
      const { store, settings } = this.#options;
      this.#hashes[index] ??= hashOfSource(source.file.path, store);
      const sha256 = await this.#hashes[index]!;
      source.facts.sha256 = sha256;
      const wishes = analysisSettings(settings, source.file.kind);
      if (unit.segment)
        await this.#film(
          index,
          unit.segment,
          keyOf("film", sha256, wishes, unit.segment.start, unit.segment.end),
          seconds,
        );
      else await this.#picture(index, keyOf("picture", sha256, wishes));
    } catch (error) {
      await this.#fail(index, error);
    }
  }

  #advance(seconds: number, source: AnalysedSource): void {
    this.#done += seconds;
    this.#options.onProgress(this.#done, this.#total, this.#fresh, source.file.path);
  }

  async #film(index: number, segment: Segment, unit: string, seconds: number): Promise<void> {
    const { store, settings, decoderThreads, signal } = this.#options;
    const source = this.sources[index]!;
    source.units.push(unit);
    const known = await store.result(unit, segmentRecordSchema);
    if (known) {
      this.#records[index]!.push({ ...known, unit });
      this.#advance(seconds, source);
      return;
    }
    let passed = 0;
    const strips: string[] = [];
    const record = await analyseSegment(segment, settings, {
      decoderThreads,
      ...(signal ? { signal } : {}),
      onSlots: (count) => {
        const step = Math.min(count / settings.fps, Math.max(0, seconds - passed));
        passed += step;
        this.#fresh += step;
        this.#advance(step, source);
      },
      stripPath: (clip) => {
        const key = keyOf("strip", unit, clip.first);
        strips.push(key);
        return store.stripPath(key);
      },
      ...(this.#rendersOnTheWay() ? { rendering: this.#rendering(unit) } : {}),
    });
    await store.saveResult(unit, record, strips);
    this.#options.onAnalysed();
    this.#records[index]!.push({ ...record, unit });
    this.#advance(seconds - passed, source);
  }

  /** Crops by motion and set-wide tones are known only afterwards. */
  #rendersOnTheWay(): boolean {
    const { in_place, normalize, crop } = this.#options.settings;
    return !in_place && !normalize && crop === "center";
  }

  #rendering(unit: string): NonNullable<FilmHooks["rendering"]> {
    const { store, settings } = this.#options;
    return {
      wanted: (clip) => judge(clip, settings).reasons.length === 0,
      scratchPath: () => partialPath(store.renderedPath(unit, ".mp4")),
      keep: async (clip, path) => {
        const key = renderKey(unit, clip, settings, undefined);
        await store.keepRendered(path, key, ".mp4");
        this.#options.onRendered();
      },
    };
  }

  async #picture(index: number, unit: string): Promise<void> {
    const { store, settings } = this.#options;
    const source = this.sources[index]!;
    const strip = keyOf("strip", unit, 0);
    source.units.push(unit);
    let record = await store.result(unit, pictureRecordSchema);
    if (!record) {
      const clip = await analysePicture(source.file.path, settings, store.stripPath(strip));
      using reader = await ImageReader.open(source.file.path);
      const { width, height } = reader.info;
      record = { width, height, clip: clip ?? null };
      await store.saveResult(unit, record, [strip]);
      this.#options.onAnalysed();
      this.#fresh += pictureSeconds;
    }
    const { width, height, clip } = record;
    Object.assign(source.facts, { width, height });
    if (clip) source.clips.push({ record: clip, unit, strip });
    else await this.#fail(index, tooSmall({ width, height }, settings));
    this.#advance(pictureSeconds, source);
  }

  /** Joins the stretches of a film: scenes counted on, clips in order. */
  #gather(index: number): void {
    const records = this.#records[index]!;
    const source = this.sources[index]!;
    if (records.length === 0) return;
    const at = ({ clips, gaps }: SegmentRecord) =>
      Math.min(clips[0]?.first ?? Number.POSITIVE_INFINITY, gaps[0]?.first ?? Number.POSITIVE_INFINITY);
    records.sort((a, b) => at(a) - at(b));
    let scenes = 0;
    for (const { clips, unit } of records) {
      for (const clip of clips)
        source.clips.push({
          record: { ...clip, scene: clip.scene + scenes },
          unit,
          strip: keyOf("strip", unit, clip.first),
        });
      scenes += 1 + Math.max(-1, ...clips.map((clip) => clip.scene));
    }
    const { fps } = this.#options.settings;
    const notes = filmNotes(records, { duration: source.facts.duration, clips: source.clips.length > 0, fps });
    Object.assign(source.facts, notes.facts);
    if (notes.problem) this.#problem(index, notes.problem);
    for (const reason of notes.told) this.#options.onProblem(source.file, reason, undefined);
  }
}

/** @throws KinoraError where the output cannot be written; what is wrong with sources goes to `onProblem`. */
export async function analyseSources(files: readonly SourceFile[], options: AnalyseOptions): Promise<AnalysedSource[]> {
  return await new Analysis(files, options).run();
}
