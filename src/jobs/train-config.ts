// A training configuration as jobs are given it, a file or what it would hold, settled.
import { resolve } from "node:path";
import type { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import type { Row } from "../base/rows.ts";
import type { trainContract } from "../protocol/jobs/train.ts";
import { readTrainConfig, type SettledConfig, settleTrainConfig } from "../train/config/read.ts";

/** Throws `train-config.*` and what reading the files it names throws. */
export async function settledConfig({
  config,
  base,
  set = [],
}: z.output<(typeof trainContract)["request"]>): Promise<SettledConfig> {
  if (typeof config === "string") {
    if (base === undefined) return readTrainConfig(config, set);
    throw new KinoraError("request.invalid", "base is only for a configuration that is not a file", {
      hint: "paths in a file are relative to the file's folder",
    });
  }
  if (set.length > 0) {
    throw new KinoraError("request.invalid", "set is only for a configuration file", {
      hint: "put the settings into the configuration itself",
    });
  }
  return settleTrainConfig(config as unknown as Row, { base: resolve(base ?? "."), name: config.name ?? "kinora" });
}
