// `kinora/dataset`: the library below prepareDataset, captionDataset and inspectDataset, with plain values in and out.

export { type Batch, bucketsOf, epochBatches } from "./batches.ts";
export { bucketFor, bucketSizes, type CropGeometry, cropFor } from "./buckets.ts";
export { type AcceptEvent, type AcceptSettings, acceptDrafts } from "./caption/accept.ts";
export { type CaptionEvent, type CaptionPlan, captionFolder, planCaptions } from "./caption/caption.ts";
export { type CaptionSettings, captionDefaults } from "./caption/settings.ts";
export { type PromptTemplate, promptTemplates } from "./caption/templates.ts";
export {
  type DatasetConfig,
  type DatasetSection,
  folderConfig,
  readDatasetConfig,
  settleDatasetConfig,
} from "./config.ts";
export { type DatasetPlan, type PlanEvent, type PlanOptions, planDataset } from "./dataset-plan.ts";
export { type Inspection, inspection } from "./inspection.ts";
export type { DatasetItem, Drop, DropCode } from "./items.ts";
export { findManifest, readManifest } from "./manifest.ts";
export { type PrepareEvent, type PrepareRequest, type PrepareSummary, prepareDataset } from "./prepare/prepare.ts";
export { type MediaFacts, type Probe, probeMedia } from "./probe.ts";
export { clipLengths, type NearSize, type SizeRules, sizesNear } from "./sizes.ts";
export { type DatasetWarning, planWarnings } from "./warnings.ts";
