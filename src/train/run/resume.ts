// What must not change between a run and its continuation: everything that decides the numbers of a step.
import { createHash } from "node:crypto";
import { KinoraError } from "../../base/errors.ts";
import type { ContentHash } from "../../io/content-hash.ts";
import type { CheckpointSearch } from "../../models/wan/checkpoint-files.ts";
import type { Expert } from "../../models/wan/recognize.ts";
import type { Choice } from "../choices.ts";
import type { TrainSettings } from "../config/settings.ts";
import type { CachedData } from "./data.ts";

/** A choice with its settings beside it. */
const told = ({ settings, ...choice }: Choice) => ({ ...choice, ...settings });

/** Without what is off, so that runs of versions that did not have it go on. */
const toldLora = ({ rslora, plus_ratio, ...lora }: TrainSettings["lora"]) => ({
  ...lora,
  ...(rslora ? { rslora } : {}),
  ...(plus_ratio === 1 ? {} : { plus_ratio }),
});

/** By setting, as text. How long to train, what to write and what to look at may change. */
export function fixedSettings(settings: TrainSettings): Record<string, string> {
  const { kind, seed, model, base, dtype, lora, experts, time, objective, optimizer, schedule } = settings;
  const { loss, weighting } = objective;
  const facts: Record<string, unknown> = {
    train: kind,
    seed: String(seed),
    "model.name": model.name,
    "model.base": base,
    ...(settings.boundary === undefined ? {} : { "the boundary of the experts": settings.boundary }),
    "products in": dtype,
    "model.recompute": settings.recompute,
    ...(kind === "lora" ? { lora: toldLora(lora) } : {}),
    experts,
    time: told(time),
    loss: { ...told(loss), weighting: weighting.kind, ...weighting.settings },
    "conditioning.caption_dropout": settings.captionDropout,
    "conditioning.first_frame": settings.firstFrame,
    optimizer: told(optimizer),
    ...(settings.ema ? { ema: settings.ema } : {}),
    schedule: told(schedule),
    "validation.hold_out": settings.validation.holdOut,
    batch_size: settings.dataset.datasets.map(({ batchSize }) => batchSize),
    num_repeats: settings.dataset.datasets.map(({ repeats }) => repeats),
  };
  const plain = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));
  return Object.fromEntries(Object.entries(facts).map(([key, value]) => [key, plain(value)]));
}

/** The content of the transformers that train, by their names: a LoRA goes on on the weights that it began on. */
export function fixedExperts(
  files: CheckpointSearch,
  hashes: Readonly<Partial<Record<Expert, ContentHash>>>,
): Record<string, string> {
  const entries = Object.entries(hashes) as [Expert, ContentHash][];
  return Object.fromEntries(entries.map(([expert, hash]) => [`${files.nameOf(expert)} (content)`, hash.slice(0, 16)]));
}

/** The data, which are known once everything is cached. */
export function fixedDataset(data: Pick<CachedData, "identity">): Record<string, string> {
  const identity = createHash("sha256").update(JSON.stringify(data.identity())).digest("hex");
  return { "dataset (files, captions, cuts, autoencoder, text encoder)": identity.slice(0, 16) };
}

/** The inner settings that differ in two tables written as JSON; the whole where they are no tables. */
function differences(key: string, before: string | undefined, now: string | undefined): string[] {
  const [was, is] = [before, now].map((text) => {
    try {
      const value: unknown = JSON.parse(text ?? "");
      return typeof value === "object" && value !== null ? new Map(Object.entries(value)) : undefined;
    } catch {
      return undefined;
    }
  });
  if (!was || !is) return [`${key} was ${before ?? "absent"}, is ${now ?? "absent"}`];
  const show = (value: unknown) => (value === undefined ? "the default" : JSON.stringify(value));
  return [...new Set([...was.keys(), ...is.keys()])]
    .filter((inner) => JSON.stringify(was.get(inner)) !== JSON.stringify(is.get(inner)))
    .map((inner) => `${key}.${inner} was ${show(was.get(inner))}, is ${show(is.get(inner))}`);
}

/**
 * Throws `train.other-config`, naming what differs between a run and what would go on with it; only what `now` names is
 * compared.
 */
export function checkFixed(before: Readonly<Record<string, string>>, now: Readonly<Record<string, string>>): void {
  const shown = Object.keys(now)
    .filter((key) => before[key] !== now[key])
    .flatMap((key) => differences(key, before[key], now[key]));
  if (shown.length === 0) return;
  throw new KinoraError("train.other-config", "this folder contains a run with other settings", {
    actual: shown.slice(0, 5).join("; ") + (shown.length > 5 ? `; and ${shown.length - 5} more` : ""),
    hint: "choose another output for the new settings, or restore the old ones to resume",
  });
}
