// A checkpoint of a model's true sizes with random weights, in the official folder's layout. Files are written tensor by
// tensor, so that no network is ever in memory; what is there already is kept.
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { bytesOf, type DType } from "../src/base/dtype.ts";
import { fromFloat32 } from "../src/base/float-formats.ts";
import { philoxNormals } from "../src/base/rng/philox-rng.ts";
import { elementCount } from "../src/base/shape.ts";
import { writeFileAtomic } from "../src/io/atomic.ts";
import { SafetensorsWriter } from "../src/io/safetensors-writer.ts";
import { umt5Xxl, type WanModel } from "../src/models/wan/params.ts";
import { vaeConfigs } from "../src/models/wan/vae/config.ts";
import { ditShapes, type Shapes, textEncoderShapes, vaeShapes } from "../src/models/wan/weight-shapes.ts";
import { initialValues } from "../src/nn/random-weights.ts";
import { letterTokenizer } from "../test/support/tiny-checkpoint.ts";

/** Values drawn once and repeated: of a length that is no multiple of any layer's width, so that rows differ. */
const TILE = 2 ** 20 - 3;
const SHARD_BYTES = 4e9;

const bytes = (shape: readonly number[], dtype: DType) => elementCount(shape) * bytesOf(dtype);

/** The bytes of repeated values, made once for each kind of parameter. */
class Tiles {
  readonly #dtype: DType;
  readonly #normals = new Float32Array(TILE);
  readonly #made = new Map<string, Uint8Array>();

  constructor(dtype: DType) {
    this.#dtype = dtype;
    philoxNormals(1n, 0, 0, this.#normals);
  }

  of(name: string, shape: readonly number[]): Uint8Array {
    const values = initialValues(name, shape);
    const key = JSON.stringify(values);
    const { constant, deviation } = values;
    const tile =
      this.#made.get(key) ??
      fromFloat32(
        this.#normals.map((normal) => (deviation === undefined ? constant : normal * deviation)),
        this.#dtype,
      );
    this.#made.set(key, tile);
    return tile;
  }
}

/** What is there already is kept. */
export async function writeNetwork(path: string, shapes: Shapes, dtype: DType): Promise<void> {
  if (existsSync(path)) return;
  const specs = [...shapes].map(([name, shape]) => ({ name, dtype, shape }));
  await using writer = await SafetensorsWriter.create(path, specs);
  const tiles = new Tiles(dtype);
  for (const { name, shape } of specs) {
    const tile = tiles.of(name, shape);
    for (let left = bytes(shape, dtype); left > 0; left -= tile.length) {
      await writer.write(name, tile.subarray(0, Math.min(left, tile.length)));
    }
  }
  await writer.finish();
}

/** As the official transformers come: `NAME-00001-of-00003.safetensors` beside their index. */
async function writeShards(path: string, shapes: Shapes, dtype: DType): Promise<void> {
  const shards: Shapes[] = [];
  let room = 0;
  for (const [name, shape] of shapes) {
    if (bytes(shape, dtype) > room) {
      shards.push(new Map());
      room = SHARD_BYTES;
    }
    shards.at(-1)!.set(name, shape);
    room -= bytes(shape, dtype);
  }
  const number = (value: number) => String(value).padStart(5, "0");
  const weightMap: Record<string, string> = {};
  for (const [i, shard] of shards.entries()) {
    const file = `${path}-${number(i + 1)}-of-${number(shards.length)}.safetensors`;
    await writeNetwork(file, shard, dtype);
    for (const name of shard.keys()) weightMap[name] = basename(file);
  }
  await writeFileAtomic(`${path}.safetensors.index.json`, JSON.stringify({ metadata: {}, weight_map: weightMap }));
}

/** `folder` as the official one of `model`, a model without experts; its tokenizer knows letters only. */
export async function writeFullSizeCheckpoint(folder: string, model: WanModel, dtype: DType): Promise<void> {
  mkdirSync(join(folder, "google/umt5-xxl"), { recursive: true });
  writeFileSync(join(folder, "google/umt5-xxl/spiece.model"), letterTokenizer());
  await writeShards(join(folder, "diffusion_pytorch_model"), ditShapes(model.dit), dtype);
  await writeNetwork(join(folder, `models_t5_umt5-xxl-enc-${dtype}.safetensors`), textEncoderShapes(umt5Xxl), dtype);
  const vae = model.vae.kind === "vae21" ? "Wan2.1_VAE" : "Wan2.2_VAE";
  await writeNetwork(join(folder, `${vae}.safetensors`), vaeShapes(vaeConfigs[model.vae.kind]), dtype);
}
