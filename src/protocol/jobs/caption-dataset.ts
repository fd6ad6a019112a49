// The jobs that caption a folder: by a vision-language model, by a person's edited drafts, and what would be asked.
import { z } from "zod";
import { contract, noteEvent } from "./contract.ts";

const path = z.string().min(1);

/** How captions are written; what is checked about them: dataset/caption/settings.ts. */
const captionRequest = {
  /** Of clips and pictures. */
  folder: path,
  /** Address of a server of the OpenAI or DashScope protocol, or the name of a known one, e.g. `ollama`. */
  endpoint: z.string().optional(),
  /** The vision-language model, as the endpoint calls it. */
  model: z.string().optional(),
  /** Where the address does not tell. */
  protocol: z.string().optional(),
  /** The environment variable that holds the key; a key itself is never part of a request. */
  keyVariable: z.string().optional(),
  /** First in every caption, unchanged. */
  trigger: z.string().optional(),
  /** Between the trigger and the rest. Default: by template. */
  separator: z.string().optional(),
  /** The name of an instruction. Default `general`. */
  template: z.string().optional(),
  /** A file with an instruction of one's own. */
  templateFile: path.optional(),
  /** Added to the instruction. */
  note: z.string().optional(),
  /** All items, previous captions are kept as backups; default: those without a caption. */
  rewrite: z.boolean().optional(),
  /** Write drafts to be edited, and leave captions alone. */
  draft: z.boolean().optional(),
  /** With `rewrite`: begin anew instead of going on after an interruption. */
  restart: z.boolean().optional(),
  /** At most so many items. */
  limit: z.number().optional(),
  /** What is sent of a clip. */
  send: z.enum(["frames", "video"]).optional(),
  /** Frames of a clip, evenly sampled. */
  frames: z.number().optional(),
  /** Longest side of what is sent, pixels. */
  frameSize: z.number().optional(),
  /** Longest answer. */
  maxTokens: z.number().optional(),
  temperature: z.number().optional(),
  seed: z.number().optional(),
  /** Further fields of the request to the endpoint. */
  body: z.record(z.string(), z.json()).optional(),
  requestsPerMinute: z.number().optional(),
  concurrency: z.number().optional(),
  /** Seconds for one answer. */
  timeout: z.number().optional(),
  /** Further tries of a request that failed. */
  retries: z.number().optional(),
  /** Ending of caption files, with the dot. */
  extension: z.string().optional(),
};
export const captionRequestSchema = z.strictObject(captionRequest);
export type CaptionRequest = z.output<typeof captionRequestSchema>;

const kept = z.object({ name: z.string(), reason: z.string() });
const planned = {
  folder: z.string(),
  /** Names of the items to be captioned. */
  todo: z.array(z.string()),
  kept: z.array(kept),
  /** The instruction as the first clip and the first picture would get it. */
  prompts: z.object({ clip: z.string().optional(), picture: z.string().optional() }),
  /** An interrupted rewrite goes on. */
  resumes: z.boolean(),
};
const captioned = z.object({
  name: z.string(),
  path: z.string(),
  text: z.string(),
  /** Estimated tokens of the text encoder, and how many of them the set's model reads. */
  tokens: z.number(),
  limit: z.number(),
  warnings: z.array(z.enum(["too-long", "cut"])),
  /** Where the previous text was kept. */
  backup: z.string().optional(),
});
const failed = z.object({ name: z.string(), code: z.string(), message: z.string(), hint: z.string().optional() });
const accepted = captioned.extend({
  /** The trigger had been lost or changed in the draft. */
  triggerRestored: z.boolean(),
});

export const captionDatasetContract = contract({
  name: "caption-dataset",
  request: captionRequestSchema,
  event: z.discriminatedUnion("type", [
    noteEvent,
    z.object({ type: z.literal("plan"), ...planned }),
    z.object({
      type: z.literal("retry"),
      name: z.string(),
      attempt: z.int(),
      waitSeconds: z.number(),
      code: z.string(),
      message: z.string(),
    }),
    captioned.extend({ type: z.literal("captioned") }),
    kept.extend({ type: z.literal("kept") }),
    failed.extend({ type: z.literal("failed") }),
    z.object({
      type: z.literal("progress"),
      done: z.int(),
      total: z.int(),
      seconds: z.number(),
      etaSeconds: z.number(),
    }),
  ]),
  result: z.object({
    captioned: z.array(captioned),
    failed: z.array(failed),
    kept: z.array(kept),
    requests: z.int(),
    seconds: z.number(),
    usage: z.object({ inputTokens: z.number(), outputTokens: z.number() }),
  }),
});

export const planCaptionsContract = contract({
  name: "plan-captions",
  request: captionRequestSchema,
  event: noteEvent,
  result: z.object({ ...planned, requests: z.int() }),
});

export const acceptCaptionsContract = contract({
  name: "accept-captions",
  request: z.strictObject({
    folder: path,
    /** Of the caption files, with the dot. Default `.txt`. */
    extension: z.string().optional(),
    /** Also over existing captions, which are kept as backups. */
    overwrite: z.boolean().optional(),
    /** First in every caption. Default: the one the draft was written with. */
    trigger: z.string().optional(),
    separator: z.string().optional(),
  }),
  event: z.discriminatedUnion("type", [
    noteEvent,
    accepted.extend({ type: z.literal("accepted") }),
    kept.extend({ type: z.literal("kept") }),
  ]),
  result: z.object({ accepted: z.array(accepted), kept: z.array(kept) }),
});
