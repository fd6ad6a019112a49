// The list of commands, in the order the help shows them. Each is loaded when it is called.
import type { Command } from "./command.ts";

/** A row of the list. */
export interface Listed {
  /** The words that call it, e.g. `dataset prepare`. */
  name: string;
  /** One line. */
  summary: string;
  load(): Promise<Command>;
}

export const commands: readonly Listed[] = [
  {
    name: "dataset caption",
    summary: "write captions with a vision-language model",
    load: async () => (await import("./commands/dataset-caption.ts")).datasetCaption,
  },
  {
    name: "dataset inspect",
    summary: "show what an epoch trains on: every item, the batches, and each file that gives none and why",
    load: async () => (await import("./commands/dataset-inspect.ts")).datasetInspect,
  },
  {
    name: "dataset prepare",
    summary: "turn films, clips and pictures into a clean training set, with a report of every decision",
    load: async () => (await import("./commands/dataset-prepare.ts")).datasetPrepare,
  },
  {
    name: "dataset sizes",
    summary: "list the sizes near a source's shape, with tokens, cost of a training step and memory",
    load: async () => (await import("./commands/dataset-sizes.ts")).datasetSizes,
  },
  {
    name: "doctor",
    summary: "say what hardware and libraries were found, which device will be used, and what to install",
    load: async () => (await import("./commands/doctor.ts")).doctorCommand,
  },
  {
    name: "generate",
    summary: "make a video from a prompt, and from a picture where the model takes one",
    load: async () => (await import("./commands/generate.ts")).generateCommand,
  },
  {
    name: "lora convert",
    summary: "write a LoRA under another tool's names; it acts identically",
    load: async () => (await import("./commands/lora-convert.ts")).loraConvert,
  },
  {
    name: "lora inspect",
    summary: "say what a LoRA is for, how it was trained and how strong it is",
    load: async () => (await import("./commands/lora-inspect.ts")).loraInspect,
  },
  {
    name: "models inspect",
    summary: "say what a weight file or a checkpoint's folder is",
    load: async () => (await import("./commands/models-inspect.ts")).modelsInspect,
  },
  {
    name: "plan",
    summary: "say what a training run or a model's forward pass takes in bytes, arithmetic and time",
    load: async () => (await import("./commands/plan.ts")).planCommand,
  },
  {
    name: "show",
    summary: "print how a film was made: prompt, seed, sampler, weights, LoRAs",
    load: async () => (await import("./commands/show.ts")).showCommand,
  },
  {
    name: "train",
    summary: "train a LoRA, or a whole model, from one configuration file; the same command goes on after a stop",
    load: async () => (await import("./commands/train.ts")).trainCommand,
  },
];
