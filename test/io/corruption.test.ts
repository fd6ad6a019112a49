// Files damaged in every way we can think of: each must end in a coded error or a correct read, in little memory,
// and gives no more bytes than the file has: what a file claims never decides how much work it is.
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { bytesOf } from "../../src/base/dtype.ts";
import { isKinoraError } from "../../src/base/errors.ts";
import { elementCount } from "../../src/base/shape.ts";
import { writeSafetensors } from "../../src/io/safetensors-writer.ts";
import { openTensorSource } from "../../src/io/tensor-source.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { type TorchTensor, torchZip } from "../support/torch-zip-writer.ts";

const path = temporaryFolder();
const LIMIT_MEMORY = 200 << 20;

/** A small generator of its own, so that every run damages the same bytes. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const tensors: TorchTensor[] = [
  { name: "blocks.0.self_attn.q.weight", dtype: "bf16", shape: [16, 24] },
  { name: "blocks.0.self_attn.q.bias", dtype: "f32", shape: [16] },
  { name: "blocks.1.ffn.0.weight", dtype: "f16", shape: [5, 7] },
  { name: "steps", dtype: "i64", shape: [2] },
  { name: "scalar", dtype: "f32", shape: [] },
  { name: "empty", dtype: "f32", shape: [0, 4] },
].map((row, i) => {
  const dtype = row.dtype as TorchTensor["dtype"];
  const length = bytesOf(dtype) * elementCount(row.shape);
  return { ...row, dtype, bytes: Uint8Array.from({ length }, (_, j) => (j * 7 + i * 3) & 0xff) };
});

interface Outcome {
  what: string;
  result: string;
}

let cases = 0;
let refused = 0;
const unforeseen: Outcome[] = [];

/** Opens the file and reads everything; anything but a coded error or a consistent read is noted. */
function tryFile(file: string, what: string): void {
  cases++;
  try {
    const { size } = statSync(file);
    using source = openTensorSource(file);
    // An entry of a directory takes more than a byte.
    if (source.names.length > size) unforeseen.push({ what, result: "more tensors than the file has bytes" });
    for (const name of source.names) {
      const { dtype, shape } = source.info(name);
      const bytes = source.bytes(name);
      if (bytes.length !== bytesOf(dtype) * elementCount(shape))
        unforeseen.push({ what, result: `${name}: wrong length` });
      if (bytes.length > size) unforeseen.push({ what, result: `${name}: more bytes than the file has` });
      let sum = 0;
      for (const byte of bytes) sum += byte;
      if (!Number.isFinite(sum)) unforeseen.push({ what, result: "unreadable" });
    }
  } catch (error) {
    refused++;
    if (!isKinoraError(error)) unforeseen.push({ what, result: String(error) });
    else if (!/^(?:io|safetensors|zip|torch-zip|shards)\./.test(error.code))
      unforeseen.push({ what, result: error.code });
  }
}

function damage(name: string, what: string, original: Uint8Array, change: (bytes: Buffer) => Uint8Array): void {
  const file = path(name);
  writeFileSync(file, change(Buffer.from(original)));
  tryFile(file, `${name}: ${what}`);
}

/** Damage that knows nothing of the format: cuts, flips, fills, moved and repeated pieces. */
function blindly(name: string, original: Uint8Array, rounds: number, seed: number): void {
  const random = randomNumbers(seed);
  for (let i = 0; i < rounds; i++) {
    const cut = Math.floor((original.length * i) / rounds);
    damage(name, `cut to ${cut} bytes`, original, (bytes) => bytes.subarray(0, cut));
    const at = random(original.length);
    const bit = 1 << random(8);
    damage(name, `bit flipped at ${at}`, original, (bytes) => {
      bytes[at]! ^= bit;
      return bytes;
    });
    const length = 1 + random(64);
    const fill = [0, 0xff, 0x7f, 0x28][random(4)]!;
    damage(name, `${length} bytes of ${fill} at ${at}`, original, (bytes) =>
      bytes.fill(fill, at, Math.min(at + length, bytes.length)),
    );
    damage(name, `${length} bytes removed at ${at}`, original, (bytes) =>
      Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]),
    );
    const from = random(original.length);
    damage(name, `${length} bytes inserted at ${at}`, original, (bytes) =>
      Buffer.concat([bytes.subarray(0, at), bytes.subarray(from, from + length), bytes.subarray(at)]),
    );
  }
}

describe("damaged files", () => {
  const memory = process.memoryUsage().rss;

  test("safetensors, blindly", async () => {
    await writeSafetensors(path("good.safetensors"), tensors, { format: "pt" });
    blindly("damaged.safetensors", readFileSync(path("good.safetensors")), 40, 1);
    expect(unforeseen).toEqual([]);
  });

  test("safetensors whose header says something else", async () => {
    await writeSafetensors(path("good.safetensors"), tensors, { format: "pt" });
    const good = readFileSync(path("good.safetensors"));
    const length = Number(good.readBigUInt64LE());
    const data = good.subarray(8 + length);
    const random = randomNumbers(2);
    const values = [-1, 0, 1, 2, 3.5, 1e15, 2 ** 53, 1e300, "4", null, [], {}, true, "BF16", "F32", "F64", "I64", "F4"];
    for (let i = 0; i < 200; i++) {
      const header = JSON.parse(good.toString("utf8", 8, 8 + length));
      const names = Object.keys(header);
      const name = names[random(names.length)]!;
      const value = values[random(values.length)];
      const field = ["dtype", "shape", "data_offsets"][random(3)]!;
      const change = random(4);
      if (name === "__metadata__" || change === 0) header[name] = value;
      else if (change === 1 && Array.isArray(header[name][field])) header[name][field][random(2)] = value;
      else if (change === 2) delete header[name][field];
      else header[name][field] = value;
      const json = Buffer.from(JSON.stringify(header));
      const prefix = Buffer.alloc(8);
      prefix.writeBigUInt64LE(BigInt(json.length + (random(10) === 0 ? random(9) - 4 : 0)));
      writeFileSync(path("header.safetensors"), Buffer.concat([prefix, json, data]));
      tryFile(path("header.safetensors"), `${name}.${field} := ${JSON.stringify(value)}`);
    }
    expect(unforeseen).toEqual([]);
  });

  test("torch archives, blindly: stored, deflated, zip64, wrapped", () => {
    blindly("stored.pth", torchZip(tensors), 40, 3);
    blindly("deflated.pth", torchZip(tensors, { deflate: true }), 20, 4);
    blindly("zip64.pth", torchZip(tensors, { zip64: true }), 20, 5);
    blindly("wrapped.pth", torchZip(tensors, { wrapper: "model" }), 10, 6);
    expect(unforeseen).toEqual([]);
  });

  test("torch archives whose pickle is damaged, byte by byte", () => {
    const good = torchZip(tensors);
    const start = good.indexOf(Buffer.from([0x80, 0x02]));
    const end = good.indexOf("archive/byteorder") - 30;
    const random = randomNumbers(7);
    for (let at = start; at < end; at += 2) {
      damage("pickle.pth", `byte ${at - start} of the pickle`, good, (bytes) => {
        bytes[at] = random(256);
        return bytes;
      });
    }
    expect(unforeseen).toEqual([]);
  });

  test("indexes of shards, blindly", async () => {
    const folder = path("shards");
    mkdirSync(folder);
    await writeSafetensors(join(folder, "a.safetensors"), tensors.slice(0, 3));
    await writeSafetensors(join(folder, "b.safetensors"), tensors.slice(3));
    const weight_map = Object.fromEntries(
      tensors.map(({ name }, i) => [name, i < 3 ? "a.safetensors" : "b.safetensors"]),
    );
    blindly("shards/m.safetensors.index.json", Buffer.from(JSON.stringify({ weight_map })), 20, 8);
    expect(unforeseen).toEqual([]);
  });

  test("a hundred megabytes of header that is none", () => {
    const bytes = Buffer.alloc(100_000_008, " ");
    bytes.writeBigUInt64LE(100_000_000n);
    bytes[8] = 0x7b;
    writeFileSync(path("spaces.safetensors"), bytes);
    tryFile(path("spaces.safetensors"), "spaces");
    bytes.fill("[", 9);
    writeFileSync(path("spaces.safetensors"), bytes);
    tryFile(path("spaces.safetensors"), "brackets");
    bytes.fill('"', 9, 10).fill("x", 10);
    writeFileSync(path("spaces.safetensors"), bytes);
    tryFile(path("spaces.safetensors"), "one endless key");
    expect(unforeseen).toEqual([]);
  });

  test("all ended, most in a refusal, in bounded memory", () => {
    expect(cases).toBeGreaterThan(1200);
    expect(refused).toBeGreaterThan(cases / 2);
    // The largest file here is 100 MB and is read once as text.
    expect(process.memoryUsage().rss - memory).toBeLessThan(LIMIT_MEMORY + (300 << 20));
  });

  afterAll(() => {
    process.stdout.write(`${cases} damaged files: ${refused} refused\n`);
  });
});
