// The one door to FFmpeg (node-av, in process): its log kept silent, its status codes turned into our errors.
import { constants } from "node:os";
import {
  AV_LOG_QUIET,
  AV_NOPTS_VALUE,
  AVERROR_DECODER_NOT_FOUND,
  AVERROR_EOF,
  AVERROR_INVALIDDATA,
} from "node-av/constants";
import type { Frame } from "node-av/lib";
import { FFmpegError, Log } from "node-av/lib";
import { KinoraError } from "../../base/errors.ts";

// FFmpeg writes to the process's stderr by itself; what matters comes back as status codes.
Log.setLevel(AV_LOG_QUIET);

const posix = {
  ENOENT: ["media.not-found", "check the path"],
  EACCES: ["media.no-permission", "you have no permission to open the file or folder"],
  EPERM: ["media.no-permission", "you have no permission to open the file or folder"],
  EISDIR: ["media.is-folder", "name a file, not a folder"],
  EROFS: ["media.no-permission", "the disk is mounted read-only: choose another folder"],
  ENOSPC: ["media.disk-full", "free disk space and run the same command again to continue"],
  EDQUOT: ["media.disk-full", "your disk quota is used up"],
  EFBIG: ["media.disk-full", "the file is too large for this file system: choose another disk"],
  ENOMEM: ["media.out-of-memory", "not enough memory for this picture or video"],
  EIO: ["media.io-error", "the disk or network gave an error while reading or writing"],
} as const;

/** What went wrong where FFmpeg says only a number. */
export function mediaError(status: number, doing: string, path?: string): KinoraError {
  const where = path === undefined ? "" : ` ${JSON.stringify(path)}`;
  for (const [name, [code, hint]] of Object.entries(posix)) {
    // AVERROR(e) is −e.
    if (status === -constants.errno[name as keyof typeof posix])
      return new KinoraError(code, `${doing}${where}: ${FFmpegError.strerror(status)}`, { hint });
  }
  if (status === AVERROR_DECODER_NOT_FOUND)
    return new KinoraError("media.no-decoder", `${doing}${where}: this FFmpeg has no decoder for it`, {
      hint: "convert the file, for example with ffmpeg -i FILE out.mp4",
    });
  const code = status === AVERROR_INVALIDDATA ? "media.invalid-data" : "media.failed";
  return new KinoraError(code, `${doing}${where}: ${FFmpegError.strerror(status)}`, {
    hint: "the file may be damaged, truncated, or of another kind than its name says: check whether it plays elsewhere",
  });
}

/** Throws where `status` is negative; returns it otherwise. */
export function check(status: number, doing: string, path?: string): number {
  if (status < 0) throw mediaError(status, doing, path);
  return status;
}

export function isEndOfFile(status: number): boolean {
  return status === AVERROR_EOF;
}

/** Pixels of a frame of a film, and of a picture, that are decoded: more is a mistake or meant to use all memory up. */
export const mostPixels = { film: 80_000_000, picture: 178_000_000 };

export function tooLarge(path: string, width: number, height: number, most: number): KinoraError {
  const code = most === mostPixels.picture ? "image.too-large" : "media.too-large";
  return new KinoraError(code, `${JSON.stringify(path)} is ${width}×${height} pixels, too large to decode`, {
    expected: `at most ${most / 1e6} million pixels`,
    hint: "make it smaller with an editor",
  });
}

/** `file:` keeps names such as `concat:a` or `a:b.mp4` from being read as protocols; nothing is escaped after it. */
export function fileUrl(path: string): string {
  return `file:${path}`;
}

/** Seconds of a timestamp, or undefined where FFmpeg has none. */
export function seconds(timestamp: bigint, timeBase: { num: number; den: number }): number | undefined {
  if (timestamp === AV_NOPTS_VALUE || timeBase.den === 0) return undefined;
  return (Number(timestamp) * timeBase.num) / timeBase.den;
}

/** A second reference to the same pixels; the caller frees it. */
export function reference(frame: Frame): Frame {
  const copy = frame.clone();
  if (!copy) throw new KinoraError("media.out-of-memory", "FFmpeg could not store a frame");
  return copy;
}
