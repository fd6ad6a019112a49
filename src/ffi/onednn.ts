// oneDNN through koffi: primitives cached by what they compute, their memory objects made once, executed in order.
// It knows addresses, not blocks: who owns the memory is the caller's concern.
import koffi from "koffi";
import { DescriptionCache, DescriptionKey } from "./description-cache.ts";
import { CPU_ENGINE, check, type Handle, loadLibrary, UNIMPLEMENTED } from "./onednn-library.ts";
import type {
  Layout,
  Operation,
  OperationKind,
  PostOperation,
  TensorDescription,
  TensorName,
} from "./onednn-operations.ts";
import { isWorthSharing } from "./onednn-threads.ts";
import { versioned } from "./onednn-versions.ts";

const STREAM_IN_ORDER = 1;
const SCRATCHPAD_USER = 1;
const QUERY_IMPLEMENTATION = 8;
const QUERY_SCRATCHPAD = 136;
const SCRATCHPAD_ARGUMENT = 80;

/** Argument numbers and the query that gives the layout a primitive chose, alike in 2.x and 3.x. */
const argumentOf: Record<TensorName, { argument: number; query?: number }> = {
  source: { argument: 1, query: 129 },
  source1: { argument: 2 },
  weights: { argument: 33, query: 131 },
  bias: { argument: 41 },
  target: { argument: 17, query: 133 },
  mean: { argument: 49 },
  variance: { argument: 50 },
  scale: { argument: 51 },
  shift: { argument: 52 },
  diffSource: { argument: 129, query: 130 },
  diffTarget: { argument: 145, query: 134 },
  diffWeights: { argument: 161, query: 132 },
  diffBias: { argument: 169 },
};

/** A primitive with a memory object per argument. Set the addresses, then `execute`. */
export interface Primitive {
  readonly kind: OperationKind;
  /** Bytes of scratch memory an execution needs; give its address as `scratchpad`. */
  readonly scratchpadBytes: number;
  /** oneDNN's name of the implementation, e.g. "brg:avx512_core_bf16"; "ref:any" is its slow fall-back. */
  readonly implementation: string;
  /** `post` are the operands of the binary post-operations, in order. */
  execute(tensors: Partial<Record<TensorName, Handle>>, post?: readonly Handle[], scratchpad?: Handle): void;
}

interface Argument {
  readonly memory: Handle;
  address: Handle;
}

class CachedPrimitive implements Primitive {
  readonly kind: OperationKind;
  readonly scratchpadBytes: number;
  readonly implementation: string;
  readonly descriptor: Handle;
  /** The layouts it chose that have been asked for. */
  readonly layouts = new Map<TensorName, Layout>();
  readonly #primitive: Handle;
  readonly #tensors: readonly (readonly [TensorName, Argument])[];
  readonly #post: readonly Argument[];
  readonly #scratchpad: Argument | undefined;
  readonly #list: bigint;
  readonly #listAddress: Handle;
  readonly #count: number;
  readonly #stream: Handle;
  readonly #threads: number;

  constructor(
    kind: OperationKind,
    made: {
      descriptor: Handle;
      primitive: Handle;
      implementation: string;
      scratchpadBytes: number;
      stream: Handle;
      threads: number;
      tensors: (readonly [TensorName, Handle])[];
      post: readonly { argument: number; memory: Handle }[];
      scratchpad: Handle | undefined;
    },
  ) {
    this.kind = kind;
    this.descriptor = made.descriptor;
    this.scratchpadBytes = made.scratchpadBytes;
    this.implementation = made.implementation;
    this.#primitive = made.primitive;
    this.#stream = made.stream;
    this.#threads = made.threads;
    this.#tensors = made.tensors.map(([name, memory]) => [name, { memory, address: 0 }] as const);
    this.#post = made.post.map(({ memory }) => ({ memory, address: 0 }));
    this.#scratchpad = made.scratchpad === undefined ? undefined : { memory: made.scratchpad, address: 0 };
    const list = [
      ...made.tensors.map(([name, memory]) => ({ argument: argumentOf[name].argument, memory })),
      ...made.post,
      ...(made.scratchpad === undefined ? [] : [{ argument: SCRATCHPAD_ARGUMENT, memory: made.scratchpad }]),
    ];
    this.#count = list.length;
    // struct { int argument; void* memory }[], kept for the primitive's life.
    this.#list = koffi.alloc("uint8_t", 16 * list.length) as bigint;
    this.#listAddress = Number(this.#list);
    const words = new BigInt64Array(koffi.view(this.#list, 16 * list.length));
    list.forEach(({ argument, memory }, index) => {
      words[2 * index] = BigInt(argument);
      words[2 * index + 1] = BigInt(memory);
    });
  }

  execute(tensors: Partial<Record<TensorName, Handle>>, post: readonly Handle[] = [], scratchpad: Handle = 0): void {
    for (const [name, argument] of this.#tensors) setAddress(argument, tensors[name]!);
    for (let index = 0; index < this.#post.length; index++) setAddress(this.#post[index]!, post[index]!);
    if (this.#scratchpad) setAddress(this.#scratchpad, scratchpad);
    const { calls, threads } = loadLibrary();
    threads?.use(this.#threads);
    check(calls.primitiveExecute(this.#primitive, this.#stream, this.#count, this.#listAddress), this.kind);
  }

  destroy(): void {
    const { calls } = loadLibrary();
    calls.primitiveDestroy(this.#primitive);
    calls.primitiveDescriptorDestroy(this.descriptor);
    for (const [, argument] of this.#tensors) calls.memoryDestroy(argument.memory);
    for (const argument of this.#post) calls.memoryDestroy(argument.memory);
    if (this.#scratchpad) calls.memoryDestroy(this.#scratchpad.memory);
    koffi.free(this.#list);
  }
}

function setAddress(argument: Argument, address: Handle): void {
  if (argument.address === address) return;
  check(loadLibrary().calls.memorySetData(argument.memory, address), "a memory address");
  argument.address = address;
}

function writeTensor(key: DescriptionKey, { dtype, dims, strides }: TensorDescription): void {
  key.word(dtype);
  key.list(dims);
  if (strides === "any") key.number(-1);
  else if ("id" in strides) {
    key.number(-2);
    key.number(strides.id);
  } else key.list(strides);
}

function writeValue(key: DescriptionKey, value: unknown): void {
  if (typeof value === "number") key.number(value);
  else if (typeof value === "string") key.word(value);
  else for (const list of Object.values(value as Record<string, readonly number[]>)) key.list(list);
}

/** Everything a primitive depends on. Fields are named: operations of a kind may list theirs in any order. */
function writeKey(
  key: DescriptionKey,
  operation: Operation<TensorDescription>,
  post: readonly PostOperation<TensorDescription>[],
): void {
  key.clear();
  key.word(operation.kind);
  for (const name in operation) {
    if (name === "tensors" || name === "kind") continue;
    key.word(name);
    writeValue(key, operation[name as keyof typeof operation]);
  }
  for (const name in operation.tensors) {
    const tensor = tensorOf(operation, name as TensorName);
    if (tensor === undefined) continue;
    key.word(name);
    writeTensor(key, tensor);
  }
  for (const item of post) {
    key.word(item.kind);
    if (item.kind === "sum") key.number(item.scale);
    else {
      key.word(item.algorithm);
      if (item.kind === "binary") writeTensor(key, item.operand);
      else {
        key.number(item.alpha);
        key.number(item.beta);
      }
    }
  }
}

let lastLayoutId = 0;

/** One engine and stream of oneDNN, and a bounded cache of primitives. */
export class OneDnn {
  readonly version: string;
  readonly #library = loadLibrary();
  readonly #versioned = versioned(this.#library);
  readonly #slot = koffi.alloc("uint64_t", 1) as bigint;
  readonly #slotAddress = Number(this.#slot);
  readonly #slotView = new BigUint64Array(koffi.view(this.#slot, 8));
  readonly #dims = koffi.alloc("int64_t", 12 * 8) as bigint;
  readonly #dimsView = new BigInt64Array(koffi.view(this.#dims, 12 * 8 * 8));
  #nextDims = 0;
  readonly #engine: Handle;
  readonly #stream: Handle;
  readonly #key = new DescriptionKey();
  readonly #primitives: DescriptionCache<CachedPrimitive | undefined>;
  /** Layouts by their size in bytes. */
  readonly #layouts = new Map<number, Layout[]>();

  /** `capacity`: how many primitives are kept; the least recently used goes first. */
  constructor(capacity = 512) {
    const { calls, version } = this.#library;
    this.version = `${version.major}.${version.minor}.${version.patch}`;
    this.#primitives = new DescriptionCache(capacity);
    this.#engine = this.#create("an engine", (out) => calls.engineCreate(out, CPU_ENGINE, 0));
    this.#stream = this.#create("a stream", (out) => calls.streamCreate(out, this.#engine, STREAM_IN_ORDER));
  }

  /** The primitive for an operation, from the cache or new. Throws `onednn.failed`. */
  primitive(
    operation: Operation<TensorDescription>,
    post: readonly PostOperation<TensorDescription>[] = [],
  ): Primitive {
    const primitive = this.tryPrimitive(operation, post);
    if (primitive === undefined) check(UNIMPLEMENTED, `a ${operation.kind} ${JSON.stringify({ operation, post })}`);
    return primitive!;
  }

  /** Like `primitive`; undefined where this library has no implementation of the combination. */
  tryPrimitive(
    operation: Operation<TensorDescription>,
    post: readonly PostOperation<TensorDescription>[] = [],
  ): Primitive | undefined {
    writeKey(this.#key, operation, post);
    const known = this.#primitives.find(this.#key);
    if (known) return known.value;
    const made = this.#make(operation, post);
    this.#primitives.add(this.#key, made)?.destroy();
    return made;
  }

  /** The layout a primitive chose for a tensor given as "any": one object per layout, valid as long as this engine. */
  layoutOf(primitive: Primitive, name: TensorName, rank: number): Layout {
    const { layouts } = primitive as CachedPrimitive;
    let layout = layouts.get(name);
    if (!layout) {
      layout = this.#sharedLayout(primitive as CachedPrimitive, name, rank);
      layouts.set(name, layout);
    }
    return layout;
  }

  #sharedLayout(primitive: CachedPrimitive, name: TensorName, rank: number): Layout {
    const { calls } = this.#library;
    const descriptor = calls.queryDescriptor(primitive.descriptor, argumentOf[name].query!, 0);
    const bytes = Number(calls.descriptorBytes(descriptor));
    const alike = this.#layouts.get(bytes) ?? [];
    const known = alike.find((layout) => calls.descriptorsEqual(layout.descriptor, descriptor) !== 0);
    if (known) return known;
    const layout = { descriptor: this.#versioned.cloneDescriptor(descriptor, rank), bytes, id: ++lastLayoutId };
    this.#layouts.set(bytes, [...alike, layout]);
    return layout;
  }

  [Symbol.dispose](): void {
    for (const primitive of this.#primitives.values()) primitive?.destroy();
    this.#primitives.clear();
    for (const layout of [...this.#layouts.values()].flat()) this.#versioned.destroyDescriptor(layout.descriptor);
    this.#library.calls.streamDestroy(this.#stream);
    this.#library.calls.engineDestroy(this.#engine);
    koffi.free(this.#slot);
    koffi.free(this.#dims);
  }

  #create(what: string, call: (out: Handle) => number): Handle {
    check(call(this.#slotAddress), what);
    return Number(this.#slotView[0]);
  }

  /** The next of eight rows of int64s; valid until eight more are written. */
  readonly #writeDims = (values: readonly number[]): Handle => {
    this.#nextDims = (this.#nextDims + 1) % 8;
    for (let i = 0; i < values.length; i++) this.#dimsView[this.#nextDims * 12 + i] = BigInt(values[i]!);
    return Number(this.#dims) + this.#nextDims * 12 * 8;
  };

  #descriptor(tensor: TensorDescription): Handle {
    const { dtype, dims, strides } = tensor;
    const sizes = this.#writeDims(dims);
    if (strides === "any") return this.#versioned.createDescriptor(dims.length, sizes, dtype, undefined);
    if ("id" in strides) return this.#versioned.cloneDescriptor(strides.descriptor, dims.length);
    return this.#versioned.createDescriptor(dims.length, sizes, dtype, this.#writeDims(strides));
  }

  #make(
    operation: Operation<TensorDescription>,
    post: readonly PostOperation<TensorDescription>[],
  ): CachedPrimitive | undefined {
    const { calls, threads } = this.#library;
    const count = isWorthSharing(operation) ? (threads?.most ?? 1) : 1;
    // A primitive divides its work when it is made, among as many threads as there are then.
    threads?.use(count);
    const temporary: Handle[] = [];
    const describe = (tensor: TensorDescription): Handle => {
      const descriptor = this.#descriptor(tensor);
      temporary.push(descriptor);
      return descriptor;
    };
    const names = (Object.keys(operation.tensors) as TensorName[]).filter((name) => tensorOf(operation, name));
    const handles = Object.fromEntries(names.map((name) => [name, describe(tensorOf(operation, name)!)]));
    const attributes = this.#create("attributes", calls.attributesCreate);
    const postOps = this.#create("post-operations", calls.postOpsCreate);
    try {
      check(calls.setScratchpadMode(attributes, SCRATCHPAD_USER), "the scratchpad mode");
      const binaries: { argument: number; descriptor: Handle }[] = [];
      post.forEach((item, index) => {
        if (item.kind !== "binary") {
          this.#versioned.appendPostOperation(postOps, item);
          return;
        }
        const descriptor = describe(item.operand);
        this.#versioned.appendPostOperation(postOps, { ...item, operand: descriptor });
        binaries.push({ argument: this.#versioned.postOperationArgument(index), descriptor });
      });
      check(calls.setPostOps(attributes, postOps), "post-operations");
      const inner = { ...operation, tensors: handles } as Operation<Handle>;
      const status = this.#versioned.describe(inner, attributes, this.#engine, this.#slotAddress, this.#writeDims);
      if (status === UNIMPLEMENTED) return undefined;
      check(status, `a ${operation.kind} ${JSON.stringify({ operation, post })}`);
      const descriptor = Number(this.#slotView[0]);
      const memory = (from: Handle): Handle =>
        this.#create("a memory object", (out) => calls.memoryCreate(out, from, this.#engine, 0));
      const scratchpad = calls.queryDescriptor(descriptor, QUERY_SCRATCHPAD, 0);
      const scratchpadBytes = scratchpad === 0 ? 0 : Number(calls.descriptorBytes(scratchpad));
      check(calls.queryPrimitive(descriptor, QUERY_IMPLEMENTATION, 0, this.#slotAddress), "an implementation's name");
      const implementation = koffi.decode.string(this.#slotView[0]);
      return new CachedPrimitive(operation.kind, {
        descriptor,
        implementation,
        scratchpadBytes,
        stream: this.#stream,
        threads: count,
        primitive: this.#create(operation.kind, (out) => calls.primitiveCreate(out, descriptor)),
        tensors: names.map((name) => {
          const any = tensorOf(operation, name)!.strides === "any";
          const query = argumentOf[name].query;
          const from = any ? calls.queryDescriptor(descriptor, query!, 0) : handles[name]!;
          return [name, memory(from)] as const;
        }),
        post: binaries.map((item) => ({ argument: item.argument, memory: memory(item.descriptor) })),
        scratchpad: scratchpadBytes === 0 ? undefined : memory(scratchpad),
      });
    } finally {
      calls.postOpsDestroy(postOps);
      calls.attributesDestroy(attributes);
      for (const descriptor of temporary) this.#versioned.destroyDescriptor(descriptor);
    }
  }
}

function tensorOf(operation: Operation<TensorDescription>, name: TensorName): TensorDescription | undefined {
  return (operation.tensors as Partial<Record<TensorName, TensorDescription>>)[name];
}
