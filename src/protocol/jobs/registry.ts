// The jobs of the registry: what is published, which version is in production, and how that changes.
import { z } from "zod";
import {
  loraKindSchema,
  type RegistryVersion,
  registryEventSchema,
  roleNames,
  versionNameSchema,
  versionSchema,
} from "../registry.ts";
import { contract, noEvents } from "./contract.ts";

/** A folder, or `s3://BUCKET/PREFIX`. Default: the environment's KINORA_STORE. */
const store = z.string().min(1).optional();
/** `styles/acme/neon`. */
const address = z.string().min(1);
const why = z.string().max(4000).optional();
const roles = z.enum(roleNames);

const personSchema = z.object({
  who: z.string(),
  /** Absent for people whom the policy does not know. */
  role: roles.optional(),
});

/** The job that creates a registry. */
export const registryInitContract = contract({
  name: "registry-init",
  request: z.strictObject({ store }),
  event: noEvents,
  result: z.object({
    store: z.string(),
    /** False where one was there. */
    made: z.boolean(),
    person: personSchema,
  }),
});

/** The job that publishes a version, from a training run's folder or from LoRA files. */
export const registryPublishContract = contract({
  name: "registry-publish",
  request: z.strictObject({
    store,
    address,
    /** A run's folder, or LoRA files: one, or one for each expert. */
    files: z.array(z.string().min(1)).min(1).max(20),
    /** Of a run: `best` by held-out loss, `last`, or a step. Default: the last. */
    checkpoint: z.union([z.enum(["best", "last"]), z.int().positive()]).optional(),
    triggerWords: z.array(z.string().min(1).max(200)).max(50).optional(),
    /** What to load it with. Default 1. */
    strength: z.number().min(-10).max(10).optional(),
    description: z.string().max(10_000).optional(),
    licence: z.string().max(200).optional(),
    tags: z.array(z.string().min(1).max(100)).max(50).optional(),
    why,
  }),
  event: z.object({ type: z.literal("stored"), done: z.int(), of: z.int() }),
  result: z.object({
    store: z.string(),
    address: z.string(),
    version: versionNameSchema,
    manifest: versionSchema as z.ZodType<RegistryVersion, RegistryVersion>,
    notes: z.array(z.string()),
  }),
});

const trialSchema = z.object({ version: z.string(), share: z.number(), since: z.string() });

/** The job that lists what a registry has. */
export const registryListContract = contract({
  name: "registry-list",
  request: z.strictObject({ store, kind: loraKindSchema.optional() }),
  event: noEvents,
  result: z.object({
    store: z.string(),
    names: z.array(
      z.object({
        address: z.string(),
        versions: z.int(),
        latest: z.string(),
        current: z.string().optional(),
        trial: trialSchema.optional(),
        model: z.string().optional(),
        triggerWords: z.array(z.string()),
      }),
    ),
  }),
});

const statusSchema = z.enum(["published", "tested", "approved", "current", "trial", "deprecated"]);

/** The job that shows everything known of one LoRA. */
export const registryShowContract = contract({
  name: "registry-show",
  request: z.strictObject({ store, address }),
  event: noEvents,
  result: z.object({
    store: z.string(),
    address: z.string(),
    current: z.string().optional(),
    trial: trialSchema.optional(),
    versions: z.array(
      z.object({
        version: z.string(),
        status: statusSchema,
        publishedAt: z.string(),
        publishedBy: z.string(),
        manifest: versionSchema as z.ZodType<RegistryVersion, RegistryVersion>,
        tests: z.array(
          z.object({
            phase: z.int(),
            verdict: z.enum(["passed", "failed"]),
            at: z.string(),
            who: z.string(),
            scores: z.record(z.string(), z.number()).optional(),
          }),
        ),
        approvals: z.array(z.object({ who: z.string(), at: z.string(), why: z.string().optional() })),
        feedback: z.object({ good: z.int(), bad: z.int() }),
        tags: z.array(z.string()),
      }),
    ),
    /** Oldest first, with a sentence each. */
    events: z.array(z.object({ number: z.int(), at: z.string(), text: z.string(), event: registryEventSchema })),
  }),
});

const version = versionNameSchema;

/** The job that changes what is said of a version, by one event. */
export const registryChangeContract = contract({
  name: "registry-change",
  request: z.strictObject({
    store,
    address,
    change: z.discriminatedUnion("action", [
      z.strictObject({ action: z.literal("approve"), version, why }),
      z.strictObject({ action: z.literal("promote"), version, why, force: z.boolean().optional() }),
      /** `share` of the requests: above 0 and below 1. */
      z.strictObject({ action: z.literal("trial"), version, share: z.number(), why }),
      z.strictObject({ action: z.literal("end-trial"), why }),
      z.strictObject({ action: z.literal("deprecate"), version, replacedBy: version.optional(), why }),
      /** Without `to`: to the version that was current before. */
      z.strictObject({ action: z.literal("roll-back"), to: version.optional(), why }),
      z.strictObject({ action: z.literal("tag"), version, tags: z.array(z.string().min(1).max(100)).max(50) }),
      z.strictObject({
        action: z.literal("note"),
        version: version.optional(),
        text: z.string().min(1).max(20_000),
      }),
      z.strictObject({
        action: z.literal("feedback"),
        version,
        verdict: z.enum(["good", "bad"]),
        note: z.string().max(4000).optional(),
      }),
    ]),
  }),
  event: noEvents,
  result: z.object({
    store: z.string(),
    address: z.string(),
    current: z.string().optional(),
    trial: trialSchema.optional(),
    /** What was written into the log, as sentences; empty where everything was so already. */
    written: z.array(z.string()),
  }),
});

/** The job that says which version a reference means. */
export const registryResolveContract = contract({
  name: "registry-resolve",
  request: z.strictObject({
    store,
    /** With a version or an alias: `styles/acme/neon@v2`, `…@current`. */
    reference: z.string().min(1),
    /** A request's own key, which a running trial decides by. */
    request: z.string().optional(),
  }),
  event: noEvents,
  result: z.object({
    store: z.string(),
    address: z.string(),
    version: z.string(),
    by: z.enum(["version", "current", "trial"]),
    strength: z.number(),
    triggerWords: z.array(z.string()),
    files: versionSchema.shape.files,
  }),
});

/** The job that says what differs between two versions. */
export const registryDiffContract = contract({
  name: "registry-diff",
  request: z.strictObject({ store, address, before: version, after: version }),
  event: noEvents,
  result: z.object({ address: z.string(), before: z.string(), after: z.string(), differences: z.array(z.string()) }),
});

/** The job that reads everything in a registry and checks it. */
export const registryVerifyContract = contract({
  name: "registry-verify",
  request: z.strictObject({ store }),
  event: z.object({ type: z.literal("verified"), done: z.int(), of: z.int() }),
  result: z.object({
    store: z.string(),
    names: z.int(),
    events: z.int(),
    objects: z.int(),
    bytes: z.number(),
    /** One line each; empty for an intact store. */
    problems: z.array(z.string()),
  }),
});

/** The job that removes objects which nothing refers to. */
export const registryCollectContract = contract({
  name: "registry-gc",
  request: z.strictObject({ store, dryRun: z.boolean().optional() }),
  event: noEvents,
  result: z.object({
    store: z.string(),
    removed: z.int(),
    bytes: z.number(),
    /** Unused, but younger than a day: a version may just be coming to be. */
    kept: z.int(),
  }),
});

/** The job that lays a registry out as files, for ComfyUI's models/loras or a network share. */
export const registryExportContract = contract({
  name: "registry-export",
  request: z.strictObject({
    store,
    out: z.string().min(1),
    kind: loraKindSchema.optional(),
    /** `all` versions that are not deprecated, or what is in production. Default `all`. */
    versions: z.enum(["all", "current"]).optional(),
  }),
  event: z.object({ type: z.literal("deployed"), file: z.string(), written: z.boolean() }),
  result: z.object({ store: z.string(), out: z.string(), files: z.int(), written: z.int() }),
});

/** The job that writes the training notes of a LoRA, or the changelog of the whole store, in Markdown. */
export const registryNotesContract = contract({
  name: "registry-notes",
  request: z.strictObject({
    store,
    /** Without it: the changelog of the store. */
    address: address.optional(),
  }),
  event: noEvents,
  result: z.object({ markdown: z.string() }),
});

/** The job that shows and changes who may do what. */
export const registryPeopleContract = contract({
  name: "registry-people",
  request: z.strictObject({
    store,
    /** Roles to give; null takes a person's away. */
    set: z.record(z.string().min(1).max(200), roles.nullable()).optional(),
    /** The role of people who are not listed. */
    others: z.enum([...roleNames, "none"]).optional(),
  }),
  event: noEvents,
  result: z.object({
    store: z.string(),
    person: personSchema,
    people: z.record(z.string(), roles),
    others: z.enum([...roleNames, "none"]),
    /** Whether there is a policy; without one everybody is an admin. */
    policy: z.boolean(),
  }),
});

/** The job that passes on what somebody thinks of a film, to the versions that its recipe names. */
export const registryFeedbackContract = contract({
  name: "registry-feedback",
  request: z.strictObject({
    store,
    /** A film that was made with a LoRA of the registry. */
    film: z.string().min(1),
    verdict: z.enum(["good", "bad"]),
    note: z.string().max(4000).optional(),
  }),
  event: noEvents,
  result: z.object({ store: z.string(), versions: z.array(z.object({ address: z.string(), version: z.string() })) }),
});

/** The job that sums up how versions fared in a month. */
export const registryReviewContract = contract({
  name: "registry-review",
  request: z.strictObject({
    store,
    /** `2026-11`. Default: this month. */
    month: z
      .string()
      .regex(/^\d{4}-(?:0[1-9]|1[0-2])$/, "a month such as 2026-11")
      .optional(),
  }),
  event: noEvents,
  result: z.object({
    store: z.string(),
    month: z.string(),
    versions: z.array(
      z.object({
        address: z.string(),
        version: z.string(),
        status: statusSchema,
        generations: z.int(),
        errors: z.int(),
        /** Medians. */
        seconds: z.number().optional(),
        peakBytes: z.number().optional(),
        /** Seconds of a step and a million pixels. */
        cost: z.number().optional(),
        feedback: z.object({ good: z.int(), bad: z.int() }),
        trend: z.enum(["better", "worse", "same"]).optional(),
        /** Why it needs a look. */
        concerns: z.array(z.string()),
      }),
    ),
    prometheus: z.string(),
    /** The same as a page. */
    html: z.string(),
  }),
});
