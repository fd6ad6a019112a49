// The acceptance test of a version: films over strengths and prompts, what is wrong with them, and a verdict.
import { z } from "zod";
import { versionNameSchema } from "../registry.ts";
import { contract, noteEvent, sizeSchema } from "./contract.ts";

const path = z.string().min(1);

const cellSchema = z.object({
  prompt: z.string(),
  seed: z.string(),
  /** Absent for the base model. */
  strength: z.number().optional(),
  /** In the report's folder; absent where it failed. */
  film: z.string().optional(),
  seconds: z.number().optional(),
  peakBytes: z.number().optional(),
  /** What is measured, by name. */
  measures: z.record(z.string(), z.number()).optional(),
  /** Those of the film that the base's does not have. */
  faults: z.array(z.string()),
  /** The code of what it failed with. */
  error: z.string().optional(),
});
export type AcceptanceCell = z.infer<typeof cellSchema>;

/** The job that tests whether a version of a registry can be used. */
export const acceptContract = contract({
  name: "accept",
  request: z.strictObject({
    /** A folder, or `s3://BUCKET/PREFIX`. Default: the environment's KINORA_STORE. */
    store: z.string().min(1).optional(),
    /** `styles/acme/neon@v2`. */
    reference: z.string().min(1),
    /** 1: technical faults. */
    phase: z.literal(1),
    /** A file of prompts, one a line, as previews of training take. */
    prompts: path,
    /** Where films and report are written. Default: named after the version. */
    out: path.optional(),
    strengths: z.array(z.number()).min(1).max(20).optional(),
    /** Default: the model that the version was trained for. */
    model: z.string().optional(),
    checkpoint: path.optional(),
    steps: z.int().positive().optional(),
    size: sizeSchema.optional(),
    frames: z.int().positive().optional(),
    device: z.string().optional(),
  }),
  event: z.discriminatedUnion("type", [
    noteEvent,
    z.object({ type: z.literal("cell"), done: z.int(), of: z.int(), cell: cellSchema }),
  ]),
  result: z.object({
    address: z.string(),
    version: versionNameSchema,
    phase: z.int(),
    verdict: z.enum(["passed", "failed"]),
    /** Why it failed, a sentence each. */
    reasons: z.array(z.string()),
    /** Against the base model, medians. */
    time: z.number().optional(),
    peak: z.number().optional(),
    cells: z.array(cellSchema),
    report: z.string(),
  }),
});
