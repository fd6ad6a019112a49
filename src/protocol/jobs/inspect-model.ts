// The jobs that say what weight files are, and write LoRAs under other tools' names.
import { z } from "zod";
import { requestPath as path } from "../config-values.ts";
import { type LoraKeys, loraKeys } from "../train-config.ts";
import { contract, noEvents, requestOf } from "./contract.ts";
import { errorDataSchema } from "./error.ts";

const names = z.array(z.string()).readonly();
const numbers = z.array(z.number()).readonly();
/** How often each of something is there. */
const tally = z.record(z.string(), z.int());
const expert = z.enum(["high", "low"]);

const namedTensor = z.object({ name: z.string(), nearest: z.string().optional() });

const networkSchema = z.object({
  kind: z.string(),
  /** A line for a person. */
  label: z.string(),
  /** What could not be determined and was assumed. */
  notes: names,
  config: z.record(z.string(), z.json()),
  /** The published models of these sizes. */
  models: names.optional(),
  expert: expert.optional(),
  variant: z.string().optional(),
  layout: z.string(),
  prefix: z.string(),
  /** Scales not counted. */
  parameters: z.number(),
  quantized: tally,
  complete: z.boolean(),
  problems: z.object({
    missing: z.array(namedTensor).readonly(),
    unexpected: z.array(namedTensor).readonly(),
    wrongShape: z.array(z.object({ name: z.string(), expected: numbers, actual: numbers })).readonly(),
    wrongDtype: z.array(z.object({ name: z.string(), dtype: z.string() })).readonly(),
  }),
  /** Tensors that were left out, by reason. */
  ignored: tally,
});

/** What a LoRA file's names, shapes and scalars say. */
export const loraSchema = z.object({
  kind: z.literal("lora"),
  label: z.string(),
  formats: names,
  modules: z
    .array(
      z.object({
        /** The official name of what it stands on. */
        module: z.string(),
        kind: z.string(),
        format: z.string(),
        rank: z.number().optional(),
        alpha: z.number().optional(),
        expert: expert.optional(),
        tensors: names,
      }),
    )
    .readonly(),
  kinds: tally,
  ranks: numbers,
  alphas: numbers,
  /** α/rank. */
  scales: numbers,
  hasAlpha: z.boolean(),
  /** Tensors of kinds that are not applied. */
  others: tally,
  unmatched: z.array(z.object({ name: z.string(), why: z.string() })).readonly(),
  refused: z
    .array(
      z.object({
        names,
        module: z.string(),
        why: z.string(),
        expected: z.string().optional(),
        actual: z.string().optional(),
      }),
    )
    .readonly(),
  /** Models that it fits, the likeliest first. */
  models: names,
  expert: expert.optional(),
  bothExperts: z.boolean(),
  /** ComfyUI reads every name. */
  comfy: z.boolean(),
  notes: names,
});

/** What one of Kinora's own files is, in words. */
const ownSchema = z.object({
  what: z.string(),
  facts: z.array(z.tuple([z.string(), z.string()]).readonly()).readonly(),
});

const fileSchema = z.object({
  path: z.string(),
  /** Within the folder that was asked for. */
  name: z.string(),
  format: z.string(),
  tensors: z.int(),
  bytes: z.number(),
  /** Elements of each. */
  dtypes: z.record(z.string(), z.number()),
  metadata: z.record(z.string(), z.string()),
  networks: z.array(networkSchema),
  lora: loraSchema.optional(),
  own: ownSchema.optional(),
  /** What kept a network from being recognised. */
  failures: names,
  /** Which values were looked at. */
  scan: z.enum(["all", "sample", "none"]),
  nonFinite: z.array(
    z.object({ name: z.string(), nan: z.number(), infinite: z.number(), checked: z.number(), total: z.number() }),
  ),
  /** Every tensor, where asked for. */
  names: z.array(z.object({ name: z.string(), dtype: z.string(), shape: numbers })).optional(),
});
export type InspectedFile = z.infer<typeof fileSchema>;

/** Weights to look at. */
export interface InspectModelRequest {
  /** A weight file, or a folder of them. */
  path: string;
  /** Look for values that are not finite. Default: all up to 2 GiB, a sample of larger files. */
  scan?: "all" | "sample" | "none" | undefined;
  /** List every tensor. */
  names?: boolean | undefined;
}

/** A LoRA to write under another tool's names. */
export interface ConvertLoraRequest {
  path: string;
  /** Whose names to write. */
  to: LoraKeys;
  /** Default: the file's name with the form behind it. */
  out?: string | undefined;
  /** Default: the file's own. */
  dtype?: "f32" | "bf16" | "f16" | undefined;
  /** Replace the file at `out`. */
  overwrite?: boolean | undefined;
  /** Patterns of official module names: what they match is left out. */
  exclude?: string[] | undefined;
  /** Of a file that holds one for each, the one to write. */
  expert?: "high" | "low" | undefined;
}

/** The job that says what weight files are. */
export const inspectModelContract = contract({
  name: "inspect-model",
  request: requestOf<InspectModelRequest>()(
    z.strictObject({
      path,
      scan: z.enum(["all", "sample", "none"]).optional(),
      names: z.boolean().optional(),
    }),
  ),
  event: z.object({ type: z.literal("scanning"), path: z.string(), bytesDone: z.number(), bytesTotal: z.number() }),
  result: z.object({
    files: z.array(
      z.union([
        fileSchema,
        /** One of Kinora's own JSON files. */
        z.object({ path: z.string(), name: z.string(), own: ownSchema }),
        /** One of several that cannot be read. */
        z.object({ path: z.string(), name: z.string(), error: errorDataSchema }),
      ]),
    ),
  }),
});

/** The job that describes a LoRA. */
export const inspectLoraContract = contract({
  name: "inspect-lora",
  request: z.strictObject({ path }),
  event: noEvents,
  result: z.object({
    path: z.string(),
    lora: loraSchema,
    dtypes: names,
    /** Of its values in float32. */
    bytes: z.number(),
    groups: z
      .array(
        z.object({
          /** What its modules stand on, e.g. `self_attn`. */
          name: z.string(),
          modules: z.int(),
          kinds: names,
          ranks: numbers,
          alphas: numbers,
          scales: numbers,
          /** The mean size of what its modules add; null where values are not finite. */
          strength: z.number().nullable(),
        }),
      )
      .readonly(),
    /** Modules that change nothing. */
    idle: z.int(),
    /** Modules with values that are not finite. */
    broken: names,
    notes: names,
    metadata: z.record(z.string(), z.string()),
  }),
});

/** The job that writes a LoRA under another tool's names. */
export const convertLoraContract = contract({
  name: "convert-lora",
  request: requestOf<ConvertLoraRequest>()(
    z.strictObject({
      path,
      to: z.enum(loraKeys),
      out: path.optional(),
      dtype: z.enum(["f32", "bf16", "f16"]).optional(),
      overwrite: z.boolean().optional(),
      exclude: z.array(z.string()).optional(),
      expert: expert.optional(),
    }),
  ),
  event: noEvents,
  result: z.object({
    path: z.string(),
    out: z.string(),
    modules: z.int(),
    /** How many of the file's were left out. */
    excluded: z.int(),
    from: names,
    dtype: z.string(),
    /** The scale was multiplied into the matrices. */
    folded: z.boolean(),
    notes: names,
  }),
});

/** Weights to write in another form. */
export interface ConvertModelRequest {
  /** A weight file, an index of shards, or a folder with one. */
  path: string;
  /** What to write. */
  out: string;
  /** The form, e.g. `gguf:Q4_K_M`, `fp8_scaled`, `bf16`, `diffusers`. */
  to: string;
  /** Replace a file at `out`. */
  overwrite?: boolean | undefined;
}

export const convertModelContract = contract({
  name: "convert-model",
  request: requestOf<ConvertModelRequest>()(
    z.strictObject({ path, out: path, to: z.string(), overwrite: z.boolean().optional() }),
  ),
  event: z.object({
    type: z.literal("converting"),
    name: z.string(),
    bytesDone: z.number(),
    bytesTotal: z.number(),
  }),
  result: z.object({
    out: z.string(),
    label: z.string(),
    bytes: z.number(),
    /** Of each tensor: ‖new − old‖ / ‖old‖, and the largest difference. */
    tensors: z.array(
      z.object({ name: z.string(), from: z.string(), to: z.string(), error: z.number(), most: z.number() }),
    ),
    notes: names,
  }),
});
