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
    name: "accept",
    summary: "test a version of a registry for technical faults, with a verdict and a report",
    load: async () => (await import("./commands/registry/accept.ts")).acceptCommand,
  },
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
    name: "feedback",
    summary: "record what you think of a video for the registry versions that made it",
    load: async () => (await import("./commands/registry/feedback.ts")).feedbackCommand,
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
    name: "models convert",
    summary: "rewrite weights in another layout or number format: GGUF, fp8, int8, bf16, diffusers, ComfyUI",
    load: async () => (await import("./commands/models-convert.ts")).modelsConvert,
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
    name: "registry approve",
    summary: "approve a version, as somebody other than its publisher",
    load: async () => (await import("./commands/registry/change.ts")).registryApprove,
  },
  {
    name: "registry deprecate",
    summary: "mark a version as no longer to be used",
    load: async () => (await import("./commands/registry/change.ts")).registryDeprecate,
  },
  {
    name: "registry diff",
    summary: "show what differs between two versions of a LoRA",
    load: async () => (await import("./commands/registry/look.ts")).registryDiff,
  },
  {
    name: "registry export",
    summary: "lay the registry out as files, for ComfyUI or a network share",
    load: async () => (await import("./commands/registry/manage.ts")).registryExport,
  },
  {
    name: "registry gc",
    summary: "remove files that no version refers to",
    load: async () => (await import("./commands/registry/manage.ts")).registryCollect,
  },
  {
    name: "registry init",
    summary: "create a registry in a folder or a bucket",
    load: async () => (await import("./commands/registry/publish.ts")).registryInit,
  },
  {
    name: "registry list",
    summary: "list the LoRAs of a registry",
    load: async () => (await import("./commands/registry/look.ts")).registryList,
  },
  {
    name: "registry notes",
    summary: "print the training notes of a LoRA or the changelog, or add a note",
    load: async () => (await import("./commands/registry/look.ts")).registryNotes,
  },
  {
    name: "registry people",
    summary: "show and change who may do what",
    load: async () => (await import("./commands/registry/manage.ts")).registryPeople,
  },
  {
    name: "registry promote",
    summary: "make a version the current one",
    load: async () => (await import("./commands/registry/change.ts")).registryPromote,
  },
  {
    name: "registry publish",
    summary: "publish a LoRA from a training run or from files",
    load: async () => (await import("./commands/registry/publish.ts")).registryPublish,
  },
  {
    name: "registry resolve",
    summary: "print which version a reference means",
    load: async () => (await import("./commands/registry/look.ts")).registryResolve,
  },
  {
    name: "registry review",
    summary: "sum up how versions fared in a month, and what needs a look",
    load: async () => (await import("./commands/registry/review.ts")).registryReview,
  },
  {
    name: "registry rollback",
    summary: "go back to the previous version",
    load: async () => (await import("./commands/registry/change.ts")).registryRollback,
  },
  {
    name: "registry show",
    summary: "show the versions of a LoRA and its log",
    load: async () => (await import("./commands/registry/look.ts")).registryShow,
  },
  {
    name: "registry tag",
    summary: "set the tags of a version",
    load: async () => (await import("./commands/registry/change.ts")).registryTag,
  },
  {
    name: "registry trial",
    summary: "give a version a share of the requests, or end its trial",
    load: async () => (await import("./commands/registry/change.ts")).registryTrial,
  },
  {
    name: "registry verify",
    summary: "check every event and file of a registry",
    load: async () => (await import("./commands/registry/look.ts")).registryVerify,
  },
  {
    name: "registry whoami",
    summary: "print who you are in a registry, and your role",
    load: async () => (await import("./commands/registry/manage.ts")).registryWhoAmI,
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
