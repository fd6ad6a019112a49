import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bytesOf, type DType, dtypes } from "../../src/base/dtype.ts";
import { isKinoraError } from "../../src/base/errors.ts";
import { elementCount } from "../../src/base/shape.ts";
import { viewBytes } from "../../src/ffi/host-memory.ts";
import { isPartial } from "../../src/io/atomic.ts";
import { SafetensorsFile } from "../../src/io/safetensors.ts";
import { SafetensorsWriter, type WritableTensor, writeSafetensors } from "../../src/io/safetensors-writer.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();

function pattern(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 17 + (i >> 8)) & 0xff);
}

function tensor(name: string, dtype: DType, shape: number[], seed = 1): WritableTensor & { bytes: Uint8Array } {
  return { name, dtype, shape, bytes: pattern(bytesOf(dtype) * elementCount(shape), seed) };
}

async function codeOf(work: () => unknown): Promise<string> {
  try {
    await work();
  } catch (error) {
    if (isKinoraError(error)) return error.code;
    throw error;
  }
  return "no error";
}

function rawFile(name: string, header: string | object, data: Uint8Array = new Uint8Array(0)): string {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(path(name), Buffer.concat([prefix, json, data]));
  return path(name);
}

describe("reading what was written", () => {
  test("every dtype, scalars, empty tensors and metadata come back", async () => {
    const tensors = (Object.keys(dtypes) as DType[]).map((dtype, i) => tensor(`t.${dtype}`, dtype, [3, i + 1], i));
    tensors.push(tensor("scalar", "f32", []), tensor("nothing", "bf16", [0, 5]), tensor('é "quoted"', "u8", [3]));
    const metadata = { format: "pt", "a b": 'ü\n"', __proto__x: "1" };
    await writeSafetensors(path("all.safetensors"), tensors, metadata);
    using file = SafetensorsFile.open(path("all.safetensors"));
    expect(file.metadata).toEqual(metadata);
    expect([...file.names].sort()).toEqual(tensors.map((t) => t.name).sort());
    for (const { name, dtype, shape, bytes } of tensors) {
      expect(file.info(name)).toMatchObject({ dtype, shape });
      expect(Buffer.from(file.bytes(name)).equals(Buffer.from(bytes))).toBe(true);
      if (bytes.length > 0)
        expect(Buffer.from(viewBytes(file.address(name), bytes.length)).equals(Buffer.from(bytes))).toBe(true);
      const { start, end } = file.range(name);
      expect(readFileSync(path("all.safetensors")).subarray(start, end).equals(Buffer.from(bytes))).toBe(true);
      file.discard(name);
    }
  });

  test("any set of tensors survives the round trip, every tensor aligned to its element", async () => {
    const kinds = fc.constantFrom<DType>(
      "f32",
      "bf16",
      "f16",
      "f8e4m3",
      "i64",
      "i32",
      "i16",
      "i8",
      "u8",
      "bool",
      "f64",
    );
    const shapes = fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 4 });
    const specs = fc.uniqueArray(fc.record({ name: fc.string({ minLength: 1 }), dtype: kinds, shape: shapes }), {
      selector: (spec) => spec.name.normalize(),
      maxLength: 12,
    });
    await fc.assert(
      fc.asyncProperty(specs, async (list) => {
        // Lone surrogates have no UTF-8 form and so cannot name a tensor.
        const tensors = list.filter((t) => t.name.isWellFormed()).map((t, i) => tensor(t.name, t.dtype, t.shape, i));
        await writeSafetensors(path("any.safetensors"), tensors);
        using file = SafetensorsFile.open(path("any.safetensors"));
        for (const { name, dtype, bytes } of tensors) {
          expect(file.range(name).start % bytesOf(dtype)).toBe(0);
          expect(Buffer.from(file.bytes(name)).equals(Buffer.from(bytes))).toBe(true);
        }
      }),
      { numRuns: 60 },
    );
  });

  test("the bytes are those of the Rust library: widest dtype first, then by name, header padded with spaces", async () => {
    const tensors = [
      tensor("b", "u8", [1]),
      tensor("z", "f32", [1]),
      tensor("a", "f32", [1]),
      tensor("h", "f16", [1]),
      tensor("g", "bf16", [1]),
    ];
    await writeSafetensors(path("order.safetensors"), tensors, { k: "v" });
    const bytes = readFileSync(path("order.safetensors"));
    const length = Number(bytes.readBigUInt64LE());
    expect(length % 8).toBe(0);
    const expected =
      '{"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"z":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},' +
      '"g":{"dtype":"BF16","shape":[1],"data_offsets":[8,10]},"h":{"dtype":"F16","shape":[1],"data_offsets":[10,12]},"b":{"dtype":"U8","shape":[1],"data_offsets":[12,13]}}';
    expect(bytes.toString("utf8", 8, 8 + length).trimEnd()).toBe(expected);
  });

  test("an unknown name is refused with the nearest one", async () => {
    await writeSafetensors(path("near.safetensors"), [tensor("blocks.0.weight", "f32", [2])]);
    using file = SafetensorsFile.open(path("near.safetensors"));
    expect(() => file.bytes("blocks.0.wieght")).toThrowError(/no tensor/);
    expect(await codeOf(() => file.info("blocks.0.wieght"))).toBe("tensors.unknown-name");
  });

  test("dangerous keys are ordinary names", () => {
    const name = rawFile(
      "proto.safetensors",
      '{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"constructor":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}',
      pattern(2, 1),
    );
    using file = SafetensorsFile.open(name);
    expect(file.names).toEqual(["__proto__", "constructor"]);
    expect(file.metadata.constructor).toBeUndefined();
  });
});

describe("headers that break the rules are refused by name", () => {
  const one = (dtype: string, shape: unknown, data_offsets: unknown) => ({ t: { dtype, shape, data_offsets } });
  const cases: [string, string | object, number, string][] = [
    ["no header at all", "", 0, "safetensors.bad-header"],
    ["not JSON", "{nonsense", 0, "safetensors.bad-header"],
    ["not an object", "[1,2]", 0, "safetensors.bad-header"],
    [
      "a key twice",
      '{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
      1,
      "safetensors.bad-header",
    ],
    [
      "a field twice",
      '{"t":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
      1,
      "safetensors.bad-header",
    ],
    ["an unknown dtype", one("F33", [1], [0, 4]), 4, "safetensors.bad-header"],
    ["a dtype of the library that Kinora does not read", one("F4", [2], [0, 1]), 1, "safetensors.unsupported-dtype"],
    ["a negative dimension", one("U8", [-1], [0, 1]), 1, "safetensors.bad-header"],
    ["a fractional dimension", one("U8", [1.5], [0, 1]), 1, "safetensors.bad-header"],
    ["a dimension of text", one("U8", ["1"], [0, 1]), 1, "safetensors.bad-header"],
    ["a size that overflows", one("F32", [2 ** 40, 2 ** 40], [0, 4]), 4, "safetensors.bad-header"],
    ["an overflow behind a zero", one("F32", [2 ** 40, 2 ** 40, 0], [0, 0]), 0, "safetensors.bad-header"],
    ["offsets that do not fit the shape", one("F32", [2], [0, 4]), 4, "safetensors.wrong-size"],
    ["offsets the wrong way round", one("F32", [1], [4, 0]), 4, "safetensors.wrong-size"],
    ["three offsets", one("U8", [1], [0, 1, 1]), 1, "safetensors.bad-header"],
    ["no offsets", { t: { dtype: "U8", shape: [1] } }, 1, "safetensors.bad-header"],
    ["data beyond the file", one("F32", [4], [0, 16]), 8, "safetensors.truncated"],
    ["a hole before the data", one("U8", [1], [1, 2]), 2, "safetensors.bad-offsets"],
    ["bytes after the data", one("U8", [1], [0, 1]), 2, "safetensors.bad-offsets"],
    ["metadata that is no text", { __metadata__: { a: 1 } }, 0, "safetensors.bad-header"],
    ["an entry that is no object", { t: 1 }, 0, "safetensors.bad-header"],
    ["nesting without end", `{"a":${"[".repeat(100_000)}`, 0, "safetensors.bad-header"],
  ];
  test.each(cases)("%s", async (_, header, dataBytes, code) => {
    const name = rawFile("bad.safetensors", header, pattern(dataBytes, 1));
    expect(await codeOf(() => SafetensorsFile.open(name)[Symbol.dispose]())).toBe(code);
  });

  test("overlapping tensors", async () => {
    const entry = (start: number) => ({ dtype: "U8", shape: [4], data_offsets: [start, start + 4] });
    const name = rawFile("overlap.safetensors", { a: entry(0), b: entry(2) }, pattern(6, 1));
    expect(() => SafetensorsFile.open(name)).toThrowError(/overlap\.safetensors: the data of b overlaps that of a/);
  });

  test("a header length beyond the limit or the file", async () => {
    for (const [length, code] of [
      [2n ** 64n - 1n, "safetensors.header-too-large"],
      [100_000_001n, "safetensors.header-too-large"],
      [100_000_000n, "safetensors.truncated"],
      [0n, "safetensors.bad-header"],
    ] as const) {
      const bytes = Buffer.alloc(64, "{");
      bytes.writeBigUInt64LE(length);
      writeFileSync(path("length.safetensors"), bytes);
      expect(await codeOf(() => SafetensorsFile.open(path("length.safetensors")))).toBe(code);
    }
  });

  test("missing, empty and impossible files", async () => {
    writeFileSync(path("empty.safetensors"), "");
    expect(await codeOf(() => SafetensorsFile.open(path("empty.safetensors")))).toBe("io.empty-file");
    expect(await codeOf(() => SafetensorsFile.open(path("missing.safetensors")))).toBe("io.not-found");
    expect(await codeOf(() => SafetensorsFile.open(path("")))).toBe("io.not-a-file");
    expect(await codeOf(() => SafetensorsFile.open("/dev/zero"))).toBe("io.not-a-file");
  });
});

describe("writing", () => {
  const leftovers = (): string[] => readdirSync(path("")).filter(isPartial);

  test("pieces in any order give the same file as whole tensors", async () => {
    const tensors = [tensor("a", "f32", [100], 1), tensor("b", "bf16", [33], 2)];
    await writeSafetensors(path("whole.safetensors"), tensors);
    await using writer = await SafetensorsWriter.create(path("pieces.safetensors"), tensors);
    await writer.write("b", tensors[1]!.bytes.subarray(0, 10));
    await writer.write("a", tensors[0]!.bytes);
    await writer.write("b", tensors[1]!.bytes.subarray(10));
    await writer.finish();
    expect(readFileSync(path("pieces.safetensors")).equals(readFileSync(path("whole.safetensors")))).toBe(true);
  });

  test("a failure leaves the old file and no temporary one", async () => {
    await writeSafetensors(path("old.safetensors"), [tensor("a", "f32", [4])]);
    const before = readFileSync(path("old.safetensors"));
    const specs = [tensor("a", "f32", [8]), tensor("b", "f32", [8])];
    const attempts: [string, () => Promise<unknown>][] = [
      [
        "safetensors.incomplete",
        async () => {
          await using writer = await SafetensorsWriter.create(path("old.safetensors"), specs);
          await writer.write("a", specs[0]!.bytes);
          await writer.finish();
        },
      ],
      [
        "safetensors.wrong-size",
        () => writeSafetensors(path("old.safetensors"), [{ ...specs[0]!, bytes: new Uint8Array(33) }]),
      ],
      [
        "tensors.unknown-name",
        async () => {
          await using writer = await SafetensorsWriter.create(path("old.safetensors"), specs);
          await writer.write("c", specs[0]!.bytes);
        },
      ],
      ["safetensors.bad-tensor", () => writeSafetensors(path("old.safetensors"), [specs[0]!, specs[0]!])],
      ["safetensors.bad-tensor", () => writeSafetensors(path("old.safetensors"), [tensor("__metadata__", "u8", [1])])],
      [
        "io.disk-full",
        () => SafetensorsWriter.create(path("old.safetensors"), [{ name: "a", dtype: "f32", shape: [2 ** 50] }]),
      ],
      ["io.not-found", () => SafetensorsWriter.create(path("nowhere/x.safetensors"), specs)],
    ];
    for (const [code, attempt] of attempts) {
      expect(await codeOf(attempt)).toBe(code);
      expect(leftovers()).toEqual([]);
      expect(readFileSync(path("old.safetensors")).equals(before)).toBe(true);
    }
  });

  test("an exception between tensors removes the temporary file", async () => {
    const work = async () => {
      await using writer = await SafetensorsWriter.create(path("thrown.safetensors"), [tensor("a", "f32", [8])]);
      expect(leftovers().length).toBe(1);
      throw new Error(`interrupted after ${writer.size}`);
    };
    await expect(work()).rejects.toThrowError("interrupted");
    expect(leftovers()).toEqual([]);
  });

  test.skipIf(process.platform === "win32")(
    "a disk that fills up in the middle: a coded error, the old file untouched",
    async () => {
      await writeSafetensors(path("full.safetensors"), [tensor("a", "f32", [4])]);
      const before = readFileSync(path("full.safetensors"));
      const writerModule = fileURLToPath(new URL("../../src/io/safetensors-writer.ts", import.meta.url));
      const script = `
      const { writeSafetensors } = await import(${JSON.stringify(writerModule)});
      const bytes = new Uint8Array(1 << 20);
      const tensors = [0, 1, 2, 3].map((i) => ({ name: "t" + i, dtype: "u8", shape: [bytes.length], bytes }));
      await writeSafetensors(${JSON.stringify(path("full.safetensors"))}, tensors).then(() => console.log("written"), (error) => console.log(error.code));`;
      writeFileSync(path("full.mjs"), script);
      // A limit on file size makes write() fail as a full disk does, without needing one.
      const tsx = fileURLToPath(new URL("../../node_modules/tsx/dist/loader.mjs", import.meta.url));
      const run = spawnSync(
        "bash",
        ["-c", `trap '' XFSZ; ulimit -f 2048; exec "$0" --import "$1" "$2"`, process.execPath, tsx, path("full.mjs")],
        { encoding: "utf8" },
      );
      expect(run.stdout.trim()).toBe("io.disk-full");
      expect(leftovers()).toEqual([]);
      expect(readFileSync(path("full.safetensors")).equals(before)).toBe(true);
    },
  );
});
