// The directory of a zip archive (zip64 included) over mapped bytes, with guards against bombs.
// Only what archives of weights need: no encryption, no spanning, no methods but stored and deflate.
// Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, sections 4.3 and 4.5.
import { inflateRawSync } from "node:zlib";
import { KinoraError } from "../base/errors.ts";

export interface ZipEntry {
  readonly name: string;
  readonly method: "stored" | "deflate";
  /** Where the entry's (compressed) bytes lie in the file. */
  readonly start: number;
  readonly compressedSize: number;
  readonly size: number;
}

/** How far an entry may swell; weights compress little, and a bomb a thousandfold. */
const MAX_RATIO = 64;
const FREE_BYTES = 1 << 20;

/** The most bytes that `stored` bytes of a file may stand for, in zip entries and in strided views alike. */
export function swellLimit(stored: number): number {
  return FREE_BYTES + MAX_RATIO * stored;
}

/** Random access to the file; a view per call, so that a file of many gigabytes needs no view of the whole. */
export interface ByteRange {
  readonly size: number;
  bytes(start: number, end: number): Uint8Array;
}

const END = 0x06054b50;
const END64 = 0x06064b50;
const END64_LOCATOR = 0x07064b50;
const CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;
const END_BYTES = 22;
const LOCATOR_BYTES = 20;
const END64_BYTES = 56;
const CENTRAL_BYTES = 46;
const LOCAL_BYTES = 30;
const ZIP64_EXTRA = 0x0001;
const ENCRYPTED = 1;

function bad(what: string, detail: { expected?: string; actual?: string } = {}): never {
  throw new KinoraError("zip.bad-archive", what, {
    ...detail,
    hint: "the download may be incomplete: download the file again",
  });
}

function viewOf(file: ByteRange, start: number, length: number, what: string): DataView {
  if (!Number.isSafeInteger(start) || start < 0 || start + length > file.size) bad(`${what} lies outside the file`);
  const bytes = file.bytes(start, start + length);
  return new DataView(bytes.buffer, bytes.byteOffset, length);
}

function u64(view: DataView, at: number): number {
  const value = view.getBigUint64(at, true);
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? bad("a 64-bit number is out of bounds") : Number(value);
}

/** Where the central directory lies and how many entries it has. */
function findDirectory(file: ByteRange): { start: number; size: number; count: number } {
  const tail = Math.min(file.size, END_BYTES + 0xffff);
  if (tail < END_BYTES) bad("the file is too short for a zip archive");
  const view = viewOf(file, file.size - tail, tail, "the end record");
  let at = tail - END_BYTES;
  while (at >= 0 && !(view.getUint32(at, true) === END && view.getUint16(at + 20, true) === tail - END_BYTES - at))
    at--;
  if (at < 0) bad("the zip archive has no end record");
  const record = {
    count: view.getUint16(at + 10, true),
    size: view.getUint32(at + 12, true),
    start: view.getUint32(at + 16, true),
  };
  if (record.count < 0xffff && record.size < 0xffffffff && record.start < 0xffffffff) return record;
  const locatorAt = file.size - tail + at - LOCATOR_BYTES;
  if (locatorAt < 0) return record;
  const locator = viewOf(file, locatorAt, LOCATOR_BYTES, "the zip64 locator");
  if (locator.getUint32(0, true) !== END64_LOCATOR) return record;
  const end64 = viewOf(file, u64(locator, 8), END64_BYTES, "the zip64 end record");
  if (end64.getUint32(0, true) !== END64) bad("the zip64 end record is damaged");
  return { count: u64(end64, 32), size: u64(end64, 40), start: u64(end64, 48) };
}

/** Puts the 64-bit values of the zip64 extra field in place of those that read 0xffffffff. */
function zip64(extra: DataView, sizes: { size: number; compressedSize: number; local: number }): void {
  for (let at = 0; at + 4 <= extra.byteLength; ) {
    const length = extra.getUint16(at + 2, true);
    const end = at + 4 + length;
    if (end > extra.byteLength) bad("an extra field ends outside its entry");
    if (extra.getUint16(at, true) === ZIP64_EXTRA) {
      let field = at + 4;
      for (const key of ["size", "compressedSize", "local"] as const) {
        if (sizes[key] !== 0xffffffff) continue;
        if (field + 8 > end) bad("a zip64 field is missing");
        sizes[key] = u64(extra, field);
        field += 8;
      }
    }
    at = end;
  }
}

interface Placed extends ZipEntry {
  readonly local: number;
}

function readEntry(file: ByteRange, directory: DataView, at: number): { entry: Placed; next: number } {
  if (at + CENTRAL_BYTES > directory.byteLength || directory.getUint32(at, true) !== CENTRAL) {
    bad("the zip directory is damaged");
  }
  const nameLength = directory.getUint16(at + 28, true);
  const extraLength = directory.getUint16(at + 30, true);
  const nameAt = at + CENTRAL_BYTES;
  const extraAt = nameAt + nameLength;
  const next = extraAt + extraLength + directory.getUint16(at + 32, true);
  if (next > directory.byteLength) bad("the zip directory ends within an entry");
  const name = new TextDecoder().decode(new Uint8Array(directory.buffer, directory.byteOffset + nameAt, nameLength));
  if (directory.getUint16(at + 8, true) & ENCRYPTED) {
    throw new KinoraError("zip.unsupported", `the zip entry ${name} is encrypted`);
  }
  const code = directory.getUint16(at + 10, true);
  const method = code === 0 ? "stored" : code === 8 ? "deflate" : undefined;
  if (!method) throw new KinoraError("zip.unsupported", `the zip entry ${name} uses compression method ${code}`);
  const sizes = {
    size: directory.getUint32(at + 24, true),
    compressedSize: directory.getUint32(at + 20, true),
    local: directory.getUint32(at + 42, true),
  };
  zip64(new DataView(directory.buffer, directory.byteOffset + extraAt, extraLength), sizes);
  const { size, compressedSize, local } = sizes;
  const header = viewOf(file, local, LOCAL_BYTES, `the header of zip entry ${name}`);
  if (header.getUint32(0, true) !== LOCAL) bad(`the header of zip entry ${name} is damaged`);
  const start = local + LOCAL_BYTES + header.getUint16(26, true) + header.getUint16(28, true);
  if (start + compressedSize > file.size) bad(`the zip entry ${name} ends outside the file`);
  if (method === "stored" && size !== compressedSize) bad(`the zip entry ${name} is stored with two different sizes`);
  if (method === "deflate" && size > swellLimit(compressedSize)) {
    throw new KinoraError("zip.bomb", `the zip entry ${name} would expand too much`, {
      expected: `at most ${MAX_RATIO} times its ${compressedSize} compressed bytes`,
      actual: `${size} bytes`,
      hint: "this is not an archive of weights; do not use it",
    });
  }
  return { entry: { name, method, start, compressedSize, size, local }, next };
}

/**
 * The entries of an archive, by name. Throws `zip.bad-archive`, `zip.unsupported`, and `zip.bomb` for entries that swell
 * beyond reason or share their bytes with another.
 */
export function readZipDirectory(file: ByteRange): ReadonlyMap<string, ZipEntry> {
  const { start, size, count } = findDirectory(file);
  const directory = viewOf(file, start, size, "the zip directory");
  const entries: Placed[] = [];
  let at = 0;
  // The directory's own length bounds the loop, whatever the count claims.
  for (let i = 0; i < count; i++) {
    const { entry, next } = readEntry(file, directory, at);
    entries.push(entry);
    at = next;
  }
  const placed = [...entries].sort((a, b) => a.local - b.local);
  for (const [i, entry] of placed.entries()) {
    const next = placed[i + 1]?.local ?? start;
    if (entry.start + entry.compressedSize > next) {
      throw new KinoraError("zip.bomb", `the zip entry ${entry.name} overlaps what follows it`, {
        hint: "this is not an archive of weights; do not use it",
      });
    }
  }
  const byName = new Map<string, ZipEntry>();
  for (const entry of entries) {
    if (byName.has(entry.name)) bad(`the zip entry ${entry.name} appears twice`);
    byName.set(entry.name, entry);
  }
  return byName;
}

/** An entry's bytes: a view where it is stored, inflated where not. Throws `zip.bad-archive`. */
export function readZipEntry(file: ByteRange, entry: ZipEntry): Uint8Array {
  const raw = file.bytes(entry.start, entry.start + entry.compressedSize);
  if (entry.method === "stored") return raw;
  let bytes: Uint8Array;
  try {
    bytes = inflateRawSync(raw, { maxOutputLength: Math.max(1, entry.size) });
  } catch (cause) {
    throw new KinoraError("zip.bad-archive", `the zip entry ${entry.name} cannot be inflated to its size`, {
      expected: `${entry.size} bytes`,
      cause,
    });
  }
  if (bytes.length !== entry.size)
    bad(`the zip entry ${entry.name} has the wrong size`, { expected: `${entry.size}`, actual: `${bytes.length}` });
  return bytes;
}
