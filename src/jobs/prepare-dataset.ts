// Prepares a set: settings from a file with those of the request over them, the work in dataset/prepare.
import type { z } from "zod";
import { prepareDataset } from "../dataset/prepare/prepare.ts";
import { readPrepareConfig } from "../dataset/prepare/settings.ts";
import { prepareDatasetContract } from "../protocol/jobs/prepare-dataset.ts";
import { measureNames, type PrepareConfigInput } from "../protocol/prepare-config.ts";
import { JobStopped } from "./errors.ts";
import { job, type Work } from "./job.ts";

type Contract = typeof prepareDatasetContract;
type Problem = z.output<Contract["result"]>["problems"][number];

export const prepareDatasetJob = job(prepareDatasetContract, async function* (request, { signal }): Work<Contract> {
  const { sources, out, concurrency } = request;
  const { config, notices } = await configOf(request);
  const problems: Problem[] = [];
  const events = prepareDataset({ sources, out, config, signal, ...(concurrency ? { width: concurrency } : {}) });
  for await (const event of events) {
    if (event.type === "finished") {
      const { summary } = event;
      return { ...summary, notes: [...notices, ...summary.notes], problems };
    }
    if (event.type === "problem") {
      const { type: _type, ...problem } = event;
      problems.push(problem);
    }
    yield event;
  }
  throw new JobStopped();
});

async function configOf({
  model,
  config,
  settings = {},
  keepAll,
}: z.output<Contract["request"]>): Promise<{ config: PrepareConfigInput; notices: string[] }> {
  const { config: file, notices } =
    config === undefined ? { config: {}, notices: [] } : await readPrepareConfig(config);
  const joined = overlaid(file, { ...settings, ...(model ? { model } : {}) });
  if (!keepAll) return { config: joined, notices };
  const nothing = Object.fromEntries(measureNames.map((name) => [name, false]));
  return { config: overlaid(joined, { quality: nothing, duplicates: { detect: false } }), notices };
}

/** `over` before `under`, table by table. */
function overlaid(under: PrepareConfigInput, over: PrepareConfigInput): PrepareConfigInput {
  const isTable = (value: unknown): value is object =>
    value !== null && typeof value === "object" && !Array.isArray(value);
  const joined: Record<string, unknown> = { ...under };
  for (const [key, value] of Object.entries(over)) {
    const below = joined[key];
    joined[key] = isTable(value) && isTable(below) ? { ...below, ...value } : value;
  }
  return joined as PrepareConfigInput;
}
