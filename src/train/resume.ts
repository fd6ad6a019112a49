// What must not change between a run and its continuation: everything that decides the numbers of a step.
import type { CachedData } from "./data.ts";
import type { TrainSettings } from "./settings.ts";
import { fingerprint } from "./state.ts";

/** By setting, as text. How long to train, what to write and what to look at may change. */
export function fixedFacts(settings: TrainSettings, data: Pick<CachedData, "identity">): Record<string, string> {
  const { kind, seed, model, base, dtype, lora, experts, time, optimizer, schedule } = settings;
  const facts: Record<string, unknown> = {
    train: kind,
    seed: String(seed),
    "model.name": model.name,
    "model.base": base,
    "products in": dtype,
    "model.checkpointing": settings.checkpointing,
    ...(kind === "lora" ? { lora } : {}),
    experts,
    time,
    "conditioning.caption_dropout": settings.captionDropout,
    "conditioning.first_frame": settings.firstFrame,
    optimizer,
    schedule,
    "validation.hold_out": settings.validation.holdOut,
    batch_size: settings.dataset.datasets.map(({ batchSize }) => batchSize),
    "dataset (files, captions, cuts, autoencoder, text encoder)": fingerprint(data.identity()),
  };
  const plain = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));
  return Object.fromEntries(Object.entries(facts).map(([key, value]) => [key, plain(value)]));
}
