// What the work store keeps of an analysis, as it is read back: numbers in bounds and nothing else, since they go into
// FFmpeg's filters and decide how much is decoded.
import { z } from "zod";
import type { ClipRecord } from "./clip.ts";
import type { SegmentRecord } from "./film.ts";

const count = z.int().min(0).max(1e9);
const pixels = z.int().min(1).max(1_000_000);
const size = z.looseObject({ width: pixels, height: pixels });
const rect = z.looseObject({
  x: z.number().min(-1).max(1e6),
  y: z.number().min(-1).max(1e6),
  width: z.number().positive().max(1e6),
  height: z.number().positive().max(1e6),
});
const tone = z.looseObject({ mean: z.number(), u: z.number(), v: z.number() });

// Loose: a field that a measure adds passes through.
export const clipRecordSchema = z.looseObject({
  first: count,
  frames: count,
  scene: z.int().min(-1).max(1e9),
  short: z.literal(true).optional(),
  geometry: z.looseObject({ content: rect, scaled: size, bucket: size, scaleToTarget: z.number() }).optional(),
  window: z.looseObject({ left: z.int().min(0).max(1e6), top: z.int().min(0).max(1e6) }).optional(),
  values: z.record(z.string(), z.number().nullable()),
  hashes: z.array(z.string().regex(/^[0-9a-f]{16}$/)),
  tone: tone.optional(),
  stillEdges: z
    .string()
    .regex(/^\d{1,4}:[A-Za-z0-9+/]*=*$/)
    .max(200_000)
    .optional(),
}) as unknown as z.ZodType<ClipRecord>;

export const segmentRecordSchema = z.looseObject({
  clips: z.array(clipRecordSchema),
  slots: count,
  errors: count,
  joints: count,
  missing: z.string().max(1000).optional(),
  gaps: z.array(z.strictObject({ first: count, frames: count, why: z.enum(["blank", "fade", "damaged"]) })),
}) as unknown as z.ZodType<SegmentRecord>;

export interface PictureRecord {
  width: number;
  height: number;
  clip: ClipRecord | null;
}

export const pictureRecordSchema = z.strictObject({
  width: pixels,
  height: pixels,
  clip: clipRecordSchema.nullable(),
}) satisfies z.ZodType<PictureRecord>;
