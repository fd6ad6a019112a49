// Timestamps that run on, from ones that begin anew or jump: recordings joined end to end, clocks that were set, streams
// cut together. What was recorded one after the other is read one after the other, and nothing of it is lost.
import { AV_NOPTS_VALUE, AVFMT_TS_DISCONT } from "node-av/constants";
import type { FormatContext, Packet } from "node-av/lib";

/**
 * How far a timestamp may lie before the one it should have: seconds, or frames. Decoding times are sometimes estimated,
 * and where a container has none, frames come in the order of decoding with their times of showing.
 */
const mostBack = { seconds: 0.25, frames: { dts: 4, pts: 17 } };

/** Whether the format's clocks may jump, as those of broadcasts do. */
export function mayJump({ iformat }: FormatContext): boolean {
  return ((iformat?.flags ?? 0) & AVFMT_TS_DISCONT) !== 0;
}

/**
 * Seconds that a frame may stay on screen; a longer gap is closed. FFmpeg's own for formats whose clocks may jump;
 * elsewhere a picture may stand still for long, but no longer than anybody watches it.
 */
export function longestFrame(context: FormatContext): number {
  return mayJump(context) ? 10 : 60;
}

/** The clock of a stream's packets: where it goes back, what follows is moved behind what was before. */
export class PacketClock {
  /** Places where it went back. */
  joints = 0;
  readonly #tick: number;
  readonly #frame: number;
  #shift = 0n;
  #before = 0n;
  /** When the next packet is to be decoded. */
  #next: number | undefined;
  /** When the last of the frames so far disappears. */
  #end: number | undefined;

  /** @param tick seconds of a timestamp's unit; `frame`: seconds of a frame that names no duration */
  constructor(tick: number, frame: number) {
    this.#tick = tick;
    this.#frame = frame;
  }

  /** Moves the timestamps of the stream's next packet to where they run on. */
  mend(packet: Packet): void {
    const { pts, dts } = packet;
    const shown = pts === AV_NOPTS_VALUE ? dts : pts;
    if (shown === AV_NOPTS_VALUE) return;
    const length = packet.duration > 0n ? Number(packet.duration) * this.#tick : this.#frame;
    this.#follow(dts === AV_NOPTS_VALUE ? undefined : dts, shown, length);
    if (this.#shift === 0n) return;
    if (pts !== AV_NOPTS_VALUE) packet.pts = pts + this.#shift;
    if (dts !== AV_NOPTS_VALUE) packet.dts = dts + this.#shift;
  }

  /** Times of decoding come in order, those of showing nearly so; the two are never compared with each other. */
  #follow(dts: bigint | undefined, shown: bigint, length: number): void {
    const seconds = (stamp: bigint, shift = this.#shift) => Number(stamp + shift) * this.#tick;
    const stamp = dts ?? shown;
    const expected = dts === undefined ? this.#end : this.#next;
    const back = Math.max(mostBack.seconds, mostBack.frames[dts === undefined ? "pts" : "dts"] * this.#frame);
    if (expected !== undefined) {
      // One packet alone may have been wrong: then the clock before it goes on.
      const wasRight = this.#before !== this.#shift && Math.abs(seconds(stamp, this.#before) - expected) <= back;
      if (wasRight && seconds(stamp) > expected + back) {
        this.#shift = this.#before;
      } else if (seconds(stamp) < expected - back) {
        this.#before = this.#shift;
        this.#shift = BigInt(Math.round(this.#end! / this.#tick)) - shown;
        this.#next = undefined;
        this.joints++;
      }
    }
    if (dts !== undefined) this.#next = seconds(dts) + length;
    this.#end = Math.max(this.#end ?? Number.NEGATIVE_INFINITY, seconds(shown) + length);
  }
}
