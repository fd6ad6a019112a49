// What is wrong with a training configuration as written: keys that do not exist, values that cannot be.
import type { z } from "zod";
import type { Row } from "../../base/rows.ts";
import { checkKeys, type KeyTree, keyTree } from "../../io/config/keys.ts";
import type { ConfigKind } from "../../io/config/read.ts";
import { invalidValues } from "../../io/config/values.ts";
import { trainConfigSchema } from "../../protocol/train-config.ts";
import { choiceKeys } from "./choices.ts";
import { foreignNames } from "./foreign-names.ts";

export const trainConfig: ConfigKind = {
  code: "train-config",
  name: "the training configuration",
  hint: "docs/training.md lists every setting, and kinora train --help shows a whole file",
};

/** Every key there is: the schema's, and those of the rows that a table chooses from. */
export function trainKeys(): KeyTree {
  return Object.fromEntries(
    Object.entries(keyTree(trainConfigSchema)).map(([table, keys]) => [
      table,
      keys && { ...keys, ...Object.fromEntries(choiceKeys(table).map((key) => [key, undefined])) },
    ]),
  );
}

/** Throws `train-config.unknown-key` at the first key that does not exist. */
export function checkTrainKeys(root: Row): void {
  checkKeys(trainConfig, root, trainKeys(), foreignNames);
}

/** For settings whose right values are not obvious. */
const advice: Readonly<Record<string, string>> = {
  device: "kinora doctor lists this machine's devices",
  "optimizer.learning_rate": "1e-4 is usual for a LoRA, 1e-5 for a full fine-tune",
};

/** Throws `train-config.invalid` with every value that is wrong, and what would be right. */
export function refuseValues(issues: readonly z.core.$ZodIssue[], root: Row): never {
  throw invalidValues(trainConfig, issues, root, { advice });
}
