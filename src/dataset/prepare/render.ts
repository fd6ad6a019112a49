// Turning a clip's scaled frames into the file that trains: the window cut out, tones shifted where asked, encoded.
import type { Frame } from "node-av/lib";
import { KinoraError } from "../../base/errors.ts";
import { FrameFilter } from "../../io/video/frame-filter.ts";
import { VideoWriter } from "../../io/video/write.ts";
import type { ClipRecord } from "./clip.ts";
import type { Geometry, Window } from "./geometry.ts";
import type { PrepareSettings } from "./settings.ts";
import { keyOf } from "./store.ts";

/** One number on every machine, because it decides the bytes; clips of this size gain nothing from more. */
export const encoderThreads = 4;

/** What normalisation does to an item: luma times `exposure`, chroma plus `u` and `v` levels. */
export interface ToneShift {
  exposure: number;
  u: number;
  v: number;
}

/** The name under which a rendered item is kept: everything that decides its bytes. */
export function renderKey(
  unit: string,
  { first, frames, geometry, window }: ClipRecord,
  settings: PrepareSettings,
  shift: ToneShift | undefined,
): string {
  return keyOf("render", unit, first, frames, geometry, window, settings.fps, settings.video, shift ?? null);
}

export function windowFilters(
  { bucket, scaled }: Geometry,
  { left, top }: Window,
  shift: ToneShift | undefined,
): string {
  const filters: string[] = [];
  if (bucket.width !== scaled.width || bucket.height !== scaled.height)
    filters.push(`crop=${bucket.width}:${bucket.height}:${left}:${top}`);
  if (shift) {
    const signed = (value: number) => `val${value < 0 ? "" : "+"}${value}`;
    filters.push(
      `lutyuv=y=clip((val-16)*${shift.exposure}+16\\,16\\,235):u=clip(${signed(shift.u)}\\,16\\,240):v=clip(${signed(shift.v)}\\,16\\,240)`,
    );
  }
  return filters.join(",");
}

export interface RenderOptions {
  geometry: Geometry;
  window: Window;
  settings: PrepareSettings;
  matrix: "bt601" | "bt709";
  shift?: ToneShift;
}

/** Encodes frames of the scaled size, in order. `frames` are the caller's to free. */
export async function renderFilm(path: string, frames: AsyncIterable<Frame>, options: RenderOptions): Promise<void> {
  const { geometry, window, settings, matrix, shift } = options;
  await using writer = await VideoWriter.create(path, {
    ...geometry.bucket,
    fps: settings.fps,
    crf: settings.video.crf,
    preset: settings.video.preset,
    matrix,
    threads: encoderThreads,
  });
  const chain = windowFilters(geometry, window, shift);
  using cut = new FrameFilter<true>(() => chain);
  for await (const frame of frames) {
    if (chain === "") {
      await writer.writeNative(frame);
      continue;
    }
    for (const out of await cut.push(frame, true)) {
      using ready = out.frame;
      await writer.writeNative(ready);
    }
  }
  await writer.finish();
}

/** Frames that may wait for the encoder before the reader of the film must. */
const mostWaiting = 12;

/** A film that is encoded while its frames still come in, and may be given up. */
export class FilmRendering {
  readonly #path: string;
  readonly #waiting: Frame[] = [];
  readonly #run: Promise<void>;
  #ended = false;
  #abandoned = false;
  #failed = false;
  #changed: (() => void)[] = [];

  constructor(path: string, options: RenderOptions) {
    this.#path = path;
    this.#run = renderFilm(path, this.#frames(), options);
    // Seen by `finish`, or on purpose by nobody; frames must not wait for an encoder that is gone.
    this.#run.catch(() => {
      this.#failed = true;
      this.#letGo();
    });
  }

  /** Takes a frame over. */
  async push(frame: Frame): Promise<void> {
    while (this.#waiting.length >= mostWaiting && !this.#failed) await this.#change();
    if (this.#failed) frame.free();
    else this.#waiting.push(frame);
    this.#wake();
  }

  /** Ends the film; gives its path once it is whole. */
  async finish(): Promise<string> {
    this.#ended = true;
    this.#wake();
    await this.#run;
    return this.#path;
  }

  /** Ends the work and leaves no file. */
  async abandon(): Promise<void> {
    this.#abandoned = true;
    this.#wake();
    await this.#run.catch(() => {});
    this.#letGo();
  }

  async *#frames(): AsyncGenerator<Frame> {
    for (;;) {
      if (this.#abandoned) throw new KinoraError("prepare.abandoned", "the clip is no longer needed");
      const frame = this.#waiting.shift();
      if (frame) {
        this.#wake();
        using lent = frame;
        yield lent;
      } else if (this.#ended) {
        return;
      } else {
        await this.#change();
      }
    }
  }

  #letGo(): void {
    for (const frame of this.#waiting.splice(0)) frame.free();
    this.#wake();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => void this.#changed.push(resolve));
  }

  #wake(): void {
    for (const resolve of this.#changed.splice(0)) resolve();
  }
}
