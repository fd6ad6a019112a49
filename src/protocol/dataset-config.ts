// The dataset configuration file as written: musubi-tuner's tables as they are, and Kinora's own `source` table.
// Shapes only: defaults, places and paths are resolved in dataset/config.ts.
// musubi's keys: https://github.com/kohya-ss/musubi-tuner/blob/30c658c/src/musubi_tuner/dataset/config_utils.py
import { z } from "zod";
import { count as anyCount, extension, line, place, side } from "./config-values.ts";

/** A number far beyond any use, which bounds what a mistake may cost. */
const count = anyCount.max(1_000_000);

/** [width, height] in pixels; one number means a square. */
const resolution = z.union([side.transform((n): [number, number] => [n, n]), z.tuple([side, side])], {
  error: "must be [width, height] or one number, each a whole number of 16 to 16384 pixels",
});

/** What a set is for; how many items it should have follows from it. */
export const datasetGoals = ["character", "style", "motion", "domain"] as const;
/** One of {@link datasetGoals}. */
export type DatasetGoal = (typeof datasetGoals)[number];

/** Keys that [general] may hold for every dataset. */
const shared = {
  resolution: resolution.optional(),
  caption_extension: extension.optional(),
  batch_size: count.optional(),
  num_repeats: count.optional(),
  enable_bucket: z.boolean().optional(),
  bucket_no_upscale: z.boolean().optional(),
};

/** Kinora's own, for musubi's tables of clips: whether the bucket keys hold for clips or are ignored as musubi does (the default). */
const clipBuckets = { clip_buckets: z.enum(["musubi", "as_written"]).optional() };

/** Kinora's own: the phrase every caption starts with. */
const trigger = { trigger: line.optional() };

/** Which windows of a clip are taken. `target_frames` need not be 4n+1: they are floored with a word. */
const windows = {
  target_frames: z.array(count).min(1).optional(),
  frame_extraction: z.enum(["head", "chunk", "slide", "uniform", "full"]).optional(),
  frame_stride: count.optional(),
  frame_sample: count.optional(),
  max_frames: count.optional(),
};

const folders = { cache_directory: place.optional(), control_directory: place.optional() };

/** Keys musubi reads for other architectures, or for training Kinora does not do: known, without effect here. */
export const otherArchitectureKeys: Readonly<Record<string, string>> = {
  fp_latent_window_size: "FramePack's latent window",
  fp_1f_clean_indices: "one-frame training (FramePack, and an experiment for Wan 2.1)",
  fp_1f_target_index: "one-frame training (FramePack, and an experiment for Wan 2.1)",
  fp_1f_no_post: "FramePack's one-frame training",
  no_resize_control: "control images of FLUX.1 Kontext, FLUX.2 and Qwen-Image-Edit",
  control_resolution: "control images of FLUX.2 and Qwen-Image-Edit",
  multiple_target: "Qwen-Image-Layered",
  flux_kontext_no_resize_control: "control images of FLUX.1 Kontext (an old name of no_resize_control)",
  qwen_image_edit_no_resize_control: "control images of Qwen-Image-Edit (an old name of no_resize_control)",
  qwen_image_edit_control_resolution: "control images of Qwen-Image-Edit (an old name of control_resolution)",
};

const training =
  'this is a training configuration: kinora train reads it, and it names its dataset by dataset = "FOLDER"';

/** Keys of other programs' dataset files, of Kinora's other files, and what to write here. */
export const foreignDatasetKeys: Readonly<Record<string, string>> = {
  image_dir: "here it is image_directory",
  video_dir: "here it is video_directory",
  path: "here it is source, a folder",
  directory: 'write [[datasets]], with source = "FOLDER"',
  subsets: 'folders stand in [[datasets]] tables of their own, with source = "FOLDER"',
  metadata_file: "here it is image_jsonl_file or video_jsonl_file",
  resolutions: "here it is resolution, one for each dataset",
  enable_ar_bucket: "here it is enable_bucket",
  ar_buckets: "buckets follow from resolution and enable_bucket",
  frame_buckets: "here it is target_frames",
  min_ar: "buckets follow from resolution and enable_bucket",
  max_ar: "buckets follow from resolution and enable_bucket",
  num_ar_buckets: "buckets follow from resolution and enable_bucket",
  min_bucket_reso: "buckets follow from resolution and enable_bucket",
  max_bucket_reso: "buckets follow from resolution and enable_bucket",
  bucket_reso_steps: "sides are multiples of what the model needs",
  caption_prefix: "here it is trigger, where captions begin with one phrase",
  class_tokens: "every file has a caption of its own: a .txt of the same name",
  keep_tokens: "captions are used as written",
  shuffle_caption: "captions are used as written",
  flip_aug: "there is no augmentation: prepare the clips as they should be trained",
  color_aug: "there is no augmentation: prepare the clips as they should be trained",
  random_crop: "the center is used: kinora dataset prepare --crop motion chooses other parts",
  is_reg: "regularisation sets are not supported",
  caption_dropout_rate: "it belongs in the training configuration, as conditioning.caption_dropout",
  steps: training,
  epochs: training,
  dataset: training,
  lora: training,
  optimizer: training,
  model_arguments: training,
};

/** `[general]` of a dataset configuration. */
export const generalTable = z.strictObject({
  ...shared,
  ...clipBuckets,
  ...trigger,
  /** Kinora's own: the model the set is for (its frame rate and size step). */
  model: line.optional(),
  /** Kinora's own: what the set is for. */
  goal: z.enum(datasetGoals).optional(),
});

/** A `[[datasets]]` table of pictures, in musubi-tuner's form. */
export const imageTable = z.strictObject({
  ...shared,
  ...trigger,
  ...folders,
  image_directory: place.optional(),
  image_jsonl_file: place.optional(),
});

/** A `[[datasets]]` table of clips, in musubi-tuner's form. */
export const videoTable = z.strictObject({
  ...shared,
  ...clipBuckets,
  ...trigger,
  ...folders,
  ...windows,
  video_directory: place.optional(),
  video_jsonl_file: place.optional(),
  /** The rate the files are taken to have; frames are skipped down to the model's. Musubi wants 30.0 for 30. */
  source_fps: z.number().positive().optional(),
});

/** Kinora's own table: a folder that `kinora dataset prepare` wrote, or any folder of clips and pictures. */
export const sourceTable = z.strictObject({
  ...shared,
  ...trigger,
  ...folders,
  ...windows,
  source: place,
  /** Which of the folder's files to take. Default all. */
  media: z.enum(["all", "images", "videos"]).optional(),
  /** As in a video table, or "auto" (the default): each file's own rate. */
  source_fps: z.union([z.number().positive(), z.literal("auto")]).optional(),
});

export type GeneralTable = z.infer<typeof generalTable>;
export type ImageTable = z.infer<typeof imageTable>;
export type VideoTable = z.infer<typeof videoTable>;
export type SourceTable = z.infer<typeof sourceTable>;

/** One line of an image JSONL file. `control_path_0`, `control_path_1` … number several controls. */
export const imageLine = z
  .looseObject({
    image_path: place.optional(),
    image_path_0: place.optional(),
    caption: z.string().optional(),
    control_path: place.optional(),
    control_path_0: place.optional(),
  })
  .transform((line, context) => {
    const path = line.image_path ?? line.image_path_0;
    if (path !== undefined) return { path, caption: line.caption, control: line.control_path ?? line.control_path_0 };
    context.addIssue({ code: "custom", message: 'no "image_path"' });
    return z.NEVER;
  });

/** One line of a video JSONL file. `video_path` and `control_path` may be folders of pictures, one a frame. */
export const videoLine = z
  .looseObject({ video_path: place, caption: z.string().optional(), control_path: place.optional() })
  .transform((line) => ({ path: line.video_path, caption: line.caption, control: line.control_path }));
