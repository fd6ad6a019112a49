// TensorBoard's event files, written by hand: TFRecord frames around protobuf messages with scalar values.
// https://github.com/tensorflow/tensorboard/blob/2.20.0/tensorboard/compat/proto/event.proto and summary.proto;
// frames: https://github.com/tensorflow/tensorflow/blob/v2.20.0/tensorflow/core/lib/io/record_writer.h
import { closeSync, fsyncSync, openSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { writeError } from "./atomic.ts";

const table = new Uint32Array(256).map((_, i) => {
  let value = i;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  return value;
});

/** CRC-32C (Castagnoli). */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ table[(crc ^ byte) & 0xff]!;
  return (crc ^ 0xffffffff) >>> 0;
}

/** A checksum turned and shifted, so that a frame within a frame does not look like one. */
const masked = (crc: number): number => (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;

/** Length, its checksum, the data, its checksum; little-endian. */
export function tfRecord(data: Uint8Array): Uint8Array {
  const frame = new Uint8Array(12 + data.length + 4);
  const view = new DataView(frame.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, masked(crc32c(frame.subarray(0, 8))), true);
  frame.set(data, 12);
  view.setUint32(12 + data.length, masked(crc32c(data)), true);
  return frame;
}

function varint(value: bigint): number[] {
  const bytes: number[] = [];
  for (let rest = BigInt.asUintN(64, value); ; rest >>= 7n) {
    const low = Number(rest & 0x7fn);
    if (rest < 0x80n) return [...bytes, low];
    bytes.push(low | 0x80);
  }
}

const tag = (field: number, wire: number): number[] => varint(BigInt((field << 3) | wire));
const integer = (field: number, value: number): number[] => [...tag(field, 0), ...varint(BigInt(value))];
const bytesField = (field: number, bytes: ArrayLike<number>): number[] => [
  ...tag(field, 2),
  ...varint(BigInt(bytes.length)),
  ...Array.from(bytes),
];
const text = (field: number, value: string): number[] => bytesField(field, new TextEncoder().encode(value));

function float(field: number, value: number): number[] {
  return [...tag(field, 5), ...new Uint8Array(Float32Array.of(value).buffer)];
}

function double(field: number, value: number): number[] {
  return [...tag(field, 1), ...new Uint8Array(Float64Array.of(value).buffer)];
}

/** Event: wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7. */
function event(seconds: number, step: number, content: number[]): Uint8Array {
  return tfRecord(Uint8Array.from([...double(1, seconds), ...integer(2, step), ...content]));
}

/** Scalars of one step: Summary.Value has tag = 1, simple_value = 2. */
function scalarEvent(seconds: number, step: number, values: Readonly<Record<string, number>>): Uint8Array {
  const entries = Object.entries(values).flatMap(([name, value]) =>
    bytesField(1, [...text(1, name), ...float(2, value)]),
  );
  return event(seconds, step, bytesField(5, entries));
}

/** SessionLog.START: from this step on, what earlier files of the folder say is void. */
function startEvent(seconds: number, step: number): Uint8Array {
  return event(seconds, step, bytesField(7, integer(1, 1)));
}

/** Appends scalars to a file of its own in a folder that TensorBoard reads. */
export class EventWriter implements Disposable {
  readonly path: string;
  #file: number | undefined;

  /**
   * @param step where this session begins; a resumed one voids what was written from there on
   * Throws `io.*`.
   */
  constructor(folder: string, step: number, now = Date.now() / 1000) {
    const name = `events.out.tfevents.${Math.floor(now)}.${hostname()}.${process.pid}.${step}`;
    this.path = join(folder, name);
    try {
      this.#file = openSync(this.path, "a");
    } catch (error) {
      throw writeError(error, this.path);
    }
    this.#write(event(now, 0, text(3, "brain.Event:2")));
    this.#write(startEvent(now, step));
  }

  scalars(step: number, values: Readonly<Record<string, number>>, now = Date.now() / 1000): void {
    this.#write(scalarEvent(now, step, values));
  }

  #write(bytes: Uint8Array): void {
    if (this.#file === undefined) return;
    try {
      writeSync(this.#file, bytes);
    } catch (error) {
      throw writeError(error, this.path);
    }
  }

  [Symbol.dispose](): void {
    if (this.#file === undefined) return;
    fsyncSync(this.#file);
    closeSync(this.#file);
    this.#file = undefined;
  }
}
