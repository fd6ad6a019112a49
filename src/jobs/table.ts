// Every job by its name. A row is loaded when its job is started, so that naming jobs costs nothing.
import type { z } from "zod";
import type { JobDefinition } from "./job.ts";

export const jobs = {
  accept: async () => (await import("./registry/accept.ts")).acceptJob,
  "accept-captions": async () => (await import("./caption-dataset.ts")).acceptCaptionsJob,
  "caption-dataset": async () => (await import("./caption-dataset.ts")).captionDatasetJob,
  "convert-lora": async () => (await import("./inspect-model.ts")).convertLoraJob,
  "convert-model": async () => (await import("./inspect-model.ts")).convertModelJob,
  "dataset-sizes": async () => (await import("./dataset-sizes.ts")).datasetSizesJob,
  doctor: async () => (await import("./doctor.ts")).doctorJob,
  "explain-run": async () => (await import("./explain-run.ts")).explainRunJob,
  generate: async () => (await import("./generate.ts")).generateJob,
  "init-run": async () => (await import("./init-run.ts")).initRunJob,
  "inspect-dataset": async () => (await import("./inspect-dataset.ts")).inspectDatasetJob,
  "inspect-lora": async () => (await import("./inspect-model.ts")).inspectLoraJob,
  "inspect-model": async () => (await import("./inspect-model.ts")).inspectModelJob,
  "plan-captions": async () => (await import("./caption-dataset.ts")).planCaptionsJob,
  "plan-forward": async () => (await import("./plan.ts")).planForwardJob,
  "plan-run": async () => (await import("./plan.ts")).planRunJob,
  "prepare-dataset": async () => (await import("./prepare-dataset.ts")).prepareDatasetJob,
  "read-recipe": async () => (await import("./read-recipe.ts")).readRecipeJob,
  "registry-change": async () => (await import("./registry/change.ts")).registryChangeJob,
  "registry-diff": async () => (await import("./registry/look.ts")).registryDiffJob,
  "registry-export": async () => (await import("./registry/change.ts")).registryExportJob,
  "registry-feedback": async () => (await import("./registry/feedback.ts")).registryFeedbackJob,
  "registry-gc": async () => (await import("./registry/change.ts")).registryCollectJob,
  "registry-init": async () => (await import("./registry/change.ts")).registryInitJob,
  "registry-list": async () => (await import("./registry/look.ts")).registryListJob,
  "registry-notes": async () => (await import("./registry/look.ts")).registryNotesJob,
  "registry-people": async () => (await import("./registry/change.ts")).registryPeopleJob,
  "registry-publish": async () => (await import("./registry/publish.ts")).registryPublishJob,
  "registry-resolve": async () => (await import("./registry/look.ts")).registryResolveJob,
  "registry-review": async () => (await import("./registry/review.ts")).registryReviewJob,
  "registry-show": async () => (await import("./registry/look.ts")).registryShowJob,
  "registry-verify": async () => (await import("./registry/look.ts")).registryVerifyJob,
  train: async () => (await import("./train.ts")).trainJob,
};

/** The name of a job, e.g. `generate`. */
export type JobName = keyof typeof jobs;

type ContractOf<N extends JobName> = Awaited<ReturnType<(typeof jobs)[N]>>["contract"];
/** As it is given: everything that has a default may be left out. */
export type RequestOf<N extends JobName> = z.input<ContractOf<N>["request"]>;
/** What a job tells on its way. */
export type EventOf<N extends JobName> = z.output<ContractOf<N>["event"]>;
/** What a job gives at its end. */
export type ResultOf<N extends JobName> = z.output<ContractOf<N>["result"]>;

export async function loadJob(name: JobName): Promise<JobDefinition> {
  return (await jobs[name]()) as unknown as JobDefinition;
}
