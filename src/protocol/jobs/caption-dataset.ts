// The jobs that caption a folder: by a vision-language model, by a person's edited drafts, and what would be asked.
import { z } from "zod";
import { requestPath as path } from "../config-values.ts";
import { contract, noteEvent, requestOf } from "./contract.ts";

/** How captions are written; what is checked about it: dataset/caption/settings.ts. */
export interface CaptionRequest {
  /** Of clips and pictures. */
  folder: string;
  /** Address of a server of the OpenAI chat protocol, or the name of a known one, e.g. `ollama`. */
  endpoint?: string | undefined;
  /** The vision-language model, as the endpoint calls it. */
  model?: string | undefined;
  /** Where the address does not say. */
  protocol?: string | undefined;
  /** The environment variable that holds the key; a key itself is never part of a request. */
  keyVariable?: string | undefined;
  /** First in every caption, unchanged. */
  trigger?: string | undefined;
  /** Between the trigger and the rest. Default: by template. */
  separator?: string | undefined;
  /** The name of an instruction. */
  template?: string | undefined;
  /** A file with an instruction of one's own. */
  templateFile?: string | undefined;
  /** Added to the instruction. */
  note?: string | undefined;
  /** All items, previous captions are kept as backups; default: those without a caption. */
  rewrite?: boolean | undefined;
  /** Write drafts to be edited, and leave captions alone. */
  draft?: boolean | undefined;
  /** With `rewrite`: start over instead of resuming after an interruption. */
  restart?: boolean | undefined;
  /** The most items to caption. */
  limit?: number | undefined;
  /** What is sent of a clip. */
  send?: "frames" | "video" | undefined;
  /** Frames of a clip, evenly sampled. */
  frames?: number | undefined;
  /** Longest side of what is sent, pixels. */
  frameSize?: number | undefined;
  /** Longest answer. */
  maxTokens?: number | undefined;
  temperature?: number | undefined;
  seed?: number | undefined;
  /** Further fields of the request to the endpoint. */
  body?: Record<string, z.core.util.JSONType> | undefined;
  requestsPerMinute?: number | undefined;
  /** Requests at once. */
  concurrency?: number | undefined;
  /** Seconds for one answer. */
  timeout?: number | undefined;
  /** Further tries of a request that failed. */
  retries?: number | undefined;
  /** Ending of caption files, with the dot. */
  extension?: string | undefined;
}

export const captionRequestSchema = requestOf<CaptionRequest>()(
  z.strictObject({
    folder: path,
    endpoint: z.string().optional(),
    model: z.string().optional(),
    protocol: z.string().optional(),
    keyVariable: z.string().optional(),
    trigger: z.string().optional(),
    separator: z.string().optional(),
    template: z.string().optional(),
    templateFile: path.optional(),
    note: z.string().optional(),
    rewrite: z.boolean().optional(),
    draft: z.boolean().optional(),
    restart: z.boolean().optional(),
    limit: z.number().optional(),
    send: z.enum(["frames", "video"]).optional(),
    frames: z.number().optional(),
    frameSize: z.number().optional(),
    maxTokens: z.number().optional(),
    temperature: z.number().optional(),
    seed: z.number().optional(),
    body: z.record(z.string(), z.json()).optional(),
    requestsPerMinute: z.number().optional(),
    concurrency: z.number().optional(),
    timeout: z.number().optional(),
    retries: z.number().optional(),
    extension: z.string().optional(),
  }),
);

/** Drafts to turn into captions. */
export interface AcceptCaptionsRequest {
  folder: string;
  /** Of the caption files, with the dot. Default `.txt`. */
  extension?: string | undefined;
  /** Also over existing captions, which are kept as backups. */
  overwrite?: boolean | undefined;
  /** First in every caption. Default: the one the draft was written with. */
  trigger?: string | undefined;
  separator?: string | undefined;
}

const kept = z.object({ name: z.string(), reason: z.string() });
const planned = {
  folder: z.string(),
  /** Names of the items to be captioned. */
  todo: z.array(z.string()),
  kept: z.array(kept),
  /** The instruction as the first clip and the first picture would get it. */
  prompts: z.object({ clip: z.string().optional(), picture: z.string().optional() }),
  /** An interrupted rewrite resumes. */
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

/** The job that captions a folder. */
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

/** The job that says what captioning would ask. */
export const planCaptionsContract = contract({
  name: "plan-captions",
  request: captionRequestSchema,
  event: noteEvent,
  result: z.object({ ...planned, requests: z.int() }),
});

/** The job that turns edited drafts into captions. */
export const acceptCaptionsContract = contract({
  name: "accept-captions",
  request: requestOf<AcceptCaptionsRequest>()(
    z.strictObject({
      folder: path,
      extension: z.string().optional(),
      overwrite: z.boolean().optional(),
      trigger: z.string().optional(),
      separator: z.string().optional(),
    }),
  ),
  event: z.discriminatedUnion("type", [
    noteEvent,
    accepted.extend({ type: z.literal("accepted") }),
    kept.extend({ type: z.literal("kept") }),
  ]),
  result: z.object({ accepted: z.array(accepted), kept: z.array(kept) }),
});
