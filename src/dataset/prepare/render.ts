// Turning a clip's scaled frames into the file that trains: the window cut out, tones shifted where asked, encoded.
import type { Frame } from "node-av/lib";
import { FrameFilter } from "../../io/video/frame-filter.ts";
import { VideoWriter } from "../../io/video/write.ts";
import type { ClipRecord } from "./clip.ts";
import type { Geometry, Window } from "./geometry.ts";
import type { PrepareSettings } from "./settings.ts";
import { keyOf } from "./store.ts";

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

/** Encodes frames of the scaled size, in order. `frames` are the caller's to free. */
export async function renderFilm(
  path: string,
  frames: Iterable<Frame> | AsyncIterable<Frame>,
  options: {
    geometry: Geometry;
    window: Window;
    settings: PrepareSettings;
    matrix: "bt601" | "bt709";
    shift?: ToneShift;
  },
): Promise<void> {
  const { geometry, window, settings, matrix, shift } = options;
  await using writer = await VideoWriter.create(path, {
    ...geometry.bucket,
    fps: settings.fps,
    crf: settings.video.crf,
    preset: settings.video.preset,
    matrix,
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
