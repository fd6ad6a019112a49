// A reader for protocol buffer messages, as much as a sentencepiece model needs: varints, 32-bit floats, bytes.
// Not a general library: no schemas, no writing, no groups.
import { KinoraError } from "../../base/errors.ts";
import { ANOTHER_TOKENIZER } from "./hint.ts";

/** The encodings a field may have on the wire (https://protobuf.dev/programming-guides/encoding). */
const WIRE_VARINT = 0;
const WIRE_FIXED64 = 1;
const WIRE_BYTES = 2;
const WIRE_FIXED32 = 5;

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function malformed(problem: string, offset: number): KinoraError {
  return new KinoraError("protobuf.malformed", `not a well-formed protocol buffer: ${problem} at byte ${offset}`, {
    hint: ANOTHER_TOKENIZER,
  });
}

/**
 * Walks the fields of one message in `bytes`: `next()` moves to a field and says its number, then exactly one of the
 * `read…` methods or `skip()` takes its value. Never reads outside `bytes`; throws `protobuf.malformed`.
 */
export class ProtobufReader {
  readonly #bytes: Uint8Array;
  #position = 0;
  #wire = WIRE_VARINT;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** The number of the next field, or undefined at the end of the message. */
  next(): number | undefined {
    if (this.#position >= this.#bytes.length) return undefined;
    const tag = this.#varint();
    this.#wire = tag & 7;
    const field = tag >>> 3;
    if (field === 0) throw malformed("field number 0", this.#position);
    return field;
  }

  /** An int32, enum or bool; wider values keep their low 32 bits, as the reference implementations do. */
  readInt32(): number {
    this.#expect(WIRE_VARINT);
    return this.#varint() | 0;
  }

  readBool(): boolean {
    return this.readInt32() !== 0;
  }

  readFloat(): number {
    this.#expect(WIRE_FIXED32);
    const start = this.#take(4);
    return new DataView(this.#bytes.buffer, this.#bytes.byteOffset + start, 4).getFloat32(0, true);
  }

  /** The bytes of a string, bytes or message field: a view, not a copy. */
  readBytes(): Uint8Array {
    this.#expect(WIRE_BYTES);
    const length = this.#varint();
    const start = this.#take(length);
    return this.#bytes.subarray(start, start + length);
  }

  readString(): string {
    const start = this.#position;
    try {
      return utf8.decode(this.readBytes());
    } catch (cause) {
      if (cause instanceof KinoraError) throw cause;
      throw malformed("a string that is not UTF-8", start);
    }
  }

  skip(): void {
    if (this.#wire === WIRE_VARINT) this.#varint();
    else if (this.#wire === WIRE_FIXED64) this.#take(8);
    else if (this.#wire === WIRE_FIXED32) this.#take(4);
    else if (this.#wire === WIRE_BYTES) this.#take(this.#varint());
    else throw malformed(`wire type ${this.#wire}`, this.#position);
  }

  #expect(wire: number): void {
    if (this.#wire !== wire) throw malformed(`wire type ${this.#wire} where ${wire} belongs`, this.#position);
  }

  /** Advances over `length` bytes and returns where they began. */
  #take(length: number): number {
    const start = this.#position;
    if (length > this.#bytes.length - start) throw malformed(`a field of ${length} bytes runs past the end`, start);
    this.#position = start + length;
    return start;
  }

  /** The low 32 bits of a varint, unsigned. */
  #varint(): number {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.#bytes[this.#position];
      if (byte === undefined) throw malformed("a varint runs past the end", this.#position);
      this.#position++;
      if (shift < 32) value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
    throw malformed("a varint of more than ten bytes", this.#position);
  }
}
