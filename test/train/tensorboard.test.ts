// Event files against an independent reading of their format, and checksums against published values.
import { appendFileSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { crc32c, EventWriter, tfRecord } from "../../src/io/tensorboard.ts";
import { RunLog, readLog } from "../../src/train/run/run-log.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();

/** Bit by bit, without a table. */
function slowCrc(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}
const unmasked = (value: number): number => {
  const turned = (value - 0xa282ead8) >>> 0;
  return ((turned >>> 17) | (turned << 15)) >>> 0;
};

interface Field {
  number: number;
  value: number | bigint | Uint8Array;
}

/** A protobuf message as its fields, without a schema. */
function fields(bytes: Uint8Array): Field[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const found: Field[] = [];
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++]!;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const key = Number(varint());
    const number = key >> 3;
    switch (key & 7) {
      case 0:
        found.push({ number, value: varint() });
        break;
      case 1:
        found.push({ number, value: view.getFloat64(at, true) });
        at += 8;
        break;
      case 2: {
        const length = Number(varint());
        found.push({ number, value: bytes.subarray(at, at + length) });
        at += length;
        break;
      }
      case 5:
        found.push({ number, value: view.getFloat32(at, true) });
        at += 4;
        break;
      default:
        throw new Error(`wire type ${key & 7}`);
    }
  }
  return found;
}

/** The messages of a file of TFRecords; every length and checksum is checked. */
function records(file: Uint8Array): Uint8Array[] {
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const found: Uint8Array[] = [];
  for (let at = 0; at < file.length; ) {
    const length = Number(view.getBigUint64(at, true));
    expect(unmasked(view.getUint32(at + 8, true))).toBe(slowCrc(file.subarray(at, at + 8)));
    const data = file.subarray(at + 12, at + 12 + length);
    expect(unmasked(view.getUint32(at + 12 + length, true))).toBe(slowCrc(data));
    found.push(data);
    at += length + 16;
  }
  return found;
}

const get = (all: readonly Field[], number: number) => all.find((field) => field.number === number)?.value;
const text = (value: unknown) => new TextDecoder().decode(value as Uint8Array);

/** [step, tag, value] of every scalar in an event file. */
function scalars(file: Uint8Array): [number, string, number][] {
  return records(file).flatMap((record) => {
    const event = fields(record);
    const summary = get(event, 5);
    if (summary === undefined) return [];
    return fields(summary as Uint8Array).map(({ value }): [number, string, number] => {
      const entry = fields(value as Uint8Array);
      return [Number(get(event, 2)), text(get(entry, 1)), get(entry, 2) as number];
    });
  });
}

describe("event files", () => {
  // RFC 3720, B.4: CRC-32C of 32 zeros, 32 ones, and 0…31.
  it.each([
    [new Uint8Array(32), 0x8a9136aa],
    [new Uint8Array(32).fill(0xff), 0x62a8ab43],
    [Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
  ])("carry the published checksums", (bytes, crc) => {
    expect(crc32c(bytes)).toBe(crc);
    expect(slowCrc(bytes)).toBe(crc);
  });

  it("frame their records", () => {
    expect(records(tfRecord(Uint8Array.of(1, 2, 3)))).toEqual([Uint8Array.of(1, 2, 3)]);
  });

  it("hold a version, a session's start and scalars that read back", () => {
    {
      using writer = new EventWriter(path("."), 5, 1_700_000_000.25);
      writer.scalars(5, { "loss/current": 0.125, "lr/unet": 1e-4 }, 1_700_000_001);
      writer.scalars(300, { "loss/current": -3 });
    }
    const [name] = readdirSync(path(".")).filter((entry) => entry.startsWith("events.out.tfevents.1700000000."));
    const file = readFileSync(path(name!));
    const [version, start, first] = records(file).map(fields);
    expect(get(version!, 1)).toBe(1_700_000_000.25);
    expect(text(get(version!, 3))).toBe("brain.Event:2");
    expect([Number(get(start!, 2)), fields(get(start!, 7) as Uint8Array)]).toEqual([5, [{ number: 1, value: 1n }]]);
    expect(get(first!, 1)).toBe(1_700_000_001);
    expect(scalars(file)).toEqual([
      [5, "loss/current", 0.125],
      [5, "lr/unet", Math.fround(1e-4)],
      [300, "loss/current", -3],
    ]);
  });
});

describe("the log of a run", () => {
  const line = (step: number, loss = step) => ({
    kind: "step" as const,
    step,
    epoch: 1,
    expert: "low" as const,
    loss,
    smoothed: loss,
    learningRate: 1e-4,
    gradientNorm: 1,
    sigmas: [0.5],
    seconds: 0.1,
    peakBytes: 10,
  });

  it("drops what comes again, passes over a torn line, and tells TensorBoard where it goes on", async () => {
    const output = path("log");
    {
      using log = await RunLog.open(output, 0, () => true, false);
      for (let step = 1; step <= 6; step++) log.add(line(step));
    }
    const file = join(output, "log.jsonl");
    appendFileSync(file, '{"kind":"step","step":7,"epo');
    expect(readLog(output)).toHaveLength(6);
    {
      using log = await RunLog.open(output, 4, (entry) => entry.kind === "step", false);
      expect(log.lines.map(({ step }) => step)).toEqual([1, 2, 3, 4]);
      log.add(line(5, 50));
    }
    expect(readLog(output).map((entry) => entry.kind === "step" && entry.loss)).toEqual([1, 2, 3, 4, 50]);
    const folder = join(output, "tensorboard");
    const files = readdirSync(folder).map((name) => readFileSync(join(folder, name)));
    expect(files).toHaveLength(2);
    const starts = files.map((bytes) => Number(get(fields(records(bytes)[1]!), 2))).sort();
    expect(starts).toEqual([1, 5]);
    expect(files.flatMap(scalars).filter(([, tag]) => tag === "loss/current")).toHaveLength(7);
  });
});
