// manifest.json of a prepared set: where every item came from, what was measured, what was decided and why.
import { z } from "zod";
import { modelNameSchema } from "./model-media.ts";
import { measureNames } from "./prepare-config.ts";

/** Raised when a reader of the old form would misunderstand the new one. */
export const manifestVersion = 1;

/** Pixels of a side, seconds of a film, frames of an item: beyond these it is no picture or film of this world. */
const mostPixels = 1_000_000;
const seconds = z.number().min(0).max(1e9);
const frames = z.int().min(0).max(1e7);
const side = z.int().min(1).max(mostPixels);

/** May lie on fractions of pixels, and by rounding a little outside. */
const offset = z.number().min(-1).max(mostPixels);
const extent = z.number().positive().max(mostPixels);
const rect = z.strictObject({ x: offset, y: offset, width: extent, height: extent });
const size = z.strictObject({ width: side, height: side });
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
/** Relative to the manifest's folder with forward slashes, or absolute where there is no relative way. */
const path = z.string().min(1);

/** One measure of an item. */
export const measurementSchema = z.strictObject({
  /** Null where the material cannot be judged (e.g. sharpness of an empty sky). */
  value: z.number().nullable(),
  unit: z.string(),
  min: z.number().optional(),
  max: z.number().optional(),
  verdict: z.enum(["pass", "fail", "unknown"]),
});
export type Measurement = z.infer<typeof measurementSchema>;

/** Why an item was dropped. */
export const reasonSchema = z.strictObject({
  /** A measure's name with `-low` or `-high`, or `too-short`, `too-small`, `near-duplicate`, `unreadable-again`. */
  code: z.string(),
  message: z.string(),
});
export type Reason = z.infer<typeof reasonSchema>;

/** A film or picture that a set was made from. */
export const sourceSchema = z.strictObject({
  path,
  kind: z.enum(["video", "image"]),
  bytes: z.int().min(0),
  /** Of the whole file's content; absent where it could not be read. */
  sha256: sha256.optional(),
  width: side.optional(),
  height: side.optional(),
  /** Films only: frames a second as the header tells, seconds, codec, colour. */
  fps: z.number().min(0).optional(),
  duration: seconds.optional(),
  codec: z.string().optional(),
  color: z.string().optional(),
  /** Decoding errors that were survived. */
  damage: z.int().min(0).optional(),
  /** Stretches of a film that belong to no clip, in seconds: `blank`, `fade` or `damaged`. */
  gaps: z.array(z.strictObject({ in: z.number(), out: z.number(), code: z.string(), message: z.string() })).optional(),
  /** Why nothing was taken from it. */
  problem: reasonSchema.optional(),
  /** What of it is in no item without being damaged, and where its times were mended. */
  notes: z.array(reasonSchema).optional(),
});
export type ManifestSource = z.infer<typeof sourceSchema>;

/** A clip or picture of a prepared set. */
export const itemSchema = z.strictObject({
  /** Stable name: the file's name without ending. */
  id: z.string().min(1),
  kind: z.enum(["video", "image"]),
  /** Index into `sources`. */
  source: z.int().min(0),
  /** Seconds in the source; 0 and 0 for pictures. `out` is the end of the last frame. */
  in: seconds,
  out: seconds,
  /** Frames at the set's rate; 1 for pictures. */
  frames,
  /** Counts the scenes of a film, from 0. */
  scene: z.int().min(0).optional(),
  /** The part of the source that was kept, in its pixels as shown (upright, square pixels). */
  crop: rect.optional(),
  /** The picture without black bars, in the same pixels; absent where there are none. */
  content: rect.optional(),
  /** Width and height of the item: its bucket. */
  size: size.optional(),
  /** Exposure factor and chroma shifts (8-bit levels) that normalisation applied. */
  normalized: z.strictObject({ exposure: z.number(), u: z.number(), v: z.number() }).optional(),
  measures: z.partialRecord(z.enum(measureNames), measurementSchema),
  /** 64-bit perceptual hashes every half second, hexadecimal. */
  hashes: z.array(z.string().regex(/^[0-9a-f]{16}$/)).optional(),
  verdict: z.enum(["keep", "drop"]),
  reasons: z.array(reasonSchema),
  /** What is told of it and dropped nothing: a measure between its notice and its limit. */
  findings: z.array(reasonSchema).optional(),
  /** The written file; absent for dropped items and with `in_place`. */
  file: path.optional(),
  bytes: z.int().min(0).optional(),
  sha256: sha256.optional(),
  /** The caption found beside the source. */
  caption: path.optional(),
});
export type ManifestItem = z.infer<typeof itemSchema>;

/** manifest.json of a prepared set. */
export const datasetManifestSchema = z.strictObject({
  kind: z.literal("kinora.dataset"),
  version: z.literal(manifestVersion),
  model: modelNameSchema,
  fps: z.number().positive().max(1000),
  sizeMultiple: z.int().min(1).max(1024),
  /** True where the items' frames are still in the sources. */
  inPlace: z.boolean(),
  /** The settings as they were used, defaults filled in. */
  settings: z.record(z.string(), z.unknown()),
  sources: z.array(sourceSchema),
  items: z.array(itemSchema),
});
export type DatasetManifest = z.infer<typeof datasetManifestSchema>;
