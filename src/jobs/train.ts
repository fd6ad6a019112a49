// Trains by a configuration, on a device that is opened here; previews come from the sampler, which training knows nothing of.

import { sourceDate } from "../base/source-date.ts";
import type { DatasetPlan } from "../dataset/dataset-plan.ts";
import { openDevice } from "../device/open-device.ts";
import { HashCache } from "../io/content-hash.ts";
import { trainContract } from "../protocol/jobs/train.ts";
import { makeFilms } from "../sample/films.ts";
import type { TrainEvent } from "../train/run/events.ts";
import { train } from "../train/run/loop.ts";
import { pageName } from "../train/run/run-page.ts";
import { cutWarning, datasetWarnings } from "../train/run/warnings.ts";
import { JobStopped } from "./errors.ts";
import { type EventIn, job, type Work } from "./job.ts";
import { settledConfig } from "./train-config.ts";

type Contract = typeof trainContract;

/** Files of `lost` that are named. */
const NAMED = 5;

export const trainJob = job(trainContract, async function* (request, context): Work<Contract> {
  const { settings, notes, device: choice } = await settledConfig(request);
  for (const text of notes) yield { type: "note", text };
  const opened = await openDevice(choice);
  using device = opened.device;
  if (opened.note) yield { type: "note", text: opened.note };
  const hashes = new HashCache(context.cacheFolder);
  const fixedTime = sourceDate(context.env);
  const options = {
    ...(request.from === undefined ? {} : { from: request.from }),
    ...(fixedTime === undefined ? {} : { fixedTime }),
  };
  const run = train(settings, { device, hashes, signal: context.signal, preview: makeFilms, ...options });
  const experts = settings.model.boundary !== undefined;
  try {
    for (;;) {
      const { done, value } = await run.next();
      if (!done) {
        yield told(value, experts);
        continue;
      }
      const { end, ...result } = value;
      if (end === "finished") return { end, ...result, page: pageName };
      const { step, steps, output } = result;
      yield { type: "stopped", step, steps, output };
      throw new JobStopped(`stopped after step ${step} of ${steps}`, { hint: "call it again to continue" });
    }
  } finally {
    await run.return(undefined as never);
  }
});

function told(event: TrainEvent, experts: boolean): EventIn<Contract> {
  if (event.type === "ready") return readyEvent(event, experts);
  if (event.type !== "cache") return event;
  const { type, event: caching } = event;
  if (caching.type !== "cut") return { type, event: caching };
  return { type, event: { ...caching, warning: cutWarning(caching.texts, caching.length) } };
}

/** The plan of a dataset is long: who wants it inspects the dataset. */
function readyEvent(
  { type, plan, items, ...counts }: Extract<TrainEvent, { type: "ready" }>,
  experts: boolean,
): EventIn<Contract> {
  const { train: trained, heldOut } = items;
  return {
    type,
    ...counts,
    items: trained.length,
    heldOut: heldOut.length,
    experts,
    warnings: datasetWarnings(plan),
    lost: lost(plan),
  };
}

/** Files that give less than they were asked for: a step count that seems off has its reason here. */
function lost(plan: DatasetPlan): { files: number; first: { name: string; reason: string }[] } {
  const drops = plan.drops.filter(({ items }) => items > 0);
  return {
    files: new Set(drops.map(({ file }) => file)).size,
    first: drops.slice(0, NAMED).map(({ name, reason }) => ({ name, reason })),
  };
}
