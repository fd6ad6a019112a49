// The lines of a run's log.jsonl: every step, every validation, every file written. One JSON object a line.
import { z } from "zod";

const expert = z.enum(["high", "low"]);

/** A training step. */
export const stepLineSchema = z.object({
  kind: z.literal("step"),
  /** From 1. */
  step: z.int(),
  /** From 1. */
  epoch: z.int(),
  expert,
  /** Mean over the step's samples. */
  loss: z.number(),
  /** Over the steps of this expert. */
  smoothed: z.number(),
  learningRate: z.number(),
  gradientNorm: z.number(),
  /** Noise level of each sample. */
  sigmas: z.array(z.number()),
  seconds: z.number(),
  /** Most bytes of the device at once since training began. */
  peakBytes: z.number(),
});
export type StepLine = z.infer<typeof stepLineSchema>;

/** A validation. */
export const validationLineSchema = z.object({
  kind: z.literal("validation"),
  /** Steps done before it; 0 is the untrained model. */
  step: z.int(),
  expert,
  /** Mean over held-out items and noise levels. */
  loss: z.number(),
  /** Mean over held-out items at each noise level. */
  bands: z.array(z.object({ sigma: z.number(), loss: z.number() })),
  seconds: z.number(),
});
export type ValidationLine = z.infer<typeof validationLineSchema>;

/** A preview was made. */
export const previewLineSchema = z.object({
  kind: z.literal("preview"),
  step: z.int(),
  /** Counts the prompts from 0. */
  index: z.int(),
  prompt: z.string(),
  /** Within the run's folder. */
  file: z.string(),
  seconds: z.number(),
});
export type PreviewLine = z.infer<typeof previewLineSchema>;

/** Weights were saved. */
export const savedLineSchema = z.object({
  kind: z.literal("saved"),
  step: z.int(),
  /** Within the run's folder. */
  files: z.array(z.string()),
});
export type SavedLine = z.infer<typeof savedLineSchema>;

/** A line of a run's log. */
export const logLineSchema = z.discriminatedUnion("kind", [
  stepLineSchema,
  validationLineSchema,
  previewLineSchema,
  savedLineSchema,
]);
export type LogLine = z.infer<typeof logLineSchema>;
