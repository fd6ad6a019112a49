// Says what a file is by its first bytes, whatever its name.
import { closeSync, openSync, readSync } from "node:fs";
import { KinoraError } from "../base/errors.ts";
import { fileError, fileOrFolder } from "./files.ts";
import { MAX_HEADER_BYTES, PREFIX_BYTES } from "./safetensors-header.ts";

const HEAD_BYTES = 512;

function head(path: string): Uint8Array {
  try {
    const file = openSync(path, "r");
    try {
      const buffer = new Uint8Array(HEAD_BYTES);
      return buffer.subarray(0, readSync(file, buffer, 0, HEAD_BYTES, 0));
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw fileError(error, path);
  }
}

interface Signature {
  what: string;
  hint: string;
  /** How the file begins, one character a byte, or a test of its head. */
  begins: string | ((head: string) => boolean);
}

const convert = "convert it to safetensors with the tool that made it";
const again = "download the file again, with its real content";
const unpack = "unpack it first";
const noPickles =
  "Kinora never executes pickles; load it with the tool that made it and save its weights as safetensors";

/** A protobuf message whose first field is a small version number and whose second is a string, as ONNX begins. */
const onnx = (head: string): boolean => head[0] === "\x08" && head.charCodeAt(1) < 32 && head[2] === "\x12";

/** Files that people mistake for weights, and what each needs. */
const signatures: readonly Signature[] = [
  {
    what: "a Git LFS pointer, not the file it points to",
    hint: "run git lfs pull, or download the file itself",
    begins: "version https://git-lfs.github.com/spec/",
  },
  { what: "a web page", hint: again, begins: (head) => /^\s*<(?:!doctype html|html|head|\?xml)/i.test(head) },
  {
    what: "a checkpoint of PyTorch before 1.6, a plain pickle",
    hint: noPickles,
    begins: "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19",
  },
  {
    what: "a plain pickle",
    hint: noPickles,
    begins: (head) => head[0] === "\x80" && head.charCodeAt(1) >= 2 && head.charCodeAt(1) <= 5,
  },
  { what: "an HDF5 file", hint: convert, begins: "\x89HDF\r\n\x1a\n" },
  { what: "a NumPy array", hint: convert, begins: "\x93NUMPY" },
  { what: "an ONNX model", hint: "Kinora reads weights, not graphs; use the model's safetensors file", begins: onnx },
  { what: "a gzip archive", hint: unpack, begins: "\x1f\x8b" },
  { what: "a zstd archive", hint: unpack, begins: "\x28\xb5\x2f\xfd" },
  { what: "a 7-Zip archive", hint: unpack, begins: "7z\xbc\xaf\x27\x1c" },
  { what: "a tar archive", hint: unpack, begins: (head) => head.slice(257, 262) === "ustar" },
  {
    what: "an image or a video, not weights",
    hint: "name a model's file",
    begins: (head) =>
      ["\x89PNG", "\xff\xd8\xff", "RIFF"].some((magic) => head.startsWith(magic)) || head.slice(4, 8) === "ftyp",
  },
  {
    what: "a file of zeros, as left by an unfinished download",
    hint: again,
    begins: (head) => head === "\0".repeat(head.length),
  },
  {
    what: "a JSON file, not weights",
    hint: "give the .safetensors file, its .index.json, or the folder",
    begins: (head) => /^\s*[{[]/.test(head),
  },
];

/**
 * The format of a weight file. Throws `io.not-weights`, naming what the file is instead, where that can be told.
 */
export function sniff(path: string): "safetensors" | "torch zip" | "gguf" {
  const { kind, size } = fileOrFolder(path);
  if (kind === "folder") throw new KinoraError("io.not-a-file", `${path} is a folder`, { hint: "name a file in it" });
  if (size === 0) throw new KinoraError("io.empty-file", `${path} is empty`, { hint: "download the file again" });
  const bytes = head(path);
  const text = String.fromCharCode(...bytes);
  if (text.startsWith("PK\x03\x04") || text.startsWith("PK\x05\x06")) return "torch zip";
  if (text.startsWith("GGUF")) return "gguf";
  if (bytes.length > PREFIX_BYTES) {
    const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
    if (length <= BigInt(MAX_HEADER_BYTES) && text[PREFIX_BYTES] === "{") return "safetensors";
  }
  const known = signatures.find(({ begins }) => (typeof begins === "string" ? text.startsWith(begins) : begins(text)));
  if (known) throw new KinoraError("io.not-weights", `${path} is ${known.what}`, { hint: known.hint });
  // A damaged file of that name deserves the reader's own words on what is wrong with it.
  if (/\.(?:safetensors|sft)$/i.test(path)) return "safetensors";
  throw new KinoraError("io.not-weights", `${path} is not a weight file that Kinora knows`, {
    hint: "Kinora reads safetensors, GGUF and PyTorch zip checkpoints",
  });
}
