// What a job is to whoever asks for it: its name, and the shapes of its request, its events and its result. Everything in
// them survives JSON unchanged, so that a command line, a child process, a queue and a browser see the same.
import { z } from "zod";
import { errorDataSchema } from "./error.ts";

/** The shapes of a job's request, events and result, each of which survives JSON. */
export interface JobContract<
  N extends string = string,
  Q extends z.ZodType = z.ZodType,
  E extends z.ZodType = z.ZodType,
  R extends z.ZodType = z.ZodType,
> {
  name: N;
  request: Q;
  /** A discriminated union on `type`. */
  event: E;
  result: R;
}

/** Keeps the literal types of a contract. */
export function contract<
  const N extends string,
  Q extends z.ZodType,
  E extends z.ZodType<{ type: string }>,
  R extends z.ZodType,
>(definition: JobContract<N, Q, E, R>): JobContract<N, Q, E, R> {
  return definition;
}

/** `Yes` where A and B are assignable to each other and have the same keys. */
type Alike<A, B, Yes> = [A, B, keyof A, keyof B] extends [B, A, keyof B, keyof A] ? Yes : never;

/** The schema of a request that an interface describes, option by option; the two have to be alike. */
export const requestOf =
  <T extends object>() =>
  <S extends z.ZodObject>(schema: S & Alike<T, z.input<S>, unknown>): z.ZodType<T, T> =>
    schema as unknown as z.ZodType<T, T>;

export const sizeSchema = z.strictObject({ width: z.int().positive(), height: z.int().positive() });

/** Something a person should know, such as a rounded number of frames. */
export const noteEvent = z.object({ type: z.literal("note"), text: z.string() });

/** Of a job that ends before there is anything to report. */
export const noEvents = z.never();

/** What a child process and its parent say to each other. */
export const toChildSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("start"), job: z.string(), request: z.unknown(), cacheFolder: z.string() }),
  z.object({ type: z.literal("cancel") }),
]);
export type ToChild = z.infer<typeof toChildSchema>;

export const fromChildSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("event"), event: z.unknown() }),
  z.object({ type: z.literal("result"), result: z.unknown() }),
  z.object({ type: z.literal("error"), error: errorDataSchema }),
]);
export type FromChild = z.infer<typeof fromChildSchema>;
