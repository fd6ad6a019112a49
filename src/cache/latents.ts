// The latents of every dataset item, encoded once for all runs. Float32 means of the autoencoder, normalised as the
// diffusion models see them; for image-to-video the condition beside them.
import { finished } from "../base/generators.ts";
import type { DatasetItem } from "../dataset/items.ts";
import { listFolder, mediaKind } from "../dataset/media-files.ts";
import type { ContentHash, HashCache } from "../io/content-hash.ts";
import type { WanVae } from "../models/wan/vae/vae.ts";
import { openScope } from "../tensor/scope.ts";
import { fromValues } from "../tensor/tensor.ts";
import type { CacheEvent } from "./events.ts";
import { byFile, itemFrames } from "./frames.ts";
import { type CachedTensor, type CacheKey, type CacheStore, cacheKey, type KeyFacts } from "./store.ts";

export interface LatentCacheOptions {
  store: CacheStore;
  hashes: HashCache;
  /** The content of the autoencoder, and what its layers compute in. */
  vae: { hash: ContentHash; dtype: "f32" | "bf16" };
  /** Opened where something is missing; disposed of at the end. */
  openVae: () => WanVae;
  /** Image-to-video: also the latents of (first frame, then grey frames). */
  condition: boolean;
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
  const { store, signal, dtype = "f32" } = options;
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
    if (!missing.has(key) && !store.has("latents", key)) missing.set(key, item);
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
      const tensors = { latents: await encodeFrames(vae, frames, item, signal) };
      const condition = options.condition ? await encodeCondition(vae, frames, item, signal) : undefined;
      await store.write("latents", key, { ...tensors, ...(condition ? { condition } : {}) }, dtype, facts.get(key)!);
      yield { type: "cached", kind: "latents", done: ++done, of: missing.size, reused, name: item.id };
    }
  }
  return keys;
}

/** Everything that decides an item's latents. */
async function latentFacts(item: DatasetItem, { hashes, vae, condition }: LatentCacheOptions): Promise<KeyFacts> {
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
    computed: vae.dtype,
    condition,
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

/** float32 [C, F, h, w]. Memory does not grow with the clip's length. */
async function encodeChunks(
  vae: WanVae,
  chunks: Iterable<Float32Array>,
  { bucket }: DatasetItem,
  signal: AbortSignal | undefined,
): Promise<CachedTensor> {
  const { width, height } = bucket;
  const parts: CachedTensor[] = [];
  using stream = vae.encoder({ width, height });
  for (const values of chunks) {
    signal?.throwIfAborted();
    using _scope = openScope(vae.device);
    const count = values.length / (3 * width * height);
    const latents = stream.push(fromValues(vae.device, values, [3, count, height, width]));
    parts.push({ values: await latents.read(), shape: latents.shape });
  }
  return joinFrames(parts);
}

const encodeFrames = (vae: WanVae, frames: readonly Uint8Array[], item: DatasetItem, signal?: AbortSignal) =>
  encodeChunks(vae, pixelChunks(frames, item.bucket.width, item.bucket.height), item, signal);

/** The first frame, then grey ones: what image-to-video gives the model beside the noise. */
function encodeCondition(vae: WanVae, frames: readonly Uint8Array[], item: DatasetItem, signal?: AbortSignal) {
  const { width, height } = item.bucket;
  function* chunks(): Generator<Float32Array> {
    yield* pixelChunks(frames.slice(0, 1), width, height);
    for (let start = 1; start < frames.length; start += 4) yield new Float32Array(3 * 4 * width * height);
  }
  return encodeChunks(vae, chunks(), item, signal);
}

/** [C, t, h, w] parts one behind the other. */
function joinFrames(parts: readonly CachedTensor[]): CachedTensor {
  const [channels, , height, width] = parts[0]!.shape as [number, number, number, number];
  const frames = parts.reduce((sum, { shape }) => sum + shape[1]!, 0);
  const plane = height * width;
  const values = new Float32Array(channels * frames * plane);
  let at = 0;
  for (const part of parts) {
    const count = part.shape[1]! * plane;
    for (let c = 0; c < channels; c++)
      values.set(part.values.subarray(c * count, (c + 1) * count), (c * frames + at) * plane);
    at += part.shape[1]!;
  }
  return { values, shape: [channels, frames, height, width] };
}
