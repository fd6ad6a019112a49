// The whole preparation: sources → analysis → verdicts → rendering → the set's folder, as a stream of events.
import { availableParallelism } from "node:os";
import { join, resolve } from "node:path";
import { isKinoraError, KinoraError } from "../../base/errors.ts";
import { inParallel, stream } from "../../base/parallel.ts";
import { nameKey } from "../../base/platform.ts";
import { DiskNames } from "../../io/disk-names.ts";
import { noticeOf } from "../../io/text/read.ts";
import {
  type DatasetManifest,
  type ManifestItem,
  type ManifestSource,
  manifestVersion,
  type Reason,
} from "../../protocol/dataset-manifest.ts";
import { mediaOf } from "../../protocol/model-media.ts";
import { wanModels } from "../../protocol/models.ts";
import type { PrepareConfigInput } from "../../protocol/prepare-config.ts";
import { withTrigger } from "../caption/caption-text.ts";
import { readCaptionFile } from "../caption-file.ts";
import { findManifest, itemFile, manifestName } from "../manifest.ts";
import { withoutExtension } from "../media-files.ts";
import { type AnalysedClip, type AnalysedSource, analyseSources, isOutputError } from "./analyse.ts";
import type { ClipRecord } from "./clip.ts";
import { findDuplicates } from "./duplicates.ts";
import { renderAgain } from "./film.ts";
import { windowInSource } from "./geometry.ts";
import { prepareHints } from "./hints.ts";
import { judge } from "./judge.ts";
import { toneShifts } from "./normalize.ts";
import { withSharedOverlays } from "./overlays.ts";
import { renderPicture } from "./picture.ts";
import { checkFolders, type Laid, layOut, manifestPath, reportName, type Wanted, writeIfChanged } from "./publish.ts";
import { renderKey, type ToneShift } from "./render.ts";
import { reportHtml } from "./report.ts";
import { type PrepareSettings, settlePrepareConfig } from "./settings.ts";
import { type SourceFile, scanSources } from "./sources.ts";
import { type RenderedFile, WorkStore } from "./store.ts";

/** What is prepared, and where to. */
export interface PrepareRequest {
  /** Films, pictures and folders of them. */
  sources: readonly string[];
  /** The set's folder; made where it is missing. */
  out: string;
  config: PrepareConfigInput;
  /** Sources worked on at a time; by default half the cores, at least two. */
  width?: number;
  signal?: AbortSignal;
}

/** What a preparation came to. */
export interface PrepareSummary {
  out: string;
  manifest: string;
  report: string;
  videos: number;
  images: number;
  /** Seconds of film kept. */
  seconds: number;
  dropped: number;
  /** Ids of dropped items by reason; one item may have several. */
  reasons: Record<string, string[]>;
  problems: number;
  /** Items without a caption. */
  uncaptioned: number;
  notes: string[];
  /** What would make more of the set. */
  hints: string[];
  /** What this run had to do; all 0 where everything was there. */
  work: { analysed: number; rendered: number; written: number };
}

/** What a preparation tells on its way. */
export type PrepareEvent =
  | { type: "scanned"; films: number; pictures: number; others: number }
  | { type: "problem"; path: string; code: string; message: string; hint?: string }
  | {
      type: "progress";
      stage: "open" | "analyse" | "render";
      /** Sources (open), seconds of film (analyse) or items (render). */
      done: number;
      total: number;
      current: string;
      /** Seconds; absent while nothing is known. */
      eta?: number;
    }
  | { type: "finished"; summary: PrepareSummary };

/** An item between verdict and manifest. */
interface Candidate {
  clip: AnalysedClip;
  source: number;
  file: SourceFile;
  item: ManifestItem;
}

/** Milliseconds between two progress events. */
const progressEvery = 200;

class Preparation {
  readonly #request: PrepareRequest;
  readonly #settings: PrepareSettings;
  readonly #out: string;
  readonly #tell: (event: PrepareEvent) => void;
  readonly #width: number;
  readonly #decoderThreads: number;
  readonly #work = { analysed: 0, rendered: 0, written: 0 };
  #problems = 0;
  #lastProgress = 0;

  constructor(request: PrepareRequest, settings: PrepareSettings, tell: (event: PrepareEvent) => void) {
    this.#request = request;
    this.#settings = settings;
    this.#out = resolve(request.out);
    this.#tell = tell;
    const cores = availableParallelism();
    this.#width = request.width ?? Math.max(2, Math.min(16, Math.round(cores / 2)));
    this.#decoderThreads = Math.max(2, Math.ceil(cores / this.#width));
  }

  async run(): Promise<void> {
    await using store = await WorkStore.open(this.#out);
    await checkFolders(this.#out);
    const scan = await scanSources(this.#request.sources, this.#out);
    const films = scan.files.filter((file) => file.kind === "video").length;
    this.#tell({ type: "scanned", films, pictures: scan.files.length - films, others: scan.others });
    for (const { path, code, message } of scan.problems) this.#problem(path, { code, message });
    if (scan.files.length === 0)
      throw new KinoraError("prepare.no-sources", "no video or picture was found", {
        actual: this.#request.sources.join(", "),
        hint:
          scan.ownFolders.length > 0
            ? `the output is written to ${scan.ownFolders.join(", ")}: choose another \`out\` folder`
            : "give files or folders with .mp4, .mov, .mkv, .jpg, .png and similar files",
      });

    const started = performance.now();
    const { signal } = this.#request;
    const sources = await analyseSources(scan.files, {
      settings: this.#settings,
      store,
      width: this.#width,
      decoderThreads: this.#decoderThreads,
      ...(signal ? { signal } : {}),
      onOpened: (done, total, current) => this.#progress("open", done, total, done, started, current),
      onProblem: (file, reason, hint) => this.#problem(file.path, reason, hint),
      onProgress: (done, total, fresh, current) => this.#progress("analyse", done, total, fresh, started, current),
      onAnalysed: () => void this.#work.analysed++,
      onRendered: () => void this.#work.rendered++,
    });
    await store.saveHashes();

    const candidates = this.#judge(sources);
    const rendered = await this.#render(candidates, store);
    const manifest = this.#manifest(sources, candidates);
    const { captions, notices } = await this.#captions(sources, candidates);
    const laid = await this.#layOut(candidates, rendered, captions, store);
    const notes = [...notices, ...laid.notes];
    const text = `${JSON.stringify(manifest, undefined, 2)}\n`;
    if (await writeIfChanged(join(this.#out, manifestName), text)) this.#work.written++;
    const strips = new Map(candidates.map(({ item, clip }) => [item.id, store.stripPath(clip.strip)]));
    const unlisted = scan.problems.map(({ path, code, message }) => ({ path, code, message }));
    const report = await reportHtml(manifest, { strips, unlisted, notes, captions: laid.captions });
    // Captions that came since are shown anew; that is no work on the set.
    await writeIfChanged(join(this.#out, reportName), report);
    const needed = new Set(sources.flatMap((source) => source.units));
    for (const { clip } of candidates) needed.add(clip.strip);
    for (const { key } of rendered.values()) needed.add(key);
    await store.collect(needed);
    this.#tell({ type: "finished", summary: this.#summary(manifest, laid, notes) });
  }

  #problem(path: string, { code, message }: Reason, hint?: string): void {
    this.#problems++;
    this.#tell({ type: "problem", path, code, message, ...(hint ? { hint } : {}) });
  }

  /** `fresh`: of `done`, what was worked on since `started`; the rest came from the store. */
  #progress(
    stage: "open" | "analyse" | "render",
    done: number,
    total: number,
    fresh: number,
    started: number,
    current: string,
  ): void {
    const now = performance.now();
    if (now - this.#lastProgress < progressEvery && done < total) return;
    this.#lastProgress = now;
    const spent = (now - started) / 1000;
    const eta = fresh > 0 && spent > 1 ? (spent * (total - done)) / fresh : undefined;
    this.#tell({ type: "progress", stage, done, total, current, ...(eta === undefined ? {} : { eta }) });
  }

  #judge(sources: readonly AnalysedSource[]): Candidate[] {
    const candidates: Candidate[] = [];
    const taken = new Set<string>();
    const { duplicates } = this.#settings;
    const all = sources.flatMap(({ clips }, source) => clips.map((clip) => ({ source, clip })));
    const records = withSharedOverlays(
      all.map(({ source, clip }) => ({ source, clip: clip.record })),
      duplicates.distance,
    );
    for (const [i, { source, clip }] of all.entries()) {
      const record = records[i]!;
      const { file, clips } = sources[source]!;
      const only = !record.short && clips.filter((other) => !other.record.short).length === 1;
      const item = this.#item(record, source, file, only);
      item.id = unique(item.id, taken);
      candidates.push({ clip: { ...clip, record }, source, file, item });
    }
    if (duplicates.detect) {
      const passing = candidates.flatMap(({ item, source, clip, file }, index) =>
        item.reasons.length === 0 ? [{ index, kind: file.kind, source, clip: clip.record }] : [],
      );
      for (const { index, of, distance } of findDuplicates(passing, duplicates.distance))
        candidates[index]!.item.reasons.push({
          code: "near-duplicate",
          message: `nearly the same as ${candidates[of]!.item.id} (${distance.toFixed(1)} of 64 bits differ)`,
        });
    }
    for (const { item } of candidates) item.verdict = item.reasons.length === 0 ? "keep" : "drop";
    return candidates;
  }

  #item(record: ClipRecord, source: number, file: SourceFile, only: boolean): ManifestItem {
    const { fps } = this.#settings;
    const film = file.kind === "video";
    const seconds = (slots: number) => Math.round((slots / fps) * 1e6) / 1e6;
    const { geometry, window } = record;
    const start = seconds(record.first);
    const { content } = geometry ?? {};
    return {
      id: film && !only ? `${file.slug}-${clock(start)}` : file.slug,
      kind: film ? "video" : "image",
      source,
      in: film ? start : 0,
      out: film ? seconds(record.first + record.frames) : 0,
      frames: record.frames,
      ...(film ? { scene: record.scene } : {}),
      ...(geometry && window ? { crop: windowInSource(geometry, window), size: geometry.bucket } : {}),
      ...(content ? { content } : {}),
      ...judge(record, this.#settings),
      ...(record.hashes.length > 0 ? { hashes: record.hashes } : {}),
      verdict: "keep",
    };
  }

  /** Makes sure every kept item is rendered; gives the store's key for each of them. */
  async #render(
    candidates: readonly Candidate[],
    store: WorkStore,
  ): Promise<Map<Candidate, RenderedFile & { key: string }>> {
    const rendered = new Map<Candidate, RenderedFile & { key: string }>();
    if (this.#settings.in_place) return rendered;
    const kept = candidates.filter(({ item }) => item.verdict === "keep");
    const shiftOf = this.#settings.normalize
      ? toneShifts(
          kept.map(({ clip }) => clip.record),
          this.#settings.normalization,
        )
      : () => undefined;
    const started = performance.now();
    let done = 0;
    let fresh = 0;
    await inParallel(kept, this.#width, async (candidate) => {
      this.#request.signal?.throwIfAborted();
      const { clip, file, item } = candidate;
      const shift = shiftOf(clip.record);
      const ending = file.kind === "video" ? ".mp4" : ".png";
      const key = renderKey(clip.unit, clip.record, this.#settings, shift);
      let known = await store.rendered(key, ending);
      if (!known) {
        try {
          await this.#renderOne(candidate, store.renderedPath(key, ending), shift);
        } catch (error) {
          if (isOutputError(error) || !isKinoraError(error)) throw error;
          item.verdict = "drop";
          item.reasons.push({ code: "unreadable-again", message: error.message });
          return;
        }
        known = await store.noteRendered(key, ending);
        this.#work.rendered++;
        fresh++;
      }
      if (shift) item.normalized = shift;
      item.file = itemFile(item);
      item.bytes = known.bytes;
      item.sha256 = known.sha256;
      rendered.set(candidate, { ...known, key });
      if (fresh > 0) this.#progress("render", ++done, kept.length, fresh, started, file.path);
      else done++;
    });
    return rendered;
  }

  async #renderOne({ clip, file }: Candidate, target: string, shift: ToneShift | undefined): Promise<void> {
    if (file.kind === "image") {
      await renderPicture(file.path, clip.record, target, shift);
      return;
    }
    await renderAgain(file.path, clip.record, this.#settings, target, {
      decoderThreads: this.#decoderThreads,
      ...(shift ? { shift } : {}),
      ...(this.#request.signal ? { signal: this.#request.signal } : {}),
    });
  }

  #manifest(sources: readonly AnalysedSource[], candidates: readonly Candidate[]): DatasetManifest {
    const { model, fps, sizeMultiple, ...settings } = this.#settings;
    return {
      kind: "kinora.dataset",
      version: manifestVersion,
      model,
      fps,
      sizeMultiple,
      inPlace: settings.in_place,
      settings,
      sources: sources.map(
        ({ file, facts }): ManifestSource => ({
          path: manifestPath(this.#out, file.path),
          kind: file.kind,
          ...facts,
        }),
      ),
      items: candidates.map(({ item }) => item),
    };
  }

  /** Captions found beside the sources of kept items, by source. */
  async #captions(
    sources: readonly AnalysedSource[],
    candidates: readonly Candidate[],
  ): Promise<{ captions: Map<number, string>; notices: string[] }> {
    const captions = new Map<number, string>();
    const notices: string[] = [];
    const names = new DiskNames();
    const paths = new Map<number, string>();
    for (const { source, item } of candidates) {
      if (item.verdict !== "keep" || paths.has(source)) continue;
      const path = await names.spelled(`${withoutExtension(sources[source]!.file.path)}.txt`);
      paths.set(source, path);
      try {
        const found = await readCaptionFile(path);
        if (found?.text) captions.set(source, found.text);
        if (found) notices.push(...noticeOf(path, found));
      } catch (error) {
        if (!isKinoraError(error)) throw error;
        this.#problem(path, { code: error.code, message: error.message.replace(`${path}: `, "") }, error.hint);
      }
    }
    for (const { source, item } of candidates)
      if (captions.has(source)) item.caption = manifestPath(this.#out, paths.get(source)!);
    return { captions, notices };
  }

  async #layOut(
    candidates: readonly Candidate[],
    rendered: ReadonlyMap<Candidate, RenderedFile & { key: string }>,
    captions: ReadonlyMap<number, string>,
    store: WorkStore,
  ): Promise<Laid> {
    const wanted: Wanted[] = [];
    for (const candidate of candidates) {
      const { item, source, file } = candidate;
      if (item.verdict !== "keep") continue;
      const sourceCaption = captions.get(source);
      const caption = sourceCaption && withTrigger(sourceCaption, this.#settings.trigger ?? "", { inside: "keep" });
      const made = rendered.get(candidate);
      const ending = file.kind === "video" ? ".mp4" : ".png";
      wanted.push({
        file: itemFile(item),
        ...(made ? { made: { ...made, from: store.renderedPath(made.key, ending) } } : {}),
        ...(caption && sourceCaption ? { caption, sourceCaption } : {}),
      });
    }
    const earlier = await findManifest(this.#out);
    const laid = await layOut(this.#out, wanted, {
      journal: join(store.folder, "laid.json"),
      earlier: earlier.state === "read" ? earlier.value : undefined,
      captionsFolder: this.#settings.captions_folder,
      hash: (path, how) => store.contentHash(path, how),
    });
    this.#work.written += laid.placed;
    if (earlier.state === "damaged")
      laid.notes.push(`${manifestName} was damaged and will be rewritten: ${earlier.why}`);
    for (const path of store.damaged) laid.notes.push(`${path} had been changed and was rebuilt`);
    return laid;
  }

  #summary(manifest: DatasetManifest, { captions, taken }: Laid, notes: string[]): PrepareSummary {
    const kept = manifest.items.filter((item) => item.verdict === "keep");
    const videos = kept.filter((item) => item.kind === "video");
    const reasons: Record<string, string[]> = {};
    for (const { id, reasons: why } of manifest.items)
      for (const { code } of why) {
        reasons[code] ??= [];
        reasons[code].push(id);
      }
    return {
      out: this.#out,
      manifest: join(this.#out, manifestName),
      report: join(this.#out, reportName),
      videos: videos.length,
      images: kept.length - videos.length,
      seconds: videos.reduce((sum, item) => sum + item.out - item.in, 0),
      dropped: manifest.items.length - kept.length,
      reasons,
      problems: this.#problems,
      uncaptioned: kept.filter((item) => !captions.has(itemFile(item))).length,
      notes,
      hints: prepareHints(kept, {
        taken,
        frames: mediaOf(wanModels[manifest.model]).defaultFrames,
        settings: this.#settings,
      }),
      work: { ...this.#work },
    };
  }
}

/** `id`, or with the first free number behind it. A set's own clip may lie beside the film it was cut from. */
function unique(id: string, taken: Set<string>): string {
  let free = id;
  // Some file systems tell no case apart.
  for (let i = 2; taken.has(nameKey(free)); i++) free = `${id}-${i}`;
  taken.add(nameKey(free));
  return free;
}

/** 75.5 as `001m15s500`: sorts by time, has no dots. */
function clock(seconds: number): string {
  const milliseconds = Math.round(seconds * 1000);
  const part = (value: number, digits: number) => String(value).padStart(digits, "0");
  const [minutes, rest] = [Math.floor(milliseconds / 60_000), milliseconds % 60_000];
  return `${part(minutes, 3)}m${part(Math.floor(rest / 1000), 2)}s${part(rest % 1000, 3)}`;
}

/**
 * Prepares a training set. Nothing in `sources` is changed; a run that was cut off goes on where it stopped, and a run
 * over the same sources and settings finds everything done.
 *
 * @throws KinoraError `prepare-config.*`, `model.unknown`, `prepare.no-sources`, `prepare.source-in-set`,
 *   `prepare.busy`, and `io.*` where the set's folder cannot be written; the signal's reason once it is aborted. What
 *   cannot be read comes as `problem` events.
 */
export async function* prepareDataset(request: PrepareRequest): AsyncGenerator<PrepareEvent> {
  const settings = settlePrepareConfig(request.config);
  yield* stream<PrepareEvent>(
    (tell, signal) => new Preparation({ ...request, signal }, settings, tell).run(),
    request.signal,
    new KinoraError("prepare.stopped", "the preparation was stopped"),
  );
}
