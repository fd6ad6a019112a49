// Dataset configurations: musubi's own examples, [general] defaults, Kinora's form, and every way to write one wrong.
import { writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { isKinoraError } from "../../src/base/errors.ts";
import { folderConfig, parseDatasetConfig, readDatasetConfig } from "../../src/dataset/config.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();
const codes = (config: { notes: { code: string }[] }) => config.notes.map((note) => note.code);

function failure(content: string, format: "toml" | "json" = "toml") {
  try {
    parseDatasetConfig(content, { file: "set.toml", format });
  } catch (error) {
    if (isKinoraError(error)) return { code: error.code, message: error.message, hint: error.hint ?? "" };
    throw error;
  }
  return { code: "no error", message: "", hint: "" };
}

describe("a musubi configuration", () => {
  it("takes [general] where a dataset says nothing, and musubi's defaults where neither does", () => {
    const { datasets, notes } = parseDatasetConfig(`
[general]
resolution = [960, 544]
caption_extension = ".txt"
batch_size = 2
enable_bucket = true
bucket_no_upscale = false

[[datasets]]
video_directory = "/a"
cache_directory = "/a-cache"
target_frames = [1, 25, 45]
frame_extraction = "head"
source_fps = 30.0

[[datasets]]
video_directory = "/b"
cache_directory = "/b-cache"
frame_extraction = "full"
max_frames = 45
batch_size = 1
resolution = 512

[[datasets]]
image_jsonl_file = "/c.jsonl"
cache_directory = "/c-cache"
num_repeats = 3
`);
    expect(notes).toEqual([]);
    expect(datasets[0]).toMatchObject({
      type: "video-directory",
      path: "/a",
      media: { images: false, videos: true },
      resolution: [960, 544],
      enableBucket: true,
      bucketNoUpscale: false,
      batchSize: 2,
      repeats: 1,
      captionExtension: ".txt",
      video: { extraction: "head", lengths: [1, 25, 45], sourceFps: 30 },
    });
    expect(datasets[1]).toMatchObject({
      batchSize: 1,
      resolution: [512, 512],
      video: { extraction: "full", maxFrames: 45 },
    });
    expect(datasets[2]).toMatchObject({ type: "image-jsonl", repeats: 3, media: { images: true, videos: false } });
  });

  it("without any setting has musubi's defaults, and its buckets for clips", () => {
    const { datasets, notes } = parseDatasetConfig('[[datasets]]\nvideo_directory = "/a"');
    expect(datasets[0]).toMatchObject({
      resolution: [960, 544],
      enableBucket: true,
      bucketNoUpscale: false,
      batchSize: 1,
      repeats: 1,
      video: { extraction: "head", lengths: [1], stride: 1, sample: 1, maxFrames: 129, sourceFps: undefined },
    });
    expect(notes.map((note) => note.code)).toEqual(["config.frames-missing"]);
  });

  it("may be JSON", () => {
    const { datasets } = parseDatasetConfig('{"datasets": [{"image_directory": "/a", "resolution": [640, 480]}]}', {
      format: "json",
    });
    expect(datasets[0]).toMatchObject({ type: "image-directory", resolution: [640, 480] });
  });

  it("floors lengths that are not 4n+1 and says so", () => {
    const { datasets, notes } = parseDatasetConfig('[[datasets]]\nvideo_directory = "/a"\ntarget_frames = [80, 1, 24]');
    expect(datasets[0]!.video.lengths).toEqual([1, 21, 77]);
    expect(notes.map((note) => note.message)).toEqual([
      "target_frames: 24 is not 4n+1 and is rounded to 21",
      "target_frames: 80 is not 4n+1 and is rounded to 77",
    ]);
  });

  it("has musubi's buckets for clips whatever its keys say, and says so; clip_buckets takes them at their word", () => {
    const clips = (more: string, general = "") => {
      const config = parseDatasetConfig(
        `[general]\n${general}\n[[datasets]]\nvideo_directory = "/a"\ntarget_frames = [5]\n${more}`,
      );
      const { enableBucket, bucketNoUpscale } = config.datasets[0]!;
      return [enableBucket, bucketNoUpscale, ...codes(config)];
    };
    expect(clips("")).toEqual([true, false]);
    expect(clips("enable_bucket = true")).toEqual([true, false]);
    expect(clips("enable_bucket = false")).toEqual([true, false, "config.musubi-buckets"]);
    expect(clips("", "enable_bucket = true\nbucket_no_upscale = true")).toEqual([true, false, "config.musubi-buckets"]);
    const written = 'clip_buckets = "as_written"';
    expect(clips(written)).toEqual([false, false]);
    expect(clips("enable_bucket = true\nbucket_no_upscale = true", written)).toEqual([true, true]);
    expect(clips('clip_buckets = "musubi"\nbucket_no_upscale = true', written)).toEqual([
      true,
      false,
      "config.musubi-buckets",
    ]);
    // Pictures and Kinora's own tables follow their keys.
    const others = parseDatasetConfig(
      '[general]\nenable_bucket = false\n[[datasets]]\nimage_directory = "/a"\n[[datasets]]\nsource = "/b"\nmedia = "videos"',
    );
    expect(others.datasets.map(({ enableBucket }) => enableBucket)).toEqual([false, false]);
    expect(others.notes).toEqual([]);
  });

  it("has settings without effect named, and uniform of one taken as head as musubi does", () => {
    const uniform = parseDatasetConfig(
      '[[datasets]]\nvideo_directory = "/a"\ntarget_frames = [21]\nframe_extraction = "uniform"\nframe_stride = 2\nmax_frames = 9',
    );
    expect(uniform.datasets[0]!.video.extraction).toBe("head");
    expect(codes(uniform)).toEqual(["config.uniform-one", "config.no-effect", "config.no-effect"]);
    const full = parseDatasetConfig(
      '[[datasets]]\nvideo_directory = "/a"\ntarget_frames = [21]\nframe_extraction = "full"\nbucket_no_upscale = true',
    );
    expect(codes(full)).toEqual(["config.musubi-buckets", "config.no-effect"]);
    expect(full.datasets[0]!.bucketNoUpscale).toBe(false);
    const chunk = parseDatasetConfig(
      '[[datasets]]\nvideo_directory = "/a"\ntarget_frames = [1, 21]\nframe_extraction = "chunk"',
    );
    expect(codes(chunk)).toEqual(["config.chunk-one"]);
  });

  it("may hold keys of other architectures, which are explained", () => {
    const { notes } = parseDatasetConfig(
      '[[datasets]]\nimage_directory = "/a"\nfp_latent_window_size = 9\nno_resize_control = true\nmultiple_target = false',
    );
    expect(notes.map((note) => note.code)).toEqual(Array(3).fill("config.other-architecture"));
    expect(notes[0]!.message).toContain("FramePack");
  });
});

describe("Kinora's form", () => {
  it("reads any folder, with buckets, without enlarging, whole clips at their own rate", () => {
    const config = parseDatasetConfig(`
[general]
model = "ti2v-5B"
goal = "style"
trigger = "Studio Ghibli style"
[[datasets]]
source = "set"
[[datasets]]
source = "set"
media = "images"
trigger = "ohwx"
enable_bucket = false
`);
    expect(config).toMatchObject({ model: "ti2v-5B", goal: "style" });
    expect(config.datasets[0]).toMatchObject({
      type: "folder",
      media: { images: true, videos: true },
      enableBucket: true,
      bucketNoUpscale: true,
      captionExtension: ".txt",
      captionRequired: false,
      trigger: "Studio Ghibli style",
      video: { extraction: "full", maxFrames: undefined, sourceFps: "auto" },
    });
    expect(config.datasets[1]).toMatchObject({
      media: { images: true, videos: false },
      trigger: "ohwx",
      enableBucket: false,
      bucketNoUpscale: false,
    });
  });

  it("takes the head where lengths are given", () => {
    expect(folderConfig("set", { target_frames: [1, 21] }).datasets[0]!.video).toMatchObject({
      extraction: "head",
      lengths: [1, 21],
    });
  });
});

describe("a wrong configuration", () => {
  it("of broken TOML is told with its line", () => {
    const { code, message } = failure('[general]\nresolution = [960, 544\n[[datasets]]\nvideo_directory = "/a"\n');
    expect(code).toBe("dataset-config.syntax");
    expect(message).toMatch(/set\.toml, line [23], column \d+/);
  });

  it("of broken JSON is told with its line", () => {
    const { code, message } = failure('{\n  "datasets": [\n    {"image_directory": "/a",}\n  ]\n}', "json");
    expect([code, message.includes("line 3")]).toEqual(["dataset-config.syntax", true]);
  });

  it.each([
    ['[[datasets]]\nvideo_directory = "/a"\ntarget_frame = [1]', "target_frame", "target_frames"],
    ['[[datasets]]\nvideo_dir = "/a"', "video_dir", "video_directory"],
    ['[general]\nbatchsize = 2\n[[datasets]]\nvideo_directory = "/a"', "batchsize", "batch_size"],
    ['[genral]\nbatch_size = 2\n[[datasets]]\nvideo_directory = "/a"', "genral", "general"],
    ['batch_size = 2\n[[datasets]]\nvideo_directory = "/a"', "batch_size", "[general]"],
    ['[general]\ntarget_frames = [1]\n[[datasets]]\nvideo_directory = "/a"', "target_frames", "[[datasets]]"],
    ['[[datasets]]\nimage_directory = "/a"\ntarget_frames = [1]', "target_frames", "clips"],
    ['[[datasets]]\nvideo_directory = "/a"\nmodel = "ti2v-5B"', "model", "[general]"],
    ['[[datasets]]\nvideo_directory = "/a"\nframe_buckets = [1]', "frame_buckets", "target_frames"],
    ['[[datasets]]\nimage_dir = "/a"', "image_dir", "image_directory"],
    ['steps = 4\n[[datasets]]\nvideo_directory = "/a"', "steps", "this is a training configuration"],
  ])("names the unknown key and where to go: %s", (content, key, hint) => {
    const error = failure(content);
    expect(error.code).toBe("dataset-config.unknown-key");
    expect(error.message).toContain(`"${key}"`);
    expect(error.hint).toContain(hint);
  });

  it.each([
    ["", "has no dataset"],
    ["[general]\nbatch_size = 1", "has no dataset"],
    ['[datasets]\nvideo_directory = "/a"', "two brackets"],
    ["[[datasets]]\nbatch_size = 1", "does not say where to read from"],
    ['[[datasets]]\nvideo_directory = "/a"\nimage_directory = "/b"', "video_directory"],
    ['[[datasets]]\nvideo_directory = "/a"\nbatch_size = 0', "batch_size"],
    ['[[datasets]]\nvideo_directory = "/a"\nbatch_size = "2"', "batch_size"],
    ['[[datasets]]\nvideo_directory = "/a"\nresolution = [960]', "resolution"],
    ['[[datasets]]\nvideo_directory = "/a"\nresolution = [960, 8]', "resolution"],
    ['[[datasets]]\nvideo_directory = "/a"\ntarget_frames = [0]', "target_frames"],
    ['[[datasets]]\nvideo_directory = "/a"\ntarget_frames = 21', "target_frames"],
    ['[[datasets]]\nvideo_directory = "/a"\nframe_extraction = "tail"', "frame_extraction"],
    ['[[datasets]]\nvideo_directory = "/a"\nframe_stride = 0', "frame_stride"],
    ['[[datasets]]\nvideo_directory = "/a"\nsource_fps = "auto"', "source_fps"],
    ['[[datasets]]\nvideo_directory = "/a"\nsource_fps = -1.0', "source_fps"],
    ['[[datasets]]\nvideo_directory = "C:\\train\\new"', "backslash"],
    ['[[datasets]]\nvideo_directory = "/a"\ncaption_extension = "txt"', "with its dot"],
    ['[[datasets]]\nvideo_directory = "/a"\nbatch_size = 4000000000', "batch_size"],
    ['[[datasets]]\nvideo_directory = "/a"\nresolution = [60000, 60000]', "resolution"],
    ['[general]\ngoal = "fun"\n[[datasets]]\nvideo_directory = "/a"', "goal"],
  ])("is refused with the key's name: %s", (content, word) => {
    const error = failure(content);
    expect(error.code).toBe("dataset-config.invalid");
    expect(error.message + error.hint).toContain(word);
    expect(error.hint).toMatch(/./);
  });

  it("with one cache_directory twice is refused, in whatever spelling", () => {
    const error = failure(
      '[[datasets]]\nvideo_directory = "/a"\ncache_directory = "/c"\n[[datasets]]\nvideo_directory = "/b"\ncache_directory = "/x/../c/"',
    );
    expect(error.code).toBe("dataset-config.cache-shared");
    expect(error.message).toContain("numbers 1 and 2");
  });

  it("with one folder twice and no cache_directory is only remarked on: our cache goes by content", () => {
    const config = parseDatasetConfig(
      '[[datasets]]\nvideo_directory = "/a"\ntarget_frames=[1]\n[[datasets]]\nvideo_directory = "/a"\ntarget_frames=[5]',
    );
    expect(codes(config)).toEqual(["config.cache-shared"]);
  });

  it("that is not there, or is a folder, is told so", async () => {
    await expect(readDatasetConfig(path("none.toml"))).rejects.toMatchObject({ code: "dataset-config.unreadable" });
    await expect(readDatasetConfig(path("."))).rejects.toMatchObject({ code: "dataset-config.unreadable" });
    writeFileSync(path("set.json"), '{"datasets": [{"source": "x"}]}');
    expect((await readDatasetConfig(path("set.json"))).datasets).toHaveLength(1);
  });
});
