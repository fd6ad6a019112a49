import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { DType } from "../../src/base/dtype.ts";
import { isKinoraError } from "../../src/base/errors.ts";
import { elementCount } from "../../src/base/shape.ts";
import { viewBytes } from "../../src/ffi/host-memory.ts";
import { TorchZipFile } from "../../src/io/torch-zip.ts";
import { sharedFolder, whySkipped } from "../support/shared-folder.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { contiguousStride, PickleWriter, type TorchTensor, torchZip, zipArchive } from "../support/torch-zip-writer.ts";

const path = temporaryFolder();

function write(name: string, bytes: Uint8Array): string {
  writeFileSync(path(name), bytes);
  return path(name);
}

/** An archive with this pickle and one storage of `storage` bytes. */
function withPickle(name: string, pickle: PickleWriter, storage: Uint8Array = new Uint8Array(64)): string {
  const entries = [
    { name: "archive/data.pkl", bytes: pickle.finish() },
    { name: "archive/data/0", bytes: storage },
  ];
  return write(name, zipArchive(entries));
}

function failure(file: string): { code: string; message: string } {
  try {
    TorchZipFile.open(file)[Symbol.dispose]();
  } catch (error) {
    if (isKinoraError(error)) return error;
    throw error;
  }
  return { code: "no error", message: "" };
}

const random = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 97 + (i >> 7) * 13) & 0xff);

const sample: TorchTensor[] = [
  { name: "blocks.0.weight", dtype: "f32", shape: [4, 6], bytes: random(96) },
  { name: "blocks.0.bias", dtype: "bf16", shape: [6], bytes: random(12) },
  { name: "scale", dtype: "f16", shape: [], bytes: random(2) },
  { name: "ids", dtype: "i64", shape: [3], bytes: random(24) },
  { name: "empty", dtype: "f32", shape: [0, 3], bytes: random(0) },
  { name: "small", dtype: "f8e4m3", shape: [5, 3], bytes: random(15) },
];

describe("torch.save archives", () => {
  test.skipIf(!sharedFolder)(
    `the archive that PyTorch wrote, byte for byte${sharedFolder ? "" : ` (skipped: ${whySkipped})`}`,
    () => {
      const inventory = JSON.parse(readFileSync(`${sharedFolder}golden/torch-zip.json`, "utf8"));
      using file = TorchZipFile.open(`${sharedFolder}golden/torch-zip.pth`);
      const names: Partial<Record<DType, string>> = { f32: "float32", f16: "float16", bf16: "bfloat16", i64: "int64" };
      expect([...file.names].sort()).toEqual(Object.keys(inventory.tensors).sort());
      for (const [name, row] of Object.entries<{ dtype: string; shape: number[]; sha256: string }>(inventory.tensors)) {
        const { dtype, shape } = file.info(name);
        expect([name, names[dtype], shape]).toEqual([name, row.dtype, row.shape]);
        expect([name, createHash("sha256").update(file.bytes(name)).digest("hex")]).toEqual([name, row.sha256]);
      }
      const whole = file.info("view.whole").shape[0]! * 4;
      expect(
        Buffer.from(viewBytes(file.address("view.whole")!, whole)).equals(Buffer.from(file.bytes("view.whole"))),
      ).toBe(true);
      expect(file.address("view.transposed")).toBeUndefined();
    },
  );

  test.each([
    ["stored", {}],
    ["deflated", { deflate: true }],
    ["zip64", { zip64: true }],
    ["wrapped", { wrapper: "state_dict" }],
  ])("%s entries", (kind, options) => {
    using file = TorchZipFile.open(write("sample.pth", torchZip(sample, options)));
    expect(file.names).toEqual(sample.map((tensor) => tensor.name));
    for (const { name, dtype, shape, bytes } of sample) {
      expect(file.info(name)).toMatchObject({ dtype, shape });
      expect(Buffer.from(file.bytes(name)).equals(Buffer.from(bytes))).toBe(true);
      expect(file.address(name) !== undefined).toBe(kind !== "deflated" && bytes.length > 0);
      file.discard(name);
    }
    if (kind === "wrapped")
      expect(file.metadata).toEqual({ epoch: "7", optimizer: "(left out: not part of the weights)" });
  });

  test("any strided view of a shared storage is gathered as PyTorch would", () => {
    const storage = random(4096);
    const views = fc
      .record({
        dtype: fc.constantFrom<DType>("f32", "bf16", "i64", "u8"),
        shape: fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 4 }),
        offset: fc.integer({ min: 0, max: 20 }),
        steps: fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 4, maxLength: 4 }),
      })
      .filter(
        ({ shape, offset, steps }) => offset + shape.reduce((sum, size, i) => sum + (size - 1) * steps[i]!, 0) < 512,
      );
    fc.assert(
      fc.property(views, ({ dtype, shape, offset, steps }) => {
        const stride = shape.map((_, i) => steps[i]!);
        const width = { f32: 4, bf16: 2, i64: 8, u8: 1 }[dtype as "f32"];
        const pickle = new PickleWriter().orderedDict().mark().text("t");
        pickle.tensor(dtype, "0", storage.length / width, { offset, shape, stride }).setItems();
        using file = TorchZipFile.open(withPickle("view.pth", pickle, storage));
        const expected = Buffer.alloc(elementCount(shape) * width);
        for (let i = 0; i < elementCount(shape); i++) {
          let rest = i;
          let at = offset;
          for (let axis = shape.length - 1; axis >= 0; axis--) {
            at += (rest % shape[axis]!) * stride[axis]!;
            rest = Math.floor(rest / shape[axis]!);
          }
          expected.set(storage.subarray(at * width, (at + 1) * width), i * width);
        }
        expect(Buffer.from(file.bytes("t")).equals(expected)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  test("nested dictionaries, lists, parameters and plain values", () => {
    const pickle = new PickleWriter().emptyDict().mark();
    pickle.text("version").text("1.2").text("step").int(-5).text("lr").float(0.5).text("flag").raw([0x88]);
    pickle.text("big").raw([0x8a, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    pickle.text("net").emptyDict().mark().text("w");
    pickle
      .global("torch._utils", "_rebuild_parameter")
      .mark()
      .tensor("f32", "0", 16, { shape: [4, 4] });
    pickle.raw([0x88]).orderedDict().tuple().reduce().setItems();
    pickle
      .text("list")
      .raw([0x5d])
      .mark()
      .tensor("f32", "0", 16, { shape: [2], offset: 3 })
      .raw([0x65]);
    pickle.setItems();
    using file = TorchZipFile.open(withPickle("nested.pth", pickle, random(64)));
    expect(file.names).toEqual(["net.w", "list.0"]);
    expect(Buffer.from(file.bytes("list.0")).equals(Buffer.from(random(64).subarray(12, 20)))).toBe(true);
    expect(file.metadata).toEqual({ version: "1.2", step: "-5", lr: "0.5", flag: "true", big: "18446744073709551616" });
  });

  test("one bare tensor", () => {
    const pickle = new PickleWriter().tensor("f32", "0", 16, { shape: [4, 4] });
    using file = TorchZipFile.open(withPickle("bare.pth", pickle, random(64)));
    expect(file.names).toEqual(["tensor"]);
  });

  test("newer pickle protocols", () => {
    const short = (text: string) => [0x8c, text.length, ...Buffer.from(text)];
    const pickle = new PickleWriter(4).raw([0x95, 9, 0, 0, 0, 0, 0, 0, 0]).raw(short("collections")).raw([0x94]);
    pickle.raw(short("OrderedDict")).raw([0x94, 0x93, 0x94, 0x29, 0x52, 0x94]).mark();
    pickle
      .raw(short("t"))
      .tensor("f32", "0", 16, { shape: [16] })
      .setItems();
    using file = TorchZipFile.open(withPickle("protocol4.pth", pickle, random(64)));
    expect(file.names).toEqual(["t"]);
  });
});

describe("nothing is executed, and what is refused is named", () => {
  const proof = () => path("executed");
  const command = () => `touch ${proof()}`;

  const malicious: [string, string, (pickle: PickleWriter) => PickleWriter][] = [
    ["os.system", "os.system", (p) => p.global("os", "system").mark().text(command()).tuple().reduce()],
    ["posix.system", "posix.system", (p) => p.global("posix", "system").mark().text(command()).tuple().reduce()],
    ["eval", "builtins.eval", (p) => p.global("builtins", "eval").mark().text("1").tuple().reduce()],
    [
      "exec of old pickles",
      "__builtin__.exec",
      (p) => p.global("__builtin__", "exec").mark().text("1").tuple().reduce(),
    ],
    ["subprocess", "subprocess.Popen", (p) => p.global("subprocess", "Popen").mark().text(command()).tuple().reduce()],
    [
      "nested torch.load",
      "torch.storage._load_from_bytes",
      (p) => p.global("torch.storage", "_load_from_bytes").mark().text("").tuple().reduce(),
    ],
    ["getattr", "builtins.getattr", (p) => p.global("builtins", "getattr").mark().text("a").text("b").tuple().reduce()],
    ["a class", "argparse.Namespace", (p) => p.global("argparse", "Namespace").emptyTuple().raw([0x81])],
    [
      "a JavaScript property",
      "constructor.constructor",
      (p) => p.global("constructor", "constructor").emptyTuple().reduce(),
    ],
    ["a prototype's name", "torch.toString", (p) => p.global("torch", "toString")],
    ["by the stack", "os.system", (p) => p.text("os").text("system").raw([0x93])],
    ["numpy", "numpy.core.multiarray.scalar", (p) => p.global("numpy.core.multiarray", "scalar")],
  ];
  test.each(malicious)("%s", (_, name, build) => {
    const error = failure(withPickle("malicious.pth", build(new PickleWriter())));
    expect(error.code).toBe("torch-zip.refused-global");
    expect(error.message).toContain(name);
    expect(existsSync(proof())).toBe(false);
  });

  const opcodes: [string, number[]][] = [
    ["INST", [0x69]],
    ["OBJ", [0x6f]],
    ["NEWOBJ_EX", [0x92]],
    ["EXT1", [0x82, 1]],
    ["PERSID", [0x50, 0x61, 0x0a]],
    ["INT as text", [0x49, 0x31, 0x0a]],
    ["DUP", [0x32]],
    ["LONG4", [0x8b, 1, 0, 0, 0, 1]],
    ["NEXT_BUFFER", [0x97]],
  ];
  test.each(opcodes)("the instruction %s", (_, bytes) => {
    expect(failure(withPickle("opcode.pth", new PickleWriter().raw(bytes))).code).toBe("torch-zip.refused-opcode");
  });

  const tensorOf = (view: { offset?: number; shape: number[]; stride?: number[] }, length = 16) =>
    new PickleWriter().orderedDict().mark().text("t").tensor("f32", "0", length, view).setItems();

  const broken: [string, PickleWriter, string][] = [
    ["a tensor beyond its storage", tensorOf({ shape: [17] }), "torch-zip.bad-pickle"],
    ["an offset beyond its storage", tensorOf({ shape: [4], offset: 13 }), "torch-zip.bad-pickle"],
    ["a stride beyond its storage", tensorOf({ shape: [2, 2], stride: [16, 1] }), "torch-zip.bad-pickle"],
    ["a negative size", tensorOf({ shape: [-1] }), "torch-zip.bad-pickle"],
    ["a negative stride", tensorOf({ shape: [2], stride: [-1] }), "torch-zip.bad-pickle"],
    ["a stride too few", tensorOf({ shape: [2, 2], stride: [1] }), "torch-zip.bad-pickle"],
    ["a storage longer than its entry", tensorOf({ shape: [17] }, 17), "torch-zip.wrong-size"],
    [
      "a storage that does not exist",
      new PickleWriter()
        .emptyDict()
        .text("t")
        .tensor("f32", "9", 16, { shape: [1] })
        .setItem(),
      "torch-zip.missing-entry",
    ],
    [
      "a number repeated a trillion times",
      tensorOf({ shape: [1_000_000, 1_000_000], stride: [0, 0] }),
      "torch-zip.expanded",
    ],
    ["sizes that overflow", tensorOf({ shape: [2 ** 50, 2 ** 50, 2 ** 50], stride: [0, 0, 0] }), "torch-zip.expanded"],
    ["a text instead of weights", new PickleWriter().text("x"), "torch-zip.bad-pickle"],
    ["an empty stack", new PickleWriter(), "torch-zip.bad-pickle"],
    ["a mark too few", new PickleWriter().int(1).setItems(), "torch-zip.bad-pickle"],
    ["a value recalled before it was kept", new PickleWriter().get(3), "torch-zip.bad-pickle"],
    ["items of a number", new PickleWriter().int(1).text("a").int(1).setItem(), "torch-zip.bad-pickle"],
    ["a number applied", new PickleWriter().int(1).emptyTuple().reduce(), "torch-zip.bad-pickle"],
    [
      "a dictionary made from a list",
      new PickleWriter().global("collections", "OrderedDict").mark().ints([1, 2]).tuple().reduce(),
      "torch-zip.bad-pickle",
    ],
    ["a text longer than the file", new PickleWriter().raw([0x58, 0xff, 0xff, 0xff, 0xff]), "torch-zip.bad-pickle"],
    ["a text of 2^63 bytes", new PickleWriter().raw([0x8d, 0, 0, 0, 0, 0, 0, 0, 0x80]), "torch-zip.bad-pickle"],
    ["a future protocol", new PickleWriter(9), "torch-zip.bad-pickle"],
  ];
  test.each(broken)("%s", (_, pickle, code) => {
    expect(failure(withPickle("broken.pth", pickle)).code).toBe(code);
  });

  test("a shape changed after it was checked has no effect", () => {
    // The list is the tensor's shape and later grows; the reader must have kept its own copy.
    const pickle = new PickleWriter().emptyDict().text("t").global("torch._utils", "_rebuild_tensor_v2").mark();
    pickle
      .storage("FloatStorage", "0", 16)
      .int(0)
      .raw([0x5d])
      .put(1)
      .mark()
      .int(4)
      .raw([0x65])
      .ints(contiguousStride([4]));
    pickle.raw([0x89]).orderedDict().tuple().reduce().setItem();
    pickle.get(1).mark().int(1_000_000).raw([0x65]).raw([0x30]);
    using file = TorchZipFile.open(withPickle("grown.pth", pickle));
    expect(file.info("t").shape).toEqual([4]);
  });

  test("one long list or one long name used over and over", () => {
    const memory = process.memoryUsage().rss;
    const shape = new PickleWriter().raw([0x5d]).put(0).mark();
    for (let i = 0; i < 100_000; i++) shape.int(1);
    shape.raw([0x65]).emptyDict().mark();
    for (let i = 0; i < 20_000; i++) {
      shape.int(i).global("torch._utils", "_rebuild_tensor_v2").mark().storage("FloatStorage", "0", 16);
      shape.int(0).get(0).get(0).tuple().reduce();
    }
    expect(failure(withPickle("shapes.pth", shape.setItems())).code).toBe("torch-zip.bad-pickle");
    const name = new PickleWriter().tensor("f32", "0", 16, { shape: [1] }).put(0);
    name.emptyDict().mark().text("x".repeat(1_000_000)).emptyDict().mark();
    for (let i = 0; i < 20_000; i++) name.int(i).get(0);
    expect(failure(withPickle("name.pth", name.setItems().setItems())).code).toBe("torch-zip.bad-pickle");
    expect(process.memoryUsage().rss - memory).toBeLessThan(300 << 20);
  });

  test("a dictionary in itself, and dictionaries that double at every level, end at once", () => {
    const cycle = new PickleWriter().emptyDict().put(0).text("a").get(0).setItem();
    expect(failure(withPickle("cycle.pth", cycle)).code).toBe("torch-zip.bad-pickle");
    const laughs = new PickleWriter().emptyDict().put(0);
    for (let level = 1; level < 14; level++) {
      laughs.emptyDict().put(level).mark();
      for (let i = 0; i < 10; i++) laughs.text(`${i}`).get(level - 1);
      laughs.setItems();
    }
    expect(failure(withPickle("laughs.pth", laughs)).code).toBe("torch-zip.bad-pickle");
  });
});

describe("archives that are not what they claim", () => {
  const pickle = () =>
    new PickleWriter()
      .orderedDict()
      .mark()
      .text("t")
      .tensor("f32", "0", 16, { shape: [16] })
      .setItems()
      .finish();
  const entry = (name: string, bytes: Uint8Array = new Uint8Array(64)) => ({ name, bytes });

  test("zip bombs", () => {
    const zeros = { name: "archive/data/0", bytes: new Uint8Array(64 << 20), deflate: true };
    const memory = process.memoryUsage().rss;
    expect(failure(write("bomb.pth", zipArchive([entry("archive/data.pkl", pickle()), zeros]))).code).toBe("zip.bomb");
    const inPickle = { name: "archive/data.pkl", bytes: new Uint8Array(64 << 20), deflate: true };
    expect(failure(write("bomb.pth", zipArchive([inPickle]))).code).toBe("zip.bomb");
    expect(process.memoryUsage().rss - memory).toBeLessThan(300 << 20);
  });

  test("an entry that swells beyond the size it claims", () => {
    const liar = { name: "archive/data/0", bytes: new Uint8Array(1 << 20), deflate: true, claimedSize: 64 };
    using file = TorchZipFile.open(write("liar.pth", zipArchive([entry("archive/data.pkl", pickle()), liar])));
    expect(() => file.bytes("t")).toThrowError(/cannot be inflated to its size/);
  });

  test("entries that share their bytes", () => {
    const archive = zipArchive([entry("archive/data.pkl", pickle()), entry("archive/data/0"), entry("archive/data/1")]);
    const second = archive.lastIndexOf("archive/data/0") - 46;
    const third = archive.lastIndexOf("archive/data/1") - 46;
    archive.writeUInt32LE(archive.readUInt32LE(second + 42), third + 42);
    expect(failure(write("shared.pth", archive)).code).toBe("zip.bomb");
  });

  const archives: [string, () => Buffer, string][] = [
    ["no pickle", () => zipArchive([entry("a.txt")]), "torch-zip.not-a-checkpoint"],
    [
      "two pickles",
      () => zipArchive([entry("a/data.pkl", pickle()), entry("b/data.pkl", pickle())]),
      "torch-zip.not-a-checkpoint",
    ],
    [
      "TorchScript",
      () => zipArchive([entry("a/data.pkl", pickle()), entry("a/constants.pkl")]),
      "torch-zip.not-a-checkpoint",
    ],
    [
      "big-endian",
      () => zipArchive([entry("a/data.pkl", pickle()), entry("a/byteorder", Buffer.from("big"))]),
      "torch-zip.byte-order",
    ],
    ["an encrypted entry", () => zipArchive([{ ...entry("a/data.pkl", pickle()), flags: 1 }]), "zip.unsupported"],
    ["an unknown compression", () => zipArchive([{ ...entry("a/data.pkl", pickle()), method: 93 }]), "zip.unsupported"],
    [
      "a stored entry of two sizes",
      () => zipArchive([{ ...entry("a/data.pkl", pickle()), claimedSize: 1 << 30 }]),
      "zip.bad-archive",
    ],
    [
      "the same entry twice",
      () => zipArchive([entry("a/data.pkl", pickle()), entry("a/data/0"), entry("a/data/0")]),
      "zip.bad-archive",
    ],
    ["no end", () => zipArchive([entry("a/data.pkl", pickle())]).subarray(0, -22), "zip.bad-archive"],
    ["an empty archive", () => zipArchive([]), "torch-zip.not-a-checkpoint"],
  ];
  test.each(archives)("%s", (_, build, code) => {
    expect(failure(write("archive.pth", build())).code).toBe(code);
  });
});
