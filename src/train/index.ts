// `kinora/train`: the library below train, planRun and explainRun. It knows nothing of sampling: who wants previews hands
// in what makes them.
export { type Override, readTrainConfig, type SettledConfig, settleTrainConfig } from "./config/read.ts";
export type { ExplainedSetting, TrainSettings } from "./config/settings.ts";
export { optimizers } from "./optimizers/index.ts";
export { type ExplainedRun, explainRun } from "./plan/explain.ts";
export { planLoraStep } from "./plan/lora-step.ts";
export { type PlanRunEvent, planRun, type RunPlan } from "./plan/run-plan.ts";
export type { TrainEvent, TrainResult } from "./run/events.ts";
export { type TrainOptions, train } from "./run/loop.ts";
export type { PreviewEvent, PreviewMaker, PreviewRequest } from "./run/preview.ts";
export { readLog } from "./run/run-log.ts";
export { type StepResult, trainStep } from "./step/step.ts";
