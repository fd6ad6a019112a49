// `kinora/protocol`: zod schemas of every file and every job. No library behind them is loaded: a browser may use it.
export * from "./dataset-config.ts";
export * from "./dataset-manifest.ts";
export * from "./devices.ts";
export * from "./jobs/index.ts";
export * from "./model-media.ts";
export * from "./prepare-config.ts";
export * from "./recipe.ts";
export * from "./train-config.ts";
export * from "./train-log.ts";
