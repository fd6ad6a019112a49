// GGUF files: heads of every kind of value, tensors where they lie, and what is wrong with a damaged one.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { widenBlocks } from "../../src/base/block-format.ts";
import { isKinoraError } from "../../src/base/errors.ts";
import { ggmlFormat, ggmlFormats } from "../../src/base/ggml/types.ts";
import { GgufFile } from "../../src/io/gguf.ts";
import { ggufBytes, int32s, string, strings, uint32, uint64, writeGguf } from "../support/gguf-writer.ts";

const folder = mkdtempSync(join(tmpdir(), "kinora-gguf-"));
afterAll(() => rmSync(folder, { recursive: true }));
let count = 0;
const place = (): string => join(folder, `${++count}.gguf`);
const open = (bytes: Uint8Array): GgufFile => {
  const path = place();
  writeFileSync(path, bytes);
  return GgufFile.open(path);
};

const f32 = (values: readonly number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);

describe("the head", () => {
  it("gives metadata of each kind and tensors in PyTorch's order of axes", () => {
    const path = place();
    writeGguf(
      path,
      [
        { name: "a", shape: [2, 3], type: 0, data: f32([1, 2, 3, 4, 5, 6]) },
        { name: "b", shape: [1, 32], type: 8, data: new Uint8Array(34) },
      ],
      {
        "general.architecture": string("wan"),
        n: uint32(7),
        big: uint64(2n ** 60n),
        list: int32s([1, -2]),
        words: strings(["x", "ü"]),
      },
    );
    using file = GgufFile.open(path);
    expect(Object.fromEntries(file.values)).toEqual({
      "general.architecture": "wan",
      n: 7,
      big: 2n ** 60n,
      list: [1, -2],
      words: ["x", "ü"],
    });
    expect(file.info("a")).toMatchObject({ shape: [2, 3], dtype: "f32", bytes: 24 });
    expect(file.info("b").blocks?.name).toBe("Q8_0");
    expect(new Float32Array(file.bytes("a").slice().buffer)).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
    expect(() => file.info("c")).toThrow(expect.objectContaining({ code: "tensors.unknown-name" }));
  });

  it("gives a reshaped tensor its true shape, where both hold the same number of elements", () => {
    const tensor = { name: "w", shape: [1, 64], type: 0, data: f32(new Array(64).fill(1)) };
    using right = open(ggufBytes([tensor], { "comfy.gguf.orig_shape.w": int32s([4, 16]) }));
    expect(right.info("w").shape).toEqual([4, 16]);
    using wrong = open(ggufBytes([tensor], { "comfy.gguf.orig_shape.w": int32s([4, 17]) }));
    expect(wrong.info("w").shape).toEqual([1, 64]);
  });

  it("keeps to another alignment", () => {
    using file = open(
      ggufBytes(
        [
          { name: "a", shape: [1], type: 0, data: f32([1]) },
          { name: "b", shape: [1], type: 0, data: f32([2]) },
        ],
        { "general.alignment": uint32(64) },
        { alignment: 64 },
      ),
    );
    expect(new Float32Array(file.bytes("b").slice().buffer)[0]).toBe(2);
  });
});

describe("damage", () => {
  const whole = ggufBytes([{ name: "a", shape: [4, 32], type: 8, data: new Uint8Array(136) }], { k: string("v") });
  const cases: [string, () => Uint8Array, string][] = [
    ["a short file", () => whole.subarray(0, whole.length - 60), "gguf.truncated"],
    [
      "an unknown type",
      () => ggufBytes([{ name: "a", shape: [32], type: 99, data: new Uint8Array(34) }]),
      "gguf.unknown-type",
    ],
    [
      "rows that are no blocks",
      () => ggufBytes([{ name: "a", shape: [33], type: 8, data: new Uint8Array(34) }]),
      "gguf.malformed",
    ],
    ["another version", () => ggufBytes([], {}, { version: 1 }), "gguf.version"],
    ["the other byte order", () => ggufBytes([], {}, { version: 0x03000000 }), "gguf.version"],
    ["more tensors than it has", () => ggufBytes([], {}, { count: 900_000 }), "gguf.truncated"],
    ["tensors without end", () => ggufBytes([], {}, { count: 2 ** 40 }), "gguf.malformed"],
    [
      "tensors that overlap",
      () =>
        ggufBytes([
          { name: "a", shape: [32], type: 0, data: new Uint8Array(128) },
          { name: "b", shape: [32], type: 0, data: new Uint8Array(128), offset: 32 },
        ]),
      "gguf.malformed",
    ],
    [
      "a name twice",
      () => ggufBytes([1, 2].map(() => ({ name: "a", shape: [1], type: 0, data: f32([1]) }))),
      "gguf.malformed",
    ],
    ["an alignment of nought", () => ggufBytes([], { "general.alignment": uint32(0) }), "gguf.malformed"],
  ];
  it.each(cases)("%s is told", (_, make, code) => {
    expect(() => open(make())).toThrow(expect.objectContaining({ code }));
  });

  it("never ends in anything but a coded error, wherever a byte is changed or the file is cut", () => {
    let seed = 1;
    const random = (below: number): number => {
      seed = (seed * 48271) % 2147483647;
      return seed % below;
    };
    for (let i = 0; i < 600; i++) {
      const bytes = Buffer.from(i % 3 === 0 ? whole.subarray(0, random(whole.length)) : whole);
      for (let n = random(4); n >= 0 && bytes.length > 0; n--) bytes[random(bytes.length)] = random(256);
      try {
        using file = open(bytes);
        for (const { name } of file.tensors) file.bytes(name);
      } catch (error) {
        if (!isKinoraError(error)) throw error;
      }
    }
  });
});

describe("blocks", () => {
  it("have whole bytes for each of their formats, and know each other by name", () => {
    for (const format of ggmlFormats) {
      expect(ggmlFormat(format.name)).toBe(format);
      const out = new Float32Array(format.elements + 1).fill(Number.NaN);
      // Zero scales and zero codes are finite everywhere; nothing beyond the block is written.
      format.widen(new Uint8Array(format.bytes), 0, out, 0);
      expect(out.subarray(0, format.elements).every(Number.isFinite)).toBe(true);
      expect(out[format.elements]).toBeNaN();
    }
  });

  it("widen by hand-made codes", () => {
    const q8 = new Uint8Array(34);
    q8.set([0x00, 0x38, 0xff, 0x02]); // 0.5, then -1, 2
    const out = new Float32Array(32);
    widenBlocks(ggmlFormat("Q8_0")!, q8, out);
    expect([...out.subarray(0, 3)]).toEqual([-0.5, 1, 0]);
    const q4 = new Uint8Array(18);
    q4.set([0x00, 0x3c, 0xf0]); // 1, then codes 0 and 15
    widenBlocks(ggmlFormat("Q4_0")!, q4, out);
    expect([out[0], out[16], out[1]]).toEqual([-8, 7, -8]);
  });
});
