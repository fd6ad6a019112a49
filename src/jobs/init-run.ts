// Writes a first training configuration for the data of a folder.
import { initRunContract } from "../protocol/jobs/train.ts";
import { writeInitialConfig } from "../train/config/init.ts";
import { quickJob } from "./job.ts";

export const initRunJob = quickJob(initRunContract, async ({ file }) => {
  const { kind, ...written } = await writeInitialConfig(file);
  return { ...written, ...(kind ? { kind } : {}) };
});
