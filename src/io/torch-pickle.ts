// Reads the pickle inside a PyTorch checkpoint without executing anything: it knows the few opcodes torch.save writes and
// the few names of a state dict, and refuses every other by name. Not a general unpickler; it builds no Python objects.
// Opcodes: https://github.com/python/cpython/blob/v3.11.7/Lib/pickletools.py. What a state dict may name follows
// https://github.com/pytorch/pytorch/blob/v2.6.0/torch/_weights_only_unpickler.py
import { bytesOf, type DType } from "../base/dtype.ts";
import { KinoraError } from "../base/errors.ts";

/** A storage that the archive holds under `data/<key>`. */
export interface StorageRef {
  readonly kind: "storage";
  readonly key: string;
  /** Undefined for an untyped storage, whose tensors bring their dtype. */
  readonly dtype: DType | undefined;
  /** In elements of the dtype, or in bytes where there is none. */
  readonly length: number;
}

/** A view into a storage; all counts in elements. */
export interface TensorRef {
  readonly kind: "tensor";
  readonly storage: StorageRef;
  readonly dtype: DType;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly stride: readonly number[];
}

export type PickleDict = Map<PickleValue, PickleValue>;
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleValue[]
  | PickleDict
  | StorageRef
  | TensorRef
  | Global;

/** A whitelisted name; what applying it to arguments gives, if it can be applied. */
interface Global {
  readonly kind: "global";
  readonly name: string;
  readonly storage?: DType | "untyped";
  readonly dtype?: DType;
  readonly call?: (args: PickleValue[]) => PickleValue;
}

function refuse(what: string, detail: { expected?: string; actual?: string; hint?: string } = {}): never {
  throw new KinoraError("torch-zip.bad-pickle", what, detail);
}

function isGlobal(value: PickleValue | undefined): value is Global {
  return typeof value === "object" && value !== null && "kind" in value && value.kind === "global";
}

export function isTensor(value: PickleValue | undefined): value is TensorRef {
  return typeof value === "object" && value !== null && "kind" in value && value.kind === "tensor";
}

function isStorage(value: PickleValue | undefined): value is StorageRef {
  return typeof value === "object" && value !== null && "kind" in value && value.kind === "storage";
}

/** As many dimensions as PyTorch allows; without a limit, one long list used many times would fill the memory. */
const MAX_DIMENSIONS = 64;

/** A tuple of whole numbers. */
function sizes(value: PickleValue | undefined, what: string): number[] {
  if (!Array.isArray(value) || value.length > MAX_DIMENSIONS) return refuse(`${what} is not a tuple of sizes`);
  for (const size of value) {
    if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0)
      refuse(`${what} contains something other than an integer`);
  }
  // A copy, since a later instruction may still append to the list.
  return [...(value as number[])];
}

/** Checks that a view stays within its storage. */
function tensor(
  storage: PickleValue | undefined,
  offset: PickleValue | undefined,
  shape: number[],
  stride: number[],
  dtype?: DType,
): TensorRef {
  if (!isStorage(storage)) return refuse("a tensor has no storage");
  const element = dtype ?? storage.dtype;
  if (!element) return refuse("a tensor has no dtype");
  const [start] = sizes([offset ?? null], "a tensor's offset");
  if (shape.length !== stride.length) refuse("a tensor's shape and stride differ in length");
  const available = Math.floor((storage.length * (storage.dtype ? bytesOf(storage.dtype) : 1)) / bytesOf(element));
  let last = start!;
  for (const [i, size] of shape.entries()) last += (size - 1) * stride[i]!;
  if (!shape.includes(0) && !(last < available)) {
    refuse("a tensor reaches outside its storage", {
      expected: `at most ${available} elements`,
      actual: `${last + 1}`,
    });
  }
  return { kind: "tensor", storage, dtype: element, offset: start!, shape, stride };
}

const dtypeNames: Record<string, DType> = {
  float64: "f64",
  double: "f64",
  float32: "f32",
  float: "f32",
  float16: "f16",
  half: "f16",
  bfloat16: "bf16",
  float8_e4m3fn: "f8e4m3",
  float8_e5m2: "f8e5m2",
  int64: "i64",
  long: "i64",
  int32: "i32",
  int: "i32",
  int16: "i16",
  short: "i16",
  int8: "i8",
  uint8: "u8",
  bool: "bool",
};

const storageNames: Record<string, DType> = {
  DoubleStorage: "f64",
  FloatStorage: "f32",
  HalfStorage: "f16",
  BFloat16Storage: "bf16",
  LongStorage: "i64",
  IntStorage: "i32",
  ShortStorage: "i16",
  CharStorage: "i8",
  ByteStorage: "u8",
  BoolStorage: "bool",
};

const rebuildTensor = ([storage, offset, shape, stride]: PickleValue[]): PickleValue =>
  tensor(storage, offset, sizes(shape, "a shape"), sizes(stride, "a stride"));

const rebuildParameter = ([data]: PickleValue[]): PickleValue =>
  isTensor(data) ? data : refuse("a parameter has no tensor");

const functions: Record<string, (args: PickleValue[]) => PickleValue> = {
  // Python fills the dictionary afterwards, item by item.
  "collections.OrderedDict": (args) => (args.length === 0 ? new Map() : refuse("an OrderedDict made from a list")),
  "torch.Size": ([items]) => sizes(items, "a torch.Size"),
  "torch._utils._rebuild_tensor": rebuildTensor,
  "torch._utils._rebuild_tensor_v2": rebuildTensor,
  // The form for dtypes that have no storage class of their own, such as float8.
  "torch._utils._rebuild_tensor_v3": ([storage, offset, shape, stride, , , dtype]) =>
    tensor(
      storage,
      offset,
      sizes(shape, "a shape"),
      sizes(stride, "a stride"),
      isGlobal(dtype) && dtype.dtype ? dtype.dtype : refuse("a tensor has no dtype"),
    ),
  "torch._utils._rebuild_parameter": rebuildParameter,
  "torch._utils._rebuild_parameter_with_state": rebuildParameter,
};

function lookUp(module: string, member: string): Global {
  const name = `${module}.${member}`;
  if (Object.hasOwn(functions, name)) return { kind: "global", name, call: functions[name]! };
  if (module === "torch" && Object.hasOwn(storageNames, member))
    return { kind: "global", name, storage: storageNames[member]! };
  if (module === "torch" && Object.hasOwn(dtypeNames, member))
    return { kind: "global", name, dtype: dtypeNames[member]! };
  if (name === "torch.storage.UntypedStorage" || name === "torch.UntypedStorage")
    return { kind: "global", name, storage: "untyped" };
  throw new KinoraError(
    "torch-zip.refused-global",
    `the file asks to run or construct ${name.slice(0, 200)}, which plain weights never need`,
    {
      hint: "nothing was run; if you trust the file, save its state_dict() as safetensors with the tool that made it",
    },
  );
}

/** Marks where the arguments of a variadic opcode begin. */
const MARK = Symbol("mark");
type StackItem = PickleValue | typeof MARK;

class Unpickler {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  readonly #stack: StackItem[] = [];
  readonly #memo = new Map<number, PickleValue>();

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  #skip(length: number): number {
    const at = this.#at;
    if (!(length <= this.#bytes.length - at)) refuse("the pickle ends too early");
    this.#at += length;
    return at;
  }

  #u8 = (): number => this.#view.getUint8(this.#skip(1));
  #u16 = (): number => this.#view.getUint16(this.#skip(2), true);
  #u32 = (): number => this.#view.getUint32(this.#skip(4), true);
  #u64 = (): number => Number(this.#view.getBigUint64(this.#skip(8), true));

  #raw(length: number): Uint8Array {
    const at = this.#skip(length);
    return this.#bytes.slice(at, at + length);
  }

  #text(length: number): string {
    const at = this.#skip(length);
    return new TextDecoder().decode(this.#bytes.subarray(at, at + length));
  }

  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0) refuse("the pickle ends too early");
    const text = this.#text(end - this.#at);
    this.#at++;
    return text;
  }

  #long(length: number): PickleValue {
    if (length > 32) refuse("a number is out of bounds");
    const bytes = this.#raw(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
    value = BigInt.asIntN(8 * length, value);
    const small = Number(value);
    return Number.isSafeInteger(small) ? small : value;
  }

  #pop(): PickleValue {
    const value = this.#stack.pop();
    return value === undefined || value === MARK ? refuse("the pickle pops more than its stack holds") : value;
  }

  #top(): PickleValue {
    const value = this.#stack.at(-1);
    return value === undefined || value === MARK ? refuse("the pickle pops more than its stack holds") : value;
  }

  #toMark(): PickleValue[] {
    const mark = this.#stack.lastIndexOf(MARK);
    if (mark < 0) return refuse("the pickle has no mark");
    const items = this.#stack.splice(mark + 1) as PickleValue[];
    this.#stack.pop();
    return items;
  }

  #take(count: number): PickleValue[] {
    return Array.from({ length: count }, () => this.#pop()).reverse();
  }

  #recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) refuse("the pickle reads a memo entry that was never stored");
    this.#stack.push(value as PickleValue);
  }

  #apply(): void {
    const args = this.#pop();
    const callable = this.#pop();
    if (!isGlobal(callable) || !callable.call || !Array.isArray(args)) {
      const what = isGlobal(callable) ? callable.name : "a plain value";
      refuse(`the pickle applies ${what}, which is not a function`);
    }
    this.#stack.push(callable.call(args));
  }

  #persistent(): StorageRef {
    const id = this.#pop();
    if (!Array.isArray(id) || id[0] !== "storage" || id.length < 5)
      return refuse("a reference to something other than a storage");
    const [, type, key, , length] = id;
    if (!isGlobal(type) || !type.storage) return refuse("a storage without a type");
    if (typeof key !== "string") return refuse("a storage without a key");
    const [elements] = sizes([length ?? null], "a storage's length");
    return { kind: "storage", key, dtype: type.storage === "untyped" ? undefined : type.storage, length: elements! };
  }

  #extend(items: PickleValue[]): void {
    const list = this.#top();
    if (!Array.isArray(list)) refuse("the pickle appends to something other than a list");
    for (const item of items) (list as PickleValue[]).push(item);
  }

  #fill(items: PickleValue[]): void {
    const dict = this.#top();
    if (!(dict instanceof Map)) refuse("the pickle sets items of something other than a dictionary");
    if (items.length % 2 !== 0) refuse("a dictionary's key has no value");
    for (let i = 0; i < items.length; i += 2) (dict as PickleDict).set(items[i]!, items[i + 1]!);
  }

  load(): PickleValue {
    for (;;) {
      const at = this.#at;
      const opcode = this.#u8();
      switch (opcode) {
        case 0x80: {
          // PROTO
          const version = this.#u8();
          if (version < 2 || version > 5) refuse("an unknown pickle protocol", { actual: `${version}` });
          break;
        }
        case 0x95: // FRAME: a hint for readers of streams
          this.#u64();
          break;
        case 0x2e: // STOP
          return this.#pop();
        case 0x28: // MARK
          this.#stack.push(MARK);
          break;
        case 0x30: // POP
          if (this.#stack.pop() === undefined) refuse("the pickle pops more than its stack holds");
          break;
        case 0x31: // POP_MARK
          this.#toMark();
          break;
        case 0x63: // GLOBAL
          this.#stack.push(lookUp(this.#line(), this.#line()));
          break;
        case 0x93: {
          // STACK_GLOBAL
          const [module, member] = this.#take(2);
          if (typeof module !== "string" || typeof member !== "string") refuse("a global without a name");
          this.#stack.push(lookUp(module as string, member as string));
          break;
        }
        case 0x52: // REDUCE
        case 0x81: // NEWOBJ
          this.#apply();
          break;
        case 0x62: {
          // BUILD: the attributes of an OrderedDict or a parameter (such as _metadata) are not needed.
          this.#pop();
          const target = this.#top();
          if (!(target instanceof Map) && !isTensor(target)) refuse("the pickle sets the state of a plain value");
          break;
        }
        case 0x51: // BINPERSID
          this.#stack.push(this.#persistent());
          break;
        case 0x29: // EMPTY_TUPLE
        case 0x5d: // EMPTY_LIST
          this.#stack.push([]);
          break;
        case 0x7d: // EMPTY_DICT
          this.#stack.push(new Map());
          break;
        case 0x85: // TUPLE1
        case 0x86: // TUPLE2
        case 0x87: // TUPLE3
          this.#stack.push(this.#take(opcode - 0x84));
          break;
        case 0x74: // TUPLE
          this.#stack.push(this.#toMark());
          break;
        case 0x61: {
          // APPEND
          const item = this.#pop();
          this.#extend([item]);
          break;
        }
        case 0x65: // APPENDS
          this.#extend(this.#toMark());
          break;
        case 0x73: // SETITEM
          this.#fill(this.#take(2));
          break;
        case 0x75: // SETITEMS
          this.#fill(this.#toMark());
          break;
        case 0x4e: // NONE
          this.#stack.push(null);
          break;
        case 0x88: // NEWTRUE
        case 0x89: // NEWFALSE
          this.#stack.push(opcode === 0x88);
          break;
        case 0x4b: // BININT1
          this.#stack.push(this.#u8());
          break;
        case 0x4d: // BININT2
          this.#stack.push(this.#u16());
          break;
        case 0x4a: // BININT
          this.#stack.push(this.#view.getInt32(this.#skip(4), true));
          break;
        case 0x8a: // LONG1
          this.#stack.push(this.#long(this.#u8()));
          break;
        case 0x47: // BINFLOAT
          this.#stack.push(this.#view.getFloat64(this.#skip(8), false));
          break;
        case 0x58: // BINUNICODE
          this.#stack.push(this.#text(this.#u32()));
          break;
        case 0x8c: // SHORT_BINUNICODE
          this.#stack.push(this.#text(this.#u8()));
          break;
        case 0x8d: // BINUNICODE8
          this.#stack.push(this.#text(this.#u64()));
          break;
        case 0x55: // SHORT_BINSTRING
          this.#stack.push(this.#text(this.#u8()));
          break;
        case 0x42: // BINBYTES
          this.#stack.push(this.#raw(this.#u32()));
          break;
        case 0x43: // SHORT_BINBYTES
          this.#stack.push(this.#raw(this.#u8()));
          break;
        case 0x71: // BINPUT
          this.#memo.set(this.#u8(), this.#top());
          break;
        case 0x72: // LONG_BINPUT
          this.#memo.set(this.#u32(), this.#top());
          break;
        case 0x94: // MEMOIZE
          this.#memo.set(this.#memo.size, this.#top());
          break;
        case 0x68: // BINGET
          this.#recall(this.#u8());
          break;
        case 0x6a: // LONG_BINGET
          this.#recall(this.#u32());
          break;
        default:
          throw new KinoraError("torch-zip.refused-opcode", `the pickle uses an instruction that weights never need`, {
            actual: `0x${opcode.toString(16)} at byte ${at}`,
            hint: "nothing was run; if you trust the file, save its state_dict() as safetensors with the tool that made it",
          });
      }
    }
  }
}

/**
 * The value a torch checkpoint's pickle describes, tensors as references to their storages. Executes nothing.
 * Throws `torch-zip.refused-global` and `torch-zip.refused-opcode`, naming what was refused, or `torch-zip.bad-pickle`.
 */
export function readTorchPickle(bytes: Uint8Array): PickleValue {
  return new Unpickler(bytes).load();
}
