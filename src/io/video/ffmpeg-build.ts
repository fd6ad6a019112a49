// Which FFmpeg is here, and whether it can do what Kinora asks of it.
import { Codec, getFFmpegInfo } from "node-av/lib";
import "./ffmpeg.ts";

export interface FfmpegBuild {
  version: string;
  /** The encoder of every film that Kinora writes. */
  h264Encoder: boolean;
  /** Of the formats that clips come in, those that it cannot read. */
  missingDecoders: string[];
}

const usual = ["h264", "hevc", "vp9", "av1", "prores", "mpeg4"] as const;

export function ffmpegBuild(): FfmpegBuild {
  return {
    version: getFFmpegInfo().version,
    h264Encoder: Codec.findEncoderByName("libx264" as never) !== null,
    missingDecoders: usual.filter((name) => Codec.findDecoderByName(name as never) === null),
  };
}
