// The settings file of `kinora dataset prepare` (TOML or JSON): shapes and defaults. Unknown keys are errors.
import { z } from "zod";
import { share, side } from "./config-values.ts";
import { modelNameSchema } from "./model-media.ts";

/** What is measured on every clip and picture. Their units and meaning: docs/dataset.md. */
export const measureNames = [
  "sharpness",
  "motion_blur",
  "shake",
  "motion",
  "repeats",
  "jumps",
  "ghosting",
  "brightness",
  "brightness_change",
  "contrast",
  "clipping",
  "flicker",
  "color_cast",
  "saturation",
  "quantizer",
  "compression",
  "blockiness",
  "banding",
  "combing",
  "noise",
  "color_noise",
  "overlay",
  "resolution",
] as const;
/** The name of a measure. */
export type MeasureName = (typeof measureNames)[number];

/** `false` only measures; a number below `min` or above `max` drops the item. */
export const limitSchema = z.union(
  [z.literal(false), z.strictObject({ min: z.number().optional(), max: z.number().optional() })],
  { error: "must be false, or a table with min and max: { min = 0.3 }" },
);
export type Limit = z.infer<typeof limitSchema>;

const qualitySchema = z.strictObject(
  Object.fromEntries(measureNames.map((name) => [name, limitSchema.optional()])) as Record<
    MeasureName,
    z.ZodOptional<typeof limitSchema>
  >,
);

/** The settings of a preparation (docs/dataset.md). */
export const prepareConfigSchema = z.strictObject({
  /** The model the set is for: it gives frame rate, size step and usual size. */
  model: modelNameSchema.optional(),
  /** [width, height]: its area is the buckets' area. Default: the model's usual size. */
  resolution: z.tuple([side, side]).optional(),
  /** Fixed target sizes instead of buckets by aspect ratio: each item goes to the nearest in aspect. */
  sizes: z
    .array(z.tuple([side, side]))
    .min(1)
    .optional(),
  /** Enlarge what is smaller than its target. */
  upscale: z.boolean().default(false),
  /** Where the part to keep lies: the middle, or where most moves and is sharp. */
  crop: z.enum(["center", "motion"]).default("center"),
  /** Leave films where they are: only the manifest is written, with cut points and crops. */
  in_place: z.boolean().default(false),
  /** Also write every caption to captions/ with the same name. */
  captions_folder: z.boolean().default(false),
  /** The phrase that captions which came with their sources are begun with. */
  trigger: z
    .string()
    .regex(/^[^\r\n]*\S[^\r\n]*$/, "one line of text")
    .optional(),
  /** Bring white balance and exposure of all items nearer to the set's middle. */
  normalize: z.boolean().default(false),
  scenes: z
    .strictObject({
      /** Cut films into scenes. Off, a film is one scene. */
      detect: z.boolean().default(true),
      /** Change between neighbouring frames that counts as a cut, grey levels left after following motion. */
      cut: z.number().positive().default(11),
      /** Change within a second that counts as a fade or dissolve, grey levels. */
      fade: z.number().positive().default(20),
    })
    .prefault({}),
  clips: z
    .strictObject({
      /** Seconds. */
      shortest: z.number().positive().max(86_400).default(2),
      longest: z.number().positive().max(86_400).default(10),
    })
    .prefault({}),
  quality: qualitySchema.prefault({}),
  duplicates: z
    .strictObject({
      detect: z.boolean().default(true),
      /** Bits of 64 in which two perceptual hashes may differ, on average over time. */
      distance: z.number().min(0).max(32).default(5),
    })
    .prefault({}),
  video: z
    .strictObject({
      /** x264's constant quality; up to 14 nothing visible is lost. */
      crf: z.number().min(0).max(51).default(12),
      preset: z
        .enum(["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"])
        .default("medium"),
    })
    .prefault({}),
  normalization: z
    .strictObject({
      /** How far to go to the middle of the set: 1 all the way. */
      strength: share.default(0.7),
      /** Most exposure change, as a factor. */
      most: z.number().min(1).max(4).default(1.5),
    })
    .prefault({}),
});

export type PrepareConfig = z.infer<typeof prepareConfigSchema>;
/** As written in a file or by code: everything may be left out. */
export type PrepareConfigInput = z.input<typeof prepareConfigSchema>;
