// An error as plain data, as it crosses to a machine or another process.
import { z } from "zod";

/** A KinoraError as plain data. */
export const errorDataSchema = z.object({
  /** Stable, e.g. `safetensors.truncated`. */
  code: z.string(),
  message: z.string(),
  expected: z.string().optional(),
  actual: z.string().optional(),
  hint: z.string().optional(),
  /** Of a failure that nobody foresaw, for a report. */
  stack: z.string().optional(),
});
export type ErrorData = z.infer<typeof errorDataSchema>;
