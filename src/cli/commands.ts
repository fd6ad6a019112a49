// The list of commands, in the order the help shows them.
import type { Command } from "./command.ts";
import { datasetCaption } from "./commands/dataset-caption.ts";
import { datasetInspect } from "./commands/dataset-inspect.ts";
import { datasetPrepare } from "./commands/dataset-prepare.ts";
import { datasetSizes } from "./commands/dataset-sizes.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { generateCommand } from "./commands/generate.ts";
import { loraConvert } from "./commands/lora-convert.ts";
import { loraInspect } from "./commands/lora-inspect.ts";
import { modelsInspect } from "./commands/models-inspect.ts";
import { planCommand } from "./commands/plan.ts";
import { showCommand } from "./commands/show.ts";
import { trainCommand } from "./commands/train.ts";

export const commands: readonly Command[] = [
  datasetCaption,
  datasetInspect,
  datasetPrepare,
  datasetSizes,
  doctorCommand,
  generateCommand,
  loraConvert,
  loraInspect,
  modelsInspect,
  planCommand,
  showCommand,
  trainCommand,
];
