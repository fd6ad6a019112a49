// The jobs that say what a forward pass or a whole training run takes, before anything loads.
import { z } from "zod";
import { contract, noEvents, noteEvent, requestOf, sizeSchema } from "./contract.ts";
import { datasetEvent, type RunRequest, runRequest } from "./train.ts";

/** Bytes of each category at its most. */
const categories = {
  weights: z.number(),
  gradients: z.number(),
  optimizer: z.number(),
  activations: z.number(),
  workspace: z.number(),
};

/** A multiply-add is two FLOPs; `moved`: bytes that kernels without products read and write. */
const work = z.object({ flops: z.number(), moved: z.number(), calls: z.number() });

/** A forward pass whose cost is asked for. */
export interface PlanForwardRequest {
  model: string;
  /** Pixels. Default: the model's usual size. */
  size?: { width: number; height: number } | undefined;
  /** 4n + 1. Default: the model's usual number. */
  frames?: number | undefined;
  /** What the weights and large products are in. Default bf16. */
  dtype?: "bf16" | "f32" | undefined;
}

/** A training run whose cost is asked for. */
export interface PlanRunRequest extends RunRequest {
  /** Estimate time for a device of this many TFLOP/s instead of measuring this one. */
  tflops?: number | undefined;
}

/** The job that says what a forward pass takes. */
export const planForwardContract = contract({
  name: "plan-forward",
  request: requestOf<PlanForwardRequest>()(
    z.strictObject({
      model: z.string(),
      size: sizeSchema.optional(),
      frames: z.int().positive().optional(),
      dtype: z.enum(["bf16", "f32"]).optional(),
    }),
  ),
  event: noEvents,
  result: z.object({
    model: z.string(),
    size: sizeSchema,
    frames: z.int(),
    dtype: z.string(),
    /** Of the transformer that runs: one expert, where there are two. */
    parameters: z.number(),
    experts: z.union([z.literal(1), z.literal(2)]),
    tokens: z.number(),
    flops: z.object({ forward: z.number() }),
    bytes: z.object({ peak: z.number(), ...categories }),
    /** Bytes that the device holds at its most, with freed memory that it keeps. */
    held: z.number(),
    kernelCalls: z.number(),
    /** Steps of the model's usual generation. */
    steps: z.int(),
  }),
});

/** The job that says what a training run takes. */
export const planRunContract = contract({
  name: "plan-run",
  request: requestOf<PlanRunRequest>()(z.strictObject({ ...runRequest, tflops: z.number().positive().optional() })),
  event: z.discriminatedUnion("type", [
    noteEvent,
    datasetEvent,
    z.object({ type: z.literal("planned"), done: z.int(), of: z.int() }),
  ]),
  result: z.object({
    name: z.string(),
    /** What trains, in words, e.g. `LoRA of rank 32`. */
    what: z.string(),
    model: z.string(),
    /** How many train. */
    experts: z.int(),
    steps: z.int(),
    batchesPerEpoch: z.int(),
    /** Elements that train, in each expert. */
    trained: z.number(),
    /** `peak`: most device bytes; `resident`: with the file pages that are read in place. */
    buckets: z.array(
      z.object({
        width: z.int(),
        height: z.int(),
        frames: z.int(),
        batch: z.int(),
        tokens: z.number(),
        batches: z.int(),
        peak: z.number(),
        resident: z.number(),
        bytes: z.object(categories),
        work,
      }),
    ),
    phases: z.array(
      z.object({
        name: z.enum(["latents", "texts", "training", "previews"]),
        peak: z.number(),
        resident: z.number(),
        work,
      }),
    ),
    peak: z.number(),
    resident: z.number(),
    /** On average per epoch. */
    step: work,
    /** Host bytes beyond the device's, about. */
    host: z.number(),
    /** Files that are not there, and what was assumed for them. */
    assumed: z.array(z.string()),
    /** Of the device that times are for. */
    speed: z.object({
      device: z.string(),
      speed: z.object({ flopsPerSecond: z.number(), bytesPerSecond: z.number(), secondsPerCall: z.number() }),
    }),
    seconds: z.object({ step: z.number(), phases: z.record(z.string(), z.number()), total: z.number() }),
  }),
});
