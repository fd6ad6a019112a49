// `kinora/registry`: the library below publishLora, resolveLora and the other registry functions. Versions never change and
// the log only grows, in a folder or a bucket; what a LoRA is and how it was trained is for the caller to say.
export { type Address, formatAddress, parseAddress, parseReference, type Reference } from "./address.ts";
export { type DeployEvent, type DeployOptions, deployStore } from "./deploy.ts";
export { LocalCopies } from "./local.ts";
export { changelog, differences, trainingNotes } from "./notes.ts";
export { fetchObject } from "./objects.ts";
export { openRegistry, storageAt, storePlace } from "./open.ts";
export { addRecord, readRecords } from "./records.ts";
export {
  type EventListener,
  inShare,
  type PublishedFile,
  Registry,
  type Resolved,
  type VersionFacts,
} from "./registry.ts";
export { prometheusText, type ReviewedVersion, reviewStore } from "./review.ts";
export { mayDo, type Person, whoAmI } from "./rights.ts";
export { describeEvent, type NameState, statusOf, type VersionState, type VersionStatus } from "./state.ts";
export type { Storage, StoredKey } from "./storage/storage.ts";
export { type CollectReport, collectGarbage, type VerifyProgress, type VerifyReport, verifyStore } from "./verify.ts";
