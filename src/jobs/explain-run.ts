// Every effective setting of a training configuration, where it came from and what it implies.
import { explainRunContract } from "../protocol/jobs/train.ts";
import { explainRun } from "../train/plan/explain.ts";
import { job, type Work } from "./job.ts";
import { settledConfig } from "./train-config.ts";

export const explainRunJob = job(explainRunContract, async function* (request): Work<typeof explainRunContract> {
  const { settings, explained, notes } = await settledConfig(request);
  for (const text of notes) yield { type: "note", text };
  const run = explainRun(settings, explained);
  for (;;) {
    const { done, value } = await run.next();
    if (done) return value;
    if (value.type === "dataset") yield value;
  }
});
