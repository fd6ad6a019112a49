// `kinora/lora`: reading, writing, converting, describing and attaching LoRAs and the other adapter kinds.
export type { AdapterKind, AdapterPlace } from "./adapters/kind.ts";
export { type AdapterKindName, type AdapterValues, adapterKinds } from "./adapters/table.ts";
export { AttachedLora, attachLora, defaultTargets, type FreshLora, freshLora } from "./attach.ts";
export { type Converted, type ConvertOptions, convertLora } from "./convert.ts";
export { describeLora, type LoraDescription, type LoraGroup } from "./describe.ts";
export { inspectWeights, type NetworkReport, type WeightReport } from "./inspect.ts";
export { keyFormats, type LoraFormat } from "./key-formats.ts";
export { type LoraFile, type ReadAdapter, readLora, readLoraFile } from "./read.ts";
export { type RecognizedLora, recognizeLora } from "./recognize.ts";
export { type LoraDType, type LoraWriteOptions, writeLora } from "./write.ts";
