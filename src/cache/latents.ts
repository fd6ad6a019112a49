// The latents of every dataset item, encoded once for all runs. Float32 means of the autoencoder, normalised as the
// diffusion models see them; for image-to-video the condition beside them.
import { finished } from "../base/generators.ts";
import type { DatasetItem } from "../dataset/items.ts";
import { listFolder, mediaKind } from "../dataset/media-files.ts";
import type { ContentHash, HashCache } from "../io/content-hash.ts";
import { hasPictureLatents, pictureLatents } from "../models/wan/conditioning.ts";
import type { ImageInput } from "../models/wan/params.ts";
import { encodeClip } from "../models/wan/vae/encode-clip.ts";
import type { WanVae } from "../models/wan/vae/vae.ts";
import type { CacheEvent } from "./events.ts";
import { byFile, itemFrames } from "./frames.ts";
import { type CacheKey, type CacheStore, cacheKey, type KeyFacts } from "./store.ts";

export interface LatentCacheOptions {
  store: CacheStore;
  hashes: HashCache;
  /** The content of the autoencoder, and what its layers compute in. */
  /** `config`: of the config.json beside its weights, which may say how latents are normalised. */
  vae: { hash: ContentHash; config?: ContentHash; dtype: "f32" | "bf16" };
  /** Opened where something is missing; disposed of at the end. */
  openVae: () => WanVae;
  /** How the model takes a picture: where the picture has latents of its own, those of each first frame are kept too. */
  image: ImageInput;
  /** What the values are stored in. */
  dtype?: "f32" | "bf16";
  signal?: AbortSignal;
}

/** Raised when the same inputs would give other values. */
const VERSION = 1;

/** Encodes what is missing. Returns the key of every item, by its id. */
export async function* cacheLatents(
  items: readonly DatasetItem[],
  options: LatentCacheOptions,
): AsyncGenerator<CacheEvent, Map<string, CacheKey>> {
  const { store, image, signal, dtype = "f32" } = options;
  const keys = new Map<string, CacheKey>();
  const facts = new Map<CacheKey, KeyFacts>();
  const missing = new Map<CacheKey, DatasetItem>();
  let seen = 0;
  for (const item of items) {
    signal?.throwIfAborted();
    const itemFacts = { ...(await latentFacts(item, options)), stored: dtype };
    const key = cacheKey(itemFacts);
    keys.set(item.id, key);
    facts.set(key, itemFacts);
    const found = missing.has(key) ? "missing" : store.look("latents", key);
    if (found === "damaged") yield { type: "damaged", kind: "latents", name: item.id };
    if (found !== "sound" && !missing.has(key)) missing.set(key, item);
    yield { type: "looked", kind: "latents", done: ++seen, of: items.length };
  }
  await options.hashes.save();
  const reused = new Set(keys.values()).size - missing.size;
  yield { type: "cached", kind: "latents", done: 0, of: missing.size, reused, name: "" };
  if (missing.size === 0) return keys;
  using vae = options.openVae();
  let done = 0;
  for (const group of byFile([...missing.values()])) {
    for await (const { item, frames } of itemFrames(group, signal)) {
      const key = keys.get(item.id)!;
      const { width, height } = item.bucket;
      const tensors = {
        latents: await encodeClip(vae, pixelChunks(frames, width, height), item.bucket, signal),
        ...(hasPictureLatents(image) ? { condition: await firstFrameLatents(vae, image, frames, item, signal) } : {}),
      };
      await store.write("latents", key, tensors, dtype, facts.get(key)!);
      yield { type: "cached", kind: "latents", done: ++done, of: missing.size, reused, name: item.id };
    }
  }
  return keys;
}

/** Everything that decides an item's latents. */
async function latentFacts(item: DatasetItem, { hashes, vae, image }: LatentCacheOptions): Promise<KeyFacts> {
  const { crop, cut, rateChange, firstFrame, frames, bucket } = item;
  return {
    kind: "latents",
    version: VERSION,
    source: await sourceHash(item, hashes),
    ...(cut ? { cut } : {}),
    ...(rateChange ? { rateChange } : {}),
    firstFrame,
    frames,
    bucket,
    scaled: crop.scaled,
    offset: [crop.left, crop.top],
    vae: vae.hash,
    ...(vae.config ? { config: vae.config } : {}),
    computed: vae.dtype,
    condition: hasPictureLatents(image),
  };
}

/** The content of an item's file; of a folder of frames, the contents of all its pictures in their order. */
async function sourceHash({ file, frameFolder }: DatasetItem, hashes: HashCache): Promise<string[]> {
  const files = frameFolder
    ? (await listFolder(file)).filter(({ path }) => mediaKind(path) === "image").map(({ path }) => path)
    : [file];
  const found: string[] = [];
  for (const path of files) found.push(await finished(hashes.hash(path)));
  return found;
}

/** One frame, then four each, as [3, T, H, W] in −1…1. */
function* pixelChunks(frames: readonly Uint8Array[], width: number, height: number): Generator<Float32Array> {
  const plane = width * height;
  for (let start = 0; start < frames.length; start += start === 0 ? 1 : 4) {
    const chunk = frames.slice(start, start === 0 ? 1 : start + 4);
    const values = new Float32Array(3 * chunk.length * plane);
    for (const [t, frame] of chunk.entries()) {
      for (let c = 0; c < 3; c++) {
        const offset = (c * chunk.length + t) * plane;
        for (let i = 0; i < plane; i++) values[offset + i] = frame[i * 3 + c]! / 127.5 - 1;
      }
    }
    yield values;
  }
}

/** What an item's first frame is to the model, as a picture. */
function firstFrameLatents(
  vae: WanVae,
  image: ImageInput,
  frames: readonly Uint8Array[],
  { bucket: { width, height } }: DatasetItem,
  signal?: AbortSignal,
) {
  const [planes] = pixelChunks(frames.slice(0, 1), width, height);
  return pictureLatents(vae, image, { planes: planes!, width, height }, frames.length, signal);
}
