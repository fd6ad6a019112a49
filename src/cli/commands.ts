// The list of commands, in the order the help shows them.
import type { Command } from "./command.ts";
import { datasetInspect } from "./commands/dataset-inspect.ts";

export const commands: readonly Command[] = [datasetInspect];
