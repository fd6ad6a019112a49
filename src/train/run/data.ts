// What a run trains on: the dataset laid out, some files held out, latents and texts cached. No transformer here.

import { KinoraError } from "../../base/errors.ts";
import { mapped } from "../../base/generators.ts";
import type { CacheEvent } from "../../cache/events.ts";
import { cacheLatents } from "../../cache/latents.ts";
import { type CacheKey, CacheStore } from "../../cache/store.ts";
import { cacheTexts } from "../../cache/texts.ts";
import { type DatasetPlan, type PlanEvent, planDataset } from "../../dataset/dataset-plan.ts";
import type { DatasetItem } from "../../dataset/items.ts";
import { probeMedia } from "../../dataset/probe.ts";
import { trainingRefusals } from "../../dataset/refusals.ts";
import type { Device } from "../../device/device.ts";
import type { ContentHash, HashCache, HashProgress } from "../../io/content-hash.ts";
import { spellingKey } from "../../io/disk-names.ts";
import type { CheckpointSearch } from "../../models/wan/checkpoint-files.ts";
import { loadTextEncoder, loadVae } from "../../models/wan/load.ts";
import { openTokenizer, tokenizerFile } from "../../models/wan/prompt.ts";
import type { Expert } from "../../models/wan/recognize.ts";
import { vaeConfigPath } from "../../models/wan/vae/statistics.ts";
import type { HostTensor } from "../../tensor/host-tensor.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { TrainSettings } from "../config/settings.ts";
import { drawSeed } from "../step/draws.ts";
import { captionTexts } from "./texts.ts";

export type DataEvent =
  | { type: "dataset"; event: PlanEvent }
  | ({ type: "hashing" } & HashProgress)
  | { type: "cache"; event: CacheEvent };

/** Items of an epoch and those that never train. */
export interface SplitItems {
  train: DatasetItem[];
  heldOut: DatasetItem[];
}

/**
 * Lays out the dataset and checks that it can train.
 * @throws KinoraError `dataset.*`, `train.no-items`, `train.no-captions`, `train.hold-out`.
 */
export async function* planItems(
  settings: Pick<TrainSettings, "dataset" | "model" | "validation" | "seed">,
  signal?: AbortSignal,
): AsyncGenerator<DataEvent, { plan: DatasetPlan; items: SplitItems }> {
  const plan = yield* mapped(
    planDataset(settings.dataset, probeMedia, { model: settings.model.name, ...(signal ? { signal } : {}) }),
    (event): DataEvent => ({ type: "dataset", event }),
  );
  for (const refusal of trainingRefusals(plan)) throw refusal;
  return { plan, items: splitItems(plan.items, settings.validation.holdOut, settings.seed) };
}

/** Holds out whole files, so that no part of a held-out clip trains; which ones follows from the seed and their names. */
export function splitItems(items: readonly DatasetItem[], holdOut: number, seed: bigint): SplitItems {
  // A set that moved between systems may have its names spelled otherwise: the same files are held out.
  const files = [...new Set(items.map(({ file }) => file))].sort((a, b) => (spellingKey(a) < spellingKey(b) ? -1 : 1));
  const count = holdOut < 1 ? Math.ceil(files.length * holdOut) : holdOut;
  if (count === 0) return { train: [...items], heldOut: [] };
  if (count >= files.length) {
    throw new KinoraError("train.hold-out", "holding out that many files leaves nothing to train on", {
      expected: `fewer than ${files.length}`,
      actual: `${count}`,
      hint: "lower validation.hold_out",
    });
  }
  const rank = new Map(files.map((file, i) => [file, drawSeed(seed, "holdOut", i)]));
  const chosen = new Set([...files].sort((a, b) => (rank.get(a)! < rank.get(b)! ? -1 : 1)).slice(0, count));
  return {
    train: items.filter(({ file }) => !chosen.has(file)),
    // Each once: repeats say how often to train.
    heldOut: items.filter(({ file }) => chosen.has(file)).map((item) => ({ ...item, repeats: 1 })),
  };
}

/** Everything cached, by item and by text. */
export class CachedData {
  readonly #store: CacheStore;
  readonly #latents: ReadonlyMap<string, CacheKey>;
  readonly #texts: ReadonlyMap<string, CacheKey>;
  /** Those of `texts` that train; the others are of previews. */
  readonly #captions: readonly string[];

  constructor(
    store: CacheStore,
    latents: ReadonlyMap<string, CacheKey>,
    texts: ReadonlyMap<string, CacheKey>,
    captions: readonly string[],
  ) {
    this.#store = store;
    this.#latents = latents;
    this.#texts = texts;
    this.#captions = captions;
  }

  /** float32 [C, F, h, w] in the current scope; with image-to-video models also the latents of the condition. */
  latents(device: Device, item: DatasetItem, condition: boolean): { latents: Tensor; condition?: Tensor } {
    const names = condition ? ["latents", "condition"] : ["latents"];
    const [latents, extra] = this.#store.load(device, "latents", this.#latents.get(item.id)!, names);
    return { latents: latents!, ...(extra ? { condition: extra } : {}) };
  }

  /** [tokens, textDim] on the host. Throws where the text was not announced. */
  text(text: string): HostTensor {
    return this.#store.read("texts", this.#textKey(text), ["embedding"])[0]!;
  }

  /** The same on a device, float32 in the current scope. */
  textTensor(device: Device, text: string): Tensor {
    return this.#store.load(device, "texts", this.#textKey(text), ["embedding"])[0]!;
  }

  #textKey(text: string): CacheKey {
    const key = this.#texts.get(text);
    if (key !== undefined) return key;
    throw new KinoraError("cache.unknown-text", `the text was not encoded: ${text.slice(0, 60)}`);
  }

  /** Every key of what trains, for telling two datasets apart. */
  identity(): string[] {
    const captions = new Set(this.#captions.map((text) => this.#texts.get(text)!));
    return [...this.#latents].map(([id, key]) => `${id} ${key}`).concat([...captions].sort());
  }
}

export interface CacheOptions {
  device: Device;
  hashes: HashCache;
  files: CheckpointSearch;
  /** Texts beside the captions: prompts of previews. */
  texts: readonly string[];
  signal?: AbortSignal;
}

/** The content hash of each transformer that trains. */
export async function* hashExperts(
  settings: Pick<TrainSettings, "experts">,
  { hashes, files, signal }: Pick<CacheOptions, "hashes" | "files" | "signal">,
): AsyncGenerator<DataEvent, Partial<Record<Expert, ContentHash>>> {
  const found: Partial<Record<Expert, ContentHash>> = {};
  for (const expert of settings.experts.train) found[expert] = yield* hashing(hashes, files.file(expert), signal);
  return found;
}

/** Builds what is missing in the caches. The autoencoder and the text encoder are in memory one after the other. */
export async function* buildCaches(
  settings: TrainSettings,
  { train, heldOut }: SplitItems,
  { device, hashes, files, texts, signal }: CacheOptions,
): AsyncGenerator<DataEvent, CachedData> {
  const store = new CacheStore(settings.cache);
  await store.sweep();
  const [vae, encoder] = [files.file("vae"), files.file("textEncoder")];
  const tokenizer = await tokenizerFile(files.file("tokenizer"));
  const hash: ContentHash[] = [];
  for (const path of [vae, encoder, tokenizer]) hash.push(yield* hashing(hashes, path, signal));
  const vaeConfig = vaeConfigPath(vae);
  const config = vaeConfig === undefined ? undefined : yield* hashing(hashes, vaeConfig, signal);
  const abort = signal ? { signal } : {};
  const items = [...train, ...heldOut];
  const latents = yield* wrapped(
    cacheLatents(items, {
      store,
      hashes,
      vae: { hash: hash[0]!, ...(config ? { config } : {}), dtype: settings.vaeDtype },
      openVae: () => loadVae(device, vae, { dtype: settings.vaeDtype, half: "encoder" }),
      image: settings.model.image,
      ...abort,
    }),
  );
  const captions = captionTexts(settings, items);
  const embedded = yield* wrapped(
    cacheTexts([...captions, ...texts], {
      store,
      encoder: { hash: hash[1]!, dtype: settings.textDtype },
      tokenizer: { hash: hash[2]!, open: () => openTokenizer(tokenizer) },
      openEncoder: () => loadTextEncoder(device, encoder, { dtype: settings.textDtype }),
      length: settings.model.dit.textLength,
      ...abort,
    }),
  );
  return new CachedData(store, latents, embedded, captions);
}

export const hashing = (
  hashes: HashCache,
  path: string,
  signal?: AbortSignal,
  how?: "anew",
): AsyncGenerator<DataEvent, ContentHash> =>
  mapped(hashes.hash(path, how), (progress): DataEvent => {
    signal?.throwIfAborted();
    return { type: "hashing", ...progress };
  });

const wrapped = <T>(run: AsyncGenerator<CacheEvent, T>): AsyncGenerator<DataEvent, T> =>
  mapped(run, (event): DataEvent => ({ type: "cache", event }));
