// Errors of jobs as they cross to machines and other processes, and the one that says that a job was stopped.
import { type ErrorDetail, isKinoraError, KinoraError } from "../base/errors.ts";
import type { ErrorData } from "../protocol/jobs/error.ts";

const STOPPED = "job.stopped";

/** The job was asked to stop and did. `name` is `AbortError`, as the platform's own functions have it. */
export class JobStopped extends KinoraError {
  constructor(message = "the job was stopped", detail: ErrorDetail = {}) {
    super(STOPPED, message, detail);
    this.name = "AbortError";
  }
}

/** What was thrown, as plain data. */
export function errorData(error: unknown): ErrorData {
  if (isKinoraError(error)) {
    const { code, message, expected, actual, hint } = error;
    return { code, message, expected, actual, hint };
  }
  const { name, message, stack } = error instanceof Error ? error : new Error(String(error));
  return {
    code: "internal",
    message: `${name}: ${message}`,
    hint: "this is a bug in Kinora: please report it, with the command you ran",
    ...(stack === undefined ? {} : { stack }),
  };
}

export function errorFrom(data: ErrorData): KinoraError {
  const error = KinoraError.from(data);
  if (data.code === STOPPED) return Object.assign(new JobStopped(), { message: data.message, hint: data.hint });
  if (data.stack !== undefined) error.stack = data.stack;
  return error;
}

/** What a job that was asked to stop throws for whatever it threw on its way out. */
export function stoppedBy(signal: AbortSignal, error: unknown): unknown {
  if (error instanceof JobStopped || !signal.aborted) return error;
  const aborted = error === signal.reason || (error instanceof Error && error.name === "AbortError");
  return aborted ? new JobStopped(undefined, { cause: error }) : error;
}
