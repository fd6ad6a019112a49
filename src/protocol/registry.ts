// What a registry keeps: versions, which never change, and the log of what happened to them, which only grows.
// Words as MLflow and Civitai users know them: version, alias, tag, trigger words, strength, AutoV2 hash.
import { z } from "zod";
import { modelNameSchema } from "./model-media.ts";

/** Raised when an older Kinora would misread a store. */
export const registryFormat = 1;

export const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/, "a SHA-256 in lower-case hexadecimal");

/** What a LoRA teaches; the folder of the same name holds it. */
export const loraKinds = { character: "characters", style: "styles", motion: "motion", domain: "domain" } as const;
export type LoraKind = keyof typeof loraKinds;
export const loraKindSchema = z.enum(Object.keys(loraKinds) as [LoraKind, ...LoraKind[]]);

/** `v1`, `v2`, …: given by the registry in the order of publication. */
export const versionNameSchema = z.string().regex(/^v[1-9]\d{0,8}$/, "a version such as v2");

/** Names that move from version to version. */
export const aliasNames = ["current", "trial"] as const;
export type AliasName = (typeof aliasNames)[number];

export const storeSchema = z.strictObject({
  kind: z.literal("kinora.registry"),
  format: z.int(),
  created: z.iso.datetime(),
});

/** A file of a version. `path` is its name when it is laid out; its content is an object of the store. */
export const versionFileSchema = z.strictObject({
  path: z.string().min(1).max(200),
  role: z.enum(["lora", "preview", "run-log", "config", "dataset", "notes"]),
  /** LoRAs of models with two experts. */
  expert: z.enum(["high", "low", "both"]).optional(),
  bytes: z.int().nonnegative(),
  sha256: sha256Schema,
  /** The first ten digits of the SHA-256, as Civitai shows them. */
  autoV2: z.string().optional(),
});
export type VersionFile = z.infer<typeof versionFileSchema>;

const facts = z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]));

export const datasetFactsSchema = z.strictObject({
  items: z.int().nonnegative(),
  videos: z.int().nonnegative(),
  images: z.int().nonnegative(),
  /** Of the manifest or of the list of files, so that two versions can be compared. */
  sha256: sha256Schema.optional(),
  buckets: z.array(z.string()).default([]),
});
export type DatasetFacts = z.infer<typeof datasetFactsSchema>;

export const versionSchema = z.strictObject({
  kind: z.literal("kinora.registry.version"),
  format: z.literal(registryFormat),
  address: z.string(),
  version: versionNameSchema,
  published: z.iso.datetime(),
  /** The model it was trained for; absent where the file does not tell. */
  model: modelNameSchema.optional(),
  files: z.array(versionFileSchema).min(1),
  triggerWords: z.array(z.string()).default([]),
  /** What to load it with. */
  strength: z.number().default(1),
  description: z.string().default(""),
  licence: z.string().optional(),
  /** Content hashes of the weights it was trained on, by name. */
  base: z.record(z.string(), z.string()).default({}),
  /** Rank, learning rate, steps …, as the run or the file's metadata tells. */
  hyperparameters: facts.default({}),
  dataset: datasetFactsSchema.optional(),
  /** Held-out loss, seconds a step …, as measured. */
  results: facts.default({}),
  tags: z.array(z.string()).default([]),
});
export type RegistryVersion = z.infer<typeof versionSchema>;

const version = versionNameSchema;
const share = z.number().gt(0).lt(1);

export const happeningSchema = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("published"), version, manifest: sha256Schema }),
  z.strictObject({
    type: z.literal("tested"),
    version,
    phase: z.union([z.literal(1), z.literal(2), z.literal(3)]),
    verdict: z.enum(["passed", "failed"]),
    report: sha256Schema.optional(),
    scores: z.record(z.string(), z.number()).optional(),
  }),
  z.strictObject({ type: z.literal("approved"), version }),
  z.strictObject({ type: z.literal("promoted"), version, forced: z.boolean().optional() }),
  z.strictObject({ type: z.literal("trial-started"), version, share }),
  z.strictObject({ type: z.literal("share-changed"), version, share }),
  z.strictObject({ type: z.literal("trial-ended"), version }),
  z.strictObject({ type: z.literal("deprecated"), version, replacedBy: version.optional() }),
  z.strictObject({ type: z.literal("rolled-back"), from: version, to: version }),
  z.strictObject({
    type: z.literal("feedback"),
    version,
    verdict: z.enum(["good", "bad"]),
    film: sha256Schema.optional(),
    note: z.string().max(4000).optional(),
  }),
  z.strictObject({ type: z.literal("tagged"), version, tags: z.array(z.string().max(100)).max(50) }),
  z.strictObject({ type: z.literal("note"), version: version.optional(), text: z.string().min(1).max(20_000) }),
]);
export type Happening = z.infer<typeof happeningSchema>;

export const registryEventSchema = z.strictObject({
  kind: z.literal("kinora.registry.event"),
  format: z.literal(registryFormat),
  /** From 1, without gaps. */
  number: z.int().positive(),
  /** Drawn for each event, so that no two are alike. */
  id: z.string().regex(/^[0-9a-f]{16}$/),
  /** SHA-256 of the event before it; null for the first. */
  previous: sha256Schema.nullable(),
  at: z.iso.datetime(),
  who: z.string().min(1).max(200),
  role: z.string().optional(),
  why: z.string().max(4000).optional(),
  what: happeningSchema,
});
export type RegistryEvent = z.infer<typeof registryEventSchema>;

/** Where a log ends, written after each event: what is missing at a log's end is found by it. */
export const headSchema = z.strictObject({ number: z.int().positive(), sha256: sha256Schema });

export const roleNames = ["trainer", "production", "admin"] as const;
export type RoleName = (typeof roleNames)[number];

/** Who may do what, on a bare store: a file beside the logs, which show who did what. */
export const policySchema = z.strictObject({
  kind: z.literal("kinora.registry.policy"),
  people: z.record(z.string(), z.enum(roleNames)),
  /** Of people who are not named. Without a policy everybody is an admin. */
  others: z.enum([...roleNames, "none"]).default("none"),
});
export type RegistryPolicy = z.infer<typeof policySchema>;

/** One generation with a version: how it went, and nothing of what it shows. */
export const useRecordSchema = z.strictObject({
  kind: z.literal("kinora.registry.record"),
  format: z.literal(registryFormat),
  at: z.iso.datetime(),
  who: z.string().max(200),
  address: z.string(),
  version,
  /** How the version was chosen. */
  by: z.enum(["version", "current", "trial"]),
  strength: z.number(),
  task: modelNameSchema,
  width: z.int().positive(),
  height: z.int().positive(),
  frames: z.int().positive(),
  steps: z.int().positive(),
  device: z.string().max(100),
  /** Absent where it failed. */
  seconds: z.number().optional(),
  peakBytes: z.number().optional(),
  /** The code of what it failed with. */
  error: z.string().max(200).optional(),
});
export type UseRecord = z.infer<typeof useRecordSchema>;
