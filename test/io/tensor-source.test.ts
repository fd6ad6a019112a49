import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { isKinoraError, type KinoraError } from "../../src/base/errors.ts";
import { type WritableTensor, writeSafetensors } from "../../src/io/safetensors-writer.ts";
import { findModels, openTensorSource } from "../../src/io/tensor-source.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { torchZip } from "../support/torch-zip-writer.ts";

const path = temporaryFolder();

function failure(file: string): KinoraError {
  try {
    openTensorSource(file)[Symbol.dispose]();
  } catch (error) {
    if (isKinoraError(error)) return error;
    throw error;
  }
  throw new Error("it opened");
}

function folder(name: string): string {
  mkdirSync(path(name), { recursive: true });
  return path(name);
}

const tensor = (name: string, value: number): WritableTensor & { bytes: Uint8Array } => ({
  name,
  dtype: "u8",
  shape: [8],
  bytes: new Uint8Array(8).fill(value),
});

/** Two shards of two tensors each, and the index that `change` may spoil. */
async function sharded(name: string, change: (map: Record<string, unknown>) => void = () => {}): Promise<string> {
  const at = folder(name);
  await writeSafetensors(join(at, "m-00001-of-00002.safetensors"), [tensor("a", 1), tensor("b", 2)], {
    part: "1",
    one: "1",
  });
  await writeSafetensors(join(at, "m-00002-of-00002.safetensors"), [tensor("c", 3), tensor("d", 4)], { part: "2" });
  const weight_map: Record<string, unknown> = {};
  for (const key of "abcd") weight_map[key] = `m-0000${"ab".includes(key) ? 1 : 2}-of-00002.safetensors`;
  change(weight_map);
  writeFileSync(join(at, "m.safetensors.index.json"), JSON.stringify({ metadata: { total_size: 32 }, weight_map }));
  return at;
}

describe("opening by content", () => {
  test("a safetensors file and a torch archive under any name", async () => {
    await writeSafetensors(path("weights.bin"), [tensor("a", 5)]);
    writeFileSync(path("weights.safetensors"), torchZip([tensor("a", 6)]));
    using one = openTensorSource(path("weights.bin"));
    using two = openTensorSource(path("weights.safetensors"));
    expect([one.format, two.format]).toEqual(["safetensors", "torch zip"]);
    expect([one.bytes("a")[0], two.bytes("a")[0]]).toEqual([5, 6]);
  });

  const others: [string, string, string | Uint8Array][] = [
    [
      "pointer.safetensors",
      "Git LFS pointer",
      "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    ],
    ["page.safetensors", "web page", "<!DOCTYPE html><html><body>404</body></html>"],
    ["page2.pth", "web page", "\n  <html lang=en><body>sign in</body></html>"],
    ["old.pth", "before 1.6", Buffer.from("80028a0a6cfc9c46f9206aa850192e80024de903", "hex")],
    ["plain.pkl", "plain pickle", Buffer.from("80037d71002e", "hex")],
    [
      "os.pkl",
      "plain pickle",
      Buffer.concat([Buffer.from([0x80, 2]), Buffer.from("cos\nsystem\n(X\x04\0\0\0id  tR.")]),
    ],
    ["net.onnx", "ONNX", Buffer.concat([Buffer.from([8, 8, 18, 7]), Buffer.from("pytorch"), Buffer.alloc(40)])],
    ["a.npy", "NumPy", Buffer.concat([Buffer.from([0x93]), Buffer.from("NUMPY"), Buffer.alloc(60)])],
    ["a.h5", "HDF5", Buffer.from("\x89HDF\r\n\x1a\n0123456789", "latin1")],
    ["a.tgz", "gzip", Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0])],
    ["a.png", "image", Buffer.from("\x89PNG\r\n\x1a\n........", "latin1")],
    ["a.mp4", "video", Buffer.from("\0\0\0\x18ftypmp42........", "latin1")],
    ["zeros.safetensors", "unfinished download", new Uint8Array(1000)],
    ["config.json", "JSON", '{"model_type": "t2v"}'],
    ["noise.dat", "not a weight file", Buffer.from("hello hello hello")],
  ];
  test.each(others)("%s is named for what it is: %s", (name, what, bytes) => {
    writeFileSync(path(name), bytes);
    const error = failure(path(name));
    expect(error.code).toBe("io.not-weights");
    expect(error.message).toContain(what);
    expect(error.hint).toBeDefined();
  });

  test("a cut-off file of a known name gets the reader's words", () => {
    writeFileSync(path("cut.safetensors"), Buffer.from("abc"));
    expect(failure(path("cut.safetensors")).code).toBe("safetensors.truncated");
    writeFileSync(path("none.safetensors"), "");
    expect(failure(path("none.safetensors")).code).toBe("io.empty-file");
    expect(failure(path("missing")).code).toBe("io.not-found");
  });
});

describe("shards and folders", () => {
  test("the index joins the shards, from its file or its folder", async () => {
    const at = await sharded("good");
    for (const name of [at, join(at, "m.safetensors.index.json")]) {
      using source = openTensorSource(name);
      expect(source.format).toBe("safetensors (sharded)");
      expect(source.names).toEqual(["a", "b", "c", "d"]);
      expect(source.names.map((key) => source.bytes(key)[7])).toEqual([1, 2, 3, 4]);
      expect(source.metadata).toEqual({ part: "1", one: "1" });
      expect(source.address("d")).toBeTypeOf("number");
      expect(() => source.info("e")).toThrowError(/no tensor/);
      source.discard("a");
    }
  });

  test("torch archives can be shards too", () => {
    const at = folder("torch");
    writeFileSync(join(at, "p-1.bin"), torchZip([tensor("a", 1)]));
    writeFileSync(join(at, "p-2.bin"), torchZip([tensor("b", 2)]));
    writeFileSync(join(at, "p.bin.index.json"), JSON.stringify({ weight_map: { a: "p-1.bin", b: "p-2.bin" } }));
    using source = openTensorSource(at);
    expect([source.format, source.bytes("b")[0]]).toEqual(["torch zip (sharded)", 2]);
  });

  const disagreements: [string, (map: Record<string, unknown>) => void, string, string][] = [
    [
      "a missing shard",
      (map) => {
        map.e = "m-00003-of-00003.safetensors";
      },
      "shards.missing",
      "m-00003-of-00003",
    ],
    [
      "a tensor that its shard lacks",
      (map) => {
        map.e = map.a;
      },
      "shards.disagree",
      "e in m-00001",
    ],
    [
      "a tensor in another shard",
      (map) => {
        map.a = map.c;
      },
      "shards.disagree",
      "a in m-00002",
    ],
    [
      "a tensor the index does not know",
      (map) => {
        delete map.d;
      },
      "shards.disagree",
      "d in m-00002",
    ],
    [
      "a path out of the folder",
      (map) => {
        map.e = "../secret.safetensors";
      },
      "shards.bad-index",
      "secret",
    ],
    [
      "an absolute path",
      (map) => {
        map.e = "/etc/passwd";
      },
      "shards.bad-index",
      "passwd",
    ],
    [
      "a shard that is no text",
      (map) => {
        map.e = 5;
      },
      "shards.bad-index",
      "5",
    ],
  ];
  test.each(disagreements)("%s", async (name, change, code, names) => {
    const error = failure(await sharded(name, change));
    expect(error.code).toBe(code);
    expect(error.message).toContain(names);
  });

  test("an index that is none", () => {
    const at = folder("index");
    for (const text of ["", "[]", "{", '{"weight_map": []}', '{"weight_map":{"a":"x","a":"y"}}', "{}"]) {
      writeFileSync(join(at, "m.safetensors.index.json"), text);
      expect(failure(at).code).toBe("shards.bad-index");
    }
  });

  test("folders with one model, several, shards without an index, or none", async () => {
    const at = folder("single");
    await writeSafetensors(join(at, "one.safetensors"), [tensor("a", 1)]);
    writeFileSync(join(at, "config.json"), "{}");
    using source = openTensorSource(at);
    expect(source.names).toEqual(["a"]);
    await writeSafetensors(join(at, "two.safetensors"), [tensor("a", 1)]);
    expect(failure(at)).toMatchObject({ code: "io.ambiguous-folder", actual: "one.safetensors, two.safetensors" });
    const shards = folder("lost");
    for (const part of [1, 2])
      await writeSafetensors(join(shards, `x-0000${part}-of-00002.safetensors`), [tensor("a", 1)]);
    expect(failure(shards).code).toBe("shards.no-index");
    expect(failure(folder("outer/inner/..")).code).toBe("io.no-weights");
  });

  test("all models of a checkpoint's folders, shards counted once", async () => {
    const at = folder("checkpoint");
    await sharded("checkpoint/high_noise_model");
    await sharded("checkpoint/low_noise_model");
    writeFileSync(join(at, "Wan2.1_VAE.pth"), torchZip([tensor("a", 1)]));
    folder("checkpoint/google/umt5-xxl");
    const names = findModels(at).map((name) => name.slice(at.length + 1));
    expect(names).toEqual([
      "Wan2.1_VAE.pth",
      "high_noise_model/m.safetensors.index.json",
      "low_noise_model/m.safetensors.index.json",
    ]);
  });
});
