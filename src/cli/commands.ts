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
    summary: "show what an epoch trains on: every item, every batch, and why files were left out",
    load: async () => (await import("./commands/dataset-inspect.ts")).datasetInspect,
  },
  {
    name: "dataset prepare",
    summary: "turn films, clips and pictures into a clean training set, with a report on every decision",
    load: async () => (await import("./commands/dataset-prepare.ts")).datasetPrepare,
  },
  {
    name: "dataset sizes",
    summary: "list the sizes near a source's aspect ratio, with tokens, training cost and memory",
    load: async () => (await import("./commands/dataset-sizes.ts")).datasetSizes,
  },
  {
    name: "doctor",
    summary: "show the hardware and libraries found, the device that will be used, and what to install",
    load: async () => (await import("./commands/doctor.ts")).doctorCommand,
  },
  {
    name: "generate",
    summary: "generate a video from a prompt, and from a picture where the model takes one",
    load: async () => (await import("./commands/generate.ts")).generateCommand,
  },
  {
    name: "lora convert",
    summary: "rewrite a LoRA with another tool's key names, without changing its effect",
    load: async () => (await import("./commands/lora-convert.ts")).loraConvert,
  },
  {
    name: "lora inspect",
    summary: "show what a LoRA is for, how it was trained and how strong it is",
    load: async () => (await import("./commands/lora-inspect.ts")).loraInspect,
  },
  {
    name: "models inspect",
    summary: "identify a weight file or a checkpoint folder",
    load: async () => (await import("./commands/models-inspect.ts")).modelsInspect,
  },
  {
    name: "plan",
    summary: "estimate the memory, arithmetic and time of a training run or a forward pass",
    load: async () => (await import("./commands/plan.ts")).planCommand,
  },
  {
    name: "show",
    summary: "print how a video was made: prompt, seed, sampler, weights, LoRAs",
    load: async () => (await import("./commands/show.ts")).showCommand,
  },
  {
    name: "train",
    summary: "train a LoRA, or a whole model, from one configuration file; run it again to resume",
    load: async () => (await import("./commands/train.ts")).trainCommand,
  },
];
