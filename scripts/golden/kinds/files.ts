// Fixtures in JSON: file formats, text, and the arithmetic of sizes. All exact.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { cleanText } from "../../../src/io/text-clean/index.ts";
import { loadTokenizer } from "../../../src/io/tokenizer/load.ts";
import { TorchZipFile } from "../../../src/io/torch-zip.ts";
import { coverGeometry, stretchGeometry } from "../../../src/models/wan/image-geometry.ts";
import type { Check } from "../fixture.ts";

const exact = (output: string, wrong: number): Check => ({ output, error: wrong, tolerance: 0 });
const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
// biome-ignore lint/suspicious/noExplicitAny: each kind knows its own JSON
const read = (path: string): any => JSON.parse(readFileSync(path, "utf8"));

export async function geometry(path: string): Promise<Check[]> {
  const { best_output, latent } = read(path);
  const wrongCovers = best_output.filter((row: Record<string, number>) => {
    const result = coverGeometry(row.w!, row.h!, row.max_area!);
    const { width, height, resizedWidth, resizedHeight, cropX, cropY } = result;
    return !same(
      [width, height, resizedWidth, resizedHeight, cropX, cropY],
      [row.ow, row.oh, row.resized_w, row.resized_h, row.crop_x, row.crop_y],
    );
  });
  const wrongLatents = latent.filter((row: Record<string, number>) => {
    const { latentWidth, latentHeight } = stretchGeometry(row.w!, row.h!, row.max_area!);
    return latentWidth !== row.lat_w || latentHeight !== row.lat_h;
  });
  return [exact("best_output", wrongCovers.length), exact("latent", wrongLatents.length)];
}

const torchNames: Readonly<Record<string, string>> = {
  f64: "float64",
  f32: "float32",
  f16: "float16",
  bf16: "bfloat16",
  i64: "int64",
  i32: "int32",
  i16: "int16",
  i8: "int8",
  u8: "uint8",
  bool: "bool",
  f8e4m3: "float8_e4m3fn",
  f8e5m2: "float8_e5m2",
};

export async function torchZip(path: string): Promise<Check[]> {
  const { file, tensors } = read(path) as {
    file: string;
    tensors: Record<string, { dtype: string; shape: number[]; sha256: string }>;
  };
  using archive = TorchZipFile.open(join(dirname(path), file));
  const names = exact("names", same([...archive.names].sort(), Object.keys(tensors).sort()) ? 0 : 1);
  const checks = Object.entries(tensors).map(([name, { dtype, shape, sha256 }]) => {
    if (!archive.has(name)) return exact(name, 1);
    const info = archive.info(name);
    const digest = createHash("sha256").update(archive.bytes(name)).digest("hex");
    const right = torchNames[info.dtype] === dtype && same(info.shape, shape) && digest === sha256;
    return exact(name, right ? 0 : 1);
  });
  return [names, ...checks];
}

export async function textClean(path: string): Promise<Check[]> {
  const { cases } = read(path) as { cases: { input: string; output: string }[] };
  return [exact("output", cases.filter(({ input, output }) => cleanText(input) !== output).length)];
}

interface TokenizerCase {
  text: string;
  ids: number[];
  ids_sentencepiece?: number[];
  padded: number[];
  mask: number[];
}

export async function tokenizer(path: string): Promise<Check[]> {
  const { model, tokenizer_json, padded_length, cases } = read(path) as {
    model: string;
    tokenizer_json: string;
    padded_length: number;
    cases: TokenizerCase[];
  };
  const checks: Check[] = [];
  for (const file of [tokenizer_json, model]) {
    const loaded = await loadTokenizer(join(dirname(path), file));
    const own = (entry: TokenizerCase) => (loaded.format === "sentencepiece" ? entry.ids_sentencepiece : undefined);
    const wrongIds = cases.filter((entry) => !same(loaded.encode(entry.text), own(entry) ?? entry.ids));
    const wrongPadded = cases.filter((entry) => {
      if (own(entry)) return false;
      const { ids, mask } = loaded.encodePadded(entry.text, padded_length);
      return !same([...ids], entry.padded) || !same([...mask], entry.mask);
    });
    checks.push(exact(`${file} ids`, wrongIds.length), exact(`${file} padded`, wrongPadded.length));
  }
  return checks;
}
