// How long a film is and whether its timestamps run on, from all of its packets: what headers only claim, and what seeking
// by time needs to be right. Nothing is decoded.
import { stat } from "node:fs/promises";
import { AV_NOPTS_VALUE, AVDISCARD_ALL, AVMEDIA_TYPE_VIDEO } from "node-av/constants";
import { type FormatContext, Packet, type Stream } from "node-av/lib";
import { longestFrame, PacketClock } from "./continuity.ts";
import { type MediaInfo, openInput, videoStream } from "./probe.ts";

export interface Timeline {
  /** Seconds from the first frame to the end of the last. */
  duration: number;
  /** Places where the timestamps jump. Where there are any, a time in the film can only be reached from its beginning. */
  joints: number;
}

/** Seconds of a stream's timestamp unit. */
export function tickOf({ timeBase: { num, den } }: Stream): number {
  return den === 0 ? 1 : num / den;
}

/** Containers whose own index or frame counter gives their times. */
const indexed = /^(mov,|avi$|gif$|apng$|mxf|yuv4mpegpipe$)/;

/** Whether the times of a film may be other than its headers say, so that only its packets tell. */
export function isUncertain({ container, duration, video }: MediaInfo): boolean {
  if (!indexed.test(container)) return true;
  const { frameCount = 0, fps = 0 } = video ?? {};
  // Even an index may hold a frame that stays for hours.
  return frameCount > 0 && fps > 0 && duration > frameCount / fps + 60;
}

const known = new Map<string, Promise<Timeline>>();
/** Films whose timelines are remembered. */
const mostKnown = 1000;

/** Reads a film's packets through, once in a process while the file stays as it is. @throws KinoraError as `probe`. */
export async function timelineOf(path: string, signal?: AbortSignal): Promise<Timeline> {
  const { size, mtimeMs } = await stat(path);
  const key = `${path}\n${size}\n${mtimeMs}`;
  let timeline = known.get(key);
  if (!timeline) {
    timeline = scan(path, signal);
    timeline.catch(() => known.delete(key));
    known.set(key, timeline);
    if (known.size > mostKnown) known.delete(known.keys().next().value!);
  }
  return timeline;
}

async function scan(path: string, signal: AbortSignal | undefined): Promise<Timeline> {
  const context = await openInput(path);
  using packet = new Packet();
  packet.alloc();
  try {
    const stream = videoStream(context.streams);
    if (!stream) return { duration: 0, joints: 0 };
    for (const other of context.streams)
      if (other.codecpar.codecType !== AVMEDIA_TYPE_VIDEO) other.discard = AVDISCARD_ALL;
    return await follow(context, stream, packet, signal);
  } finally {
    await context.closeInput();
  }
}

async function follow(
  context: FormatContext,
  stream: Stream,
  packet: Packet,
  signal: AbortSignal | undefined,
): Promise<Timeline> {
  const tick = tickOf(stream);
  const { num, den } = stream.avgFrameRate;
  const frame = num > 0 && den > 0 ? Math.min(1, den / num) : 0.04;
  const clock = new PacketClock(tick, frame);
  const { index } = stream;
  const shown: number[] = [];
  let last = 0;
  for (let read = 0; (await context.readFrame(packet)) >= 0; read++) {
    if (read % 256 === 0) signal?.throwIfAborted();
    if (packet.streamIndex === index) {
      clock.mend(packet);
      const stamp = packet.pts === AV_NOPTS_VALUE ? packet.dts : packet.pts;
      if (stamp !== AV_NOPTS_VALUE) shown.push(Number(stamp) * tick);
      last = packet.duration > 0n ? Number(packet.duration) * tick : frame;
    }
    packet.unref();
  }
  const times = Float64Array.from(shown).sort();
  const longest = longestFrame(context);
  let [duration, joints] = [times.length > 0 ? Math.min(last, longest) : 0, clock.joints];
  for (let i = 1; i < times.length; i++) {
    const gap = times[i]! - times[i - 1]!;
    duration += gap > longest ? frame : gap;
    if (gap > longest) joints++;
  }
  return { duration, joints };
}
