// A job: long work with a name, from a request that is plain data to a result that is, telling plain events on its way.
// It composes the libraries; how it is run (here, in a child process) and who reads its events is none of its business.
import { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";
import { isRow } from "../base/rows.ts";
import { shown, wrongOption } from "../io/config/values.ts";
import type { JobContract } from "../protocol/jobs/contract.ts";

export interface JobContext<E = unknown> {
  /** Aborts where the job is to stop; what is done stays on disk. */
  signal: AbortSignal;
  /** Where this user's Kinora keeps what it can make again. */
  cacheFolder: string;
  env: NodeJS.ProcessEnv;
  /** For news out of the middle of work that yields nothing: a model that loads, say. Heard at once in a child process. */
  emit(event: E): void;
}

export type EventIn<C extends JobContract> = z.input<C["event"]>;
/** What a job's work yields and returns. */
export type Work<C extends JobContract> = AsyncGenerator<EventIn<C>, z.input<C["result"]>>;

/** `C` with the work itself. */
export interface JobDefinition<C extends JobContract = JobContract> {
  contract: C;
  run(request: z.output<C["request"]>, context: JobContext<z.input<C["event"]>>): Work<C>;
}

/** Keeps the types of a contract in its definition. */
export function job<C extends JobContract>(contract: C, run: JobDefinition<C>["run"]): JobDefinition<C> {
  return { contract, run };
}

/** The same for work that tells nothing on its way. */
export function quickJob<C extends JobContract>(
  contract: C,
  work: (
    request: z.output<C["request"]>,
    context: JobContext<EventIn<C>>,
  ) => z.input<C["result"]> | Promise<z.input<C["result"]>>,
): JobDefinition<C> {
  return {
    contract,
    // biome-ignore lint/correctness/useYield: it has nothing to tell
    async *run(request, context) {
      return await work(request, context);
    },
  };
}

/** Reads a request. @throws KinoraError `request.unknown-option` with the nearest one, `request.invalid`. */
export function parseRequest<Q extends z.ZodType>(name: string, schema: Q, request: unknown): z.output<Q> {
  const parsed = schema.safeParse(request);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  if (issue.code === "unrecognized_keys") {
    const key = issue.keys[0]!;
    const known = schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
    const near = issue.path.length === 0 ? nearestName(key, known) : undefined;
    throw new KinoraError("request.unknown-option", `${name} has no option ${[...issue.path, key].join(".")}`, {
      hint: near ? `did you mean ${near}?` : known.length > 0 ? `it has ${known.join(", ")}` : "it takes no options",
    });
  }
  if (issue.path.length === 0 && !isRow(request)) {
    throw new KinoraError("request.invalid", `${name} takes an object with its options`, { actual: shown(request) });
  }
  const { words, hint } = wrongOption(issue, request);
  throw new KinoraError("request.invalid", `${name}: ${words}`, { hint, cause: parsed.error });
}
