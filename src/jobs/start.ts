// Starts a job by its name, in this process or in a child of it.
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
  if (child) return startChild(name, request, { signal, cacheFolder: folder });
  return new JobRun<EventOf<N>, ResultOf<N>>(
    async (tell, stop) => {
      const definition = await loadJob(name);
      const context = { signal: stop, cacheFolder: folder, env: process.env, emit: tell as (event: unknown) => void };
      return (await performJob(definition, request, context)) as ResultOf<N>;
    },
    { signal },
  );
}
