// Starts a job by its name, in this process or in a child of it.
import { isKinoraError, KinoraError } from "../base/errors.ts";
import { cacheFolder } from "../io/content-hash.ts";
import { startChild } from "./child.ts";
import { JobRun, performJob } from "./run.ts";
import { type EventOf, type JobName, loadJob, type RequestOf, type ResultOf } from "./table.ts";

export interface StartOptions {
  /** Asks the job to stop when it aborts. */
  signal?: AbortSignal | undefined;
  /** Run it in a process of its own, so that this one stays free and can end it at any moment. Default false. */
  child?: boolean | undefined;
  /** Where this user's Kinora keeps what it can make again. Default: KINORA_CACHE, or the system's usual place. */
  cacheFolder?: string | undefined;
}

/** Starts a job; whatever is wrong with the request rejects. */
export function startJob<N extends JobName>(
  name: N,
  request: RequestOf<N>,
  { signal, child = false, cacheFolder: folder = cacheFolder(process.env) }: StartOptions = {},
): JobRun<EventOf<N>, ResultOf<N>> {
  if (child) {
    const wrong = notPlain(name, request);
    if (wrong) return new JobRun<EventOf<N>, ResultOf<N>>(() => Promise.reject(wrong));
    return startChild(name, request, { signal, cacheFolder: folder });
  }
  return new JobRun<EventOf<N>, ResultOf<N>>(
    async (tell, stop) => {
      const definition = await loadJob(name);
      const context = { signal: stop, cacheFolder: folder, env: process.env, emit: tell as (event: unknown) => void };
      return (await performJob(definition, request, context)) as ResultOf<N>;
    },
    { signal },
  );
}

/** What a message to a child could not carry: JSON throws at some of it, and drops or changes the rest in silence. */
function notPlain(name: JobName, request: unknown): KinoraError | undefined {
  const refuse = (key: string, value: unknown): unknown => {
    const plain = typeof value === "number" ? Number.isFinite(value) : !unsendable.has(typeof value);
    if (plain) return value;
    const [must, actual] = typeof value === "number" ? ["a finite number", value] : ["plain data", `a ${typeof value}`];
    throw new KinoraError("request.invalid", `${name}: \`${key}\` must be ${must}`, { actual: String(actual) });
  };
  try {
    JSON.stringify(request, refuse);
    return undefined;
  } catch (error) {
    if (isKinoraError(error)) return error;
    return new KinoraError("request.invalid", `${name}: its options are not plain data`, {
      actual: (error as Error).message.split("\n")[0]!,
      cause: error,
    });
  }
}

const unsendable: ReadonlySet<string> = new Set(["bigint", "function", "symbol"]);
