// Writes torch.save archives for tests: a zip writer that can also lie, and the pickle instructions torch uses.
import { crc32, deflateRawSync } from "node:zlib";
import { bytesOf, type DType } from "../../src/base/dtype.ts";
import { elementCount } from "../../src/base/shape.ts";

export interface ZipInput {
  name: string;
  bytes: Uint8Array;
  deflate?: boolean;
  /** Claims this size instead of the true one. */
  claimedSize?: number;
  /** Compression method to write, whatever the bytes are. */
  method?: number;
  /** General-purpose flags (1 = encrypted). */
  flags?: number;
}

/** Data begins at a multiple of 64 bytes, as torch pads its archives with an extra field. */
const ALIGNMENT = 64;

export function zipArchive(inputs: readonly ZipInput[], options: { zip64?: boolean } = {}): Buffer {
  const parts: Buffer[] = [];
  const central: Buffer[] = [];
  let at = 0;
  const add = (part: Uint8Array) => {
    parts.push(Buffer.from(part));
    at += part.length;
  };
  for (const input of inputs) {
    const name = Buffer.from(input.name);
    const data = input.deflate ? deflateRawSync(input.bytes) : input.bytes;
    const local = at;
    const size = input.claimedSize ?? input.bytes.length;
    const compressed = input.claimedSize !== undefined && !input.deflate ? size : data.length;
    const pad = (ALIGNMENT - ((at + 30 + name.length + 4) % ALIGNMENT)) % ALIGNMENT;
    const method = input.method ?? (input.deflate ? 8 : 0);
    const header = Buffer.alloc(30);
    header.writeUInt32LE(0x04034b50, 0);
    header.writeUInt16LE(20, 4);
    header.writeUInt16LE(input.flags ?? 0, 6);
    header.writeUInt16LE(method, 8);
    header.writeUInt32LE(crc32(input.bytes), 14);
    header.writeUInt32LE(Math.min(compressed, 0xffffffff), 18);
    header.writeUInt32LE(Math.min(size, 0xffffffff), 22);
    header.writeUInt16LE(name.length, 26);
    header.writeUInt16LE(4 + pad, 28);
    const padding = Buffer.alloc(4 + pad, "Z");
    padding.writeUInt16LE(0x4246, 0);
    padding.writeUInt16LE(pad, 2);
    for (const part of [header, name, padding, data]) add(part);
    const extra = Buffer.alloc(options.zip64 ? 28 : 0);
    if (options.zip64) {
      extra.writeUInt16LE(1, 0);
      extra.writeUInt16LE(24, 2);
      extra.writeBigUInt64LE(BigInt(size), 4);
      extra.writeBigUInt64LE(BigInt(compressed), 12);
      extra.writeBigUInt64LE(BigInt(local), 20);
    }
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE(input.flags ?? 0, 8);
    entry.writeUInt16LE(method, 10);
    entry.writeUInt32LE(crc32(input.bytes), 16);
    entry.writeUInt32LE(options.zip64 ? 0xffffffff : compressed, 20);
    entry.writeUInt32LE(options.zip64 ? 0xffffffff : size, 24);
    entry.writeUInt16LE(name.length, 28);
    entry.writeUInt16LE(extra.length, 30);
    entry.writeUInt32LE(options.zip64 ? 0xffffffff : local, 42);
    central.push(entry, name, extra);
  }
  const directory = Buffer.concat(central);
  const start = at;
  add(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  if (options.zip64) {
    const end64 = Buffer.alloc(56);
    end64.writeUInt32LE(0x06064b50, 0);
    end64.writeBigUInt64LE(44n, 4);
    end64.writeBigUInt64LE(BigInt(inputs.length), 24);
    end64.writeBigUInt64LE(BigInt(inputs.length), 32);
    end64.writeBigUInt64LE(BigInt(directory.length), 40);
    end64.writeBigUInt64LE(BigInt(start), 48);
    const locator = Buffer.alloc(20);
    locator.writeUInt32LE(0x07064b50, 0);
    locator.writeBigUInt64LE(BigInt(at), 8);
    locator.writeUInt32LE(1, 16);
    add(end64);
    add(locator);
  }
  end.writeUInt16LE(options.zip64 ? 0xffff : inputs.length, 8);
  end.writeUInt16LE(options.zip64 ? 0xffff : inputs.length, 10);
  end.writeUInt32LE(options.zip64 ? 0xffffffff : directory.length, 12);
  end.writeUInt32LE(options.zip64 ? 0xffffffff : start, 16);
  add(end);
  return Buffer.concat(parts);
}

const storageTypes: Partial<Record<DType, string>> = {
  f64: "DoubleStorage",
  f32: "FloatStorage",
  f16: "HalfStorage",
  bf16: "BFloat16Storage",
  i64: "LongStorage",
  i32: "IntStorage",
  i16: "ShortStorage",
  i8: "CharStorage",
  u8: "ByteStorage",
  bool: "BoolStorage",
};
const float8Names: Partial<Record<DType, string>> = { f8e4m3: "float8_e4m3fn", f8e5m2: "float8_e5m2" };

/** Appends pickle instructions; each method writes what its value needs. */
export class PickleWriter {
  readonly #parts: Buffer[] = [];

  constructor(protocol = 2) {
    this.raw([0x80, protocol]);
  }

  raw(bytes: readonly number[] | Uint8Array): this {
    this.#parts.push(Buffer.from(bytes));
    return this;
  }

  global(module: string, member: string): this {
    return this.raw(Buffer.from(`c${module}\n${member}\n`));
  }

  text(value: string): this {
    const bytes = Buffer.from(value);
    const length = Buffer.alloc(5);
    length[0] = 0x58;
    length.writeUInt32LE(bytes.length, 1);
    return this.raw(length).raw(bytes);
  }

  int(value: number): this {
    if (value >= 0 && value < 256) return this.raw([0x4b, value]);
    if (value >= -(2 ** 31) && value < 2 ** 31) {
      const bytes = Buffer.alloc(5);
      bytes[0] = 0x4a;
      bytes.writeInt32LE(value, 1);
      return this.raw(bytes);
    }
    const bytes = Buffer.alloc(10);
    bytes[0] = 0x8a;
    bytes[1] = 8;
    bytes.writeBigInt64LE(BigInt(value), 2);
    return this.raw(bytes);
  }

  float(value: number): this {
    const bytes = Buffer.alloc(9);
    bytes[0] = 0x47;
    bytes.writeDoubleBE(value, 1);
    return this.raw(bytes);
  }

  mark = (): this => this.raw([0x28]);
  tuple = (): this => this.raw([0x74]);
  emptyTuple = (): this => this.raw([0x29]);
  reduce = (): this => this.raw([0x52]);
  emptyDict = (): this => this.raw([0x7d]);
  setItems = (): this => this.raw([0x75]);
  setItem = (): this => this.raw([0x73]);
  put = (index: number): this => this.raw([0x71, index]);
  get = (index: number): this => this.raw([0x68, index]);
  none = (): this => this.raw([0x4e]);

  ints(values: readonly number[]): this {
    this.mark();
    for (const value of values) this.int(value);
    return this.tuple();
  }

  orderedDict(): this {
    return this.global("collections", "OrderedDict").emptyTuple().reduce();
  }

  storage(type: string, key: string, length: number): this {
    const [module, member] = type.includes(".") ? (type.split(/\.(?=[^.]+$)/) as [string, string]) : ["torch", type];
    return this.mark().text("storage").global(module, member).text(key).text("cpu").int(length).tuple().raw([0x51]);
  }

  tensor(
    dtype: DType,
    key: string,
    storageLength: number,
    view: { offset?: number; shape: readonly number[]; stride?: readonly number[] },
  ): this {
    const { offset = 0, shape, stride = contiguousStride(shape) } = view;
    const float8 = float8Names[dtype];
    this.global("torch._utils", float8 ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2").mark();
    this.storage(float8 ? "torch.storage.UntypedStorage" : storageTypes[dtype]!, key, storageLength);
    this.int(offset).ints(shape).ints(stride).raw([0x89]).orderedDict();
    if (float8) this.global("torch", float8);
    return this.tuple().reduce();
  }

  finish(): Buffer {
    this.raw([0x2e]);
    return Buffer.concat(this.#parts);
  }
}

export function contiguousStride(shape: readonly number[]): number[] {
  const stride = shape.map(() => 1);
  for (let i = shape.length - 2; i >= 0; i--) stride[i] = stride[i + 1]! * Math.max(1, shape[i + 1]!);
  return stride;
}

export interface TorchTensor {
  name: string;
  dtype: DType;
  shape: readonly number[];
  bytes: Uint8Array;
}

export interface TorchZipOptions {
  /** Keeps the weights under this key, beside an epoch count and an optimizer. */
  wrapper?: string;
  deflate?: boolean;
  zip64?: boolean;
}

/** The bytes of an archive with one storage a tensor, as torch.save writes a state dict. */
export function torchZip(tensors: readonly TorchTensor[], options: TorchZipOptions = {}): Buffer {
  const pickle = new PickleWriter();
  if (options.wrapper)
    pickle.emptyDict().mark().text("epoch").int(7).text("optimizer").emptyDict().text(options.wrapper);
  pickle.orderedDict().mark();
  for (const [i, { name, dtype, shape }] of tensors.entries()) {
    const length = elementCount(shape) * (float8Names[dtype] ? bytesOf(dtype) : 1);
    pickle.text(name).tensor(dtype, `${i}`, length, { shape });
  }
  pickle.setItems();
  // torch keeps module versions in an attribute of the dictionary.
  pickle.emptyDict().text("_metadata").orderedDict().setItem().raw([0x62]);
  if (options.wrapper) pickle.setItems();
  const { deflate = false } = options;
  return zipArchive(
    [
      { name: "archive/data.pkl", bytes: pickle.finish(), deflate },
      { name: "archive/byteorder", bytes: Buffer.from("little") },
      ...tensors.map(({ bytes }, i) => ({ name: `archive/data/${i}`, bytes, deflate })),
      { name: "archive/version", bytes: Buffer.from("3\n") },
    ],
    options,
  );
}
