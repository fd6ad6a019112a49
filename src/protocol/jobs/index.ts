// The contract of every job: its request, its events and its result. All of it survives JSON.
export { type AcceptanceCell, acceptContract } from "./accept.ts";
export { acceptCaptionsContract, captionDatasetContract, planCaptionsContract } from "./caption-dataset.ts";
export { contract, type JobContract } from "./contract.ts";
export { doctorContract, readRecipeContract } from "./doctor.ts";
export { type ErrorData, errorDataSchema } from "./error.ts";
export { type GenerateRequest, generateContract, type Video, videoSchema } from "./generate.ts";
export { datasetSizesContract, inspectDatasetContract } from "./inspect-dataset.ts";
export { convertLoraContract, inspectLoraContract, inspectModelContract } from "./inspect-model.ts";
export { planForwardContract, planRunContract } from "./plan.ts";
export { prepareDatasetContract } from "./prepare-dataset.ts";
export {
  registryChangeContract,
  registryCollectContract,
  registryDiffContract,
  registryExportContract,
  registryFeedbackContract,
  registryInitContract,
  registryListContract,
  registryNotesContract,
  registryPeopleContract,
  registryPublishContract,
  registryResolveContract,
  registryReviewContract,
  registryShowContract,
  registryVerifyContract,
} from "./registry.ts";
export { explainRunContract, trainContract } from "./train.ts";
