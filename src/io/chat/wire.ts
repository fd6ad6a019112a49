// How one question with pictures or a clip is put on the wire, and how the answer is read back: the OpenAI chat protocol
// (Ollama, vLLM, LM Studio, OpenAI), and DashScope's OpenAI-compatible mode, which takes frames as one clip.
// Pure data in, pure data out: no network here.
import { z } from "zod";

export const chatProtocols = ["openai", "dashscope"] as const;
export type ChatProtocol = (typeof chatProtocols)[number];

export type ChatPart =
  | { type: "text"; text: string }
  /** One picture; `bytes` is the encoded file. */
  | { type: "picture"; bytes: Uint8Array; mime: string }
  /** A clip as pictures in order, `fps` of them per second of the clip. */
  | { type: "frames"; frames: readonly Uint8Array[]; mime: string; fps: number }
  /** A whole video file; `fps` is how densely the service should look at it, where it can be told. */
  | { type: "video"; bytes: Uint8Array; mime: string; fps?: number };

export interface ChatRequest {
  model: string;
  parts: readonly ChatPart[];
  maxTokens?: number;
  temperature?: number;
  seed?: number;
  /** Fields added to the request as they are. */
  extra?: Readonly<Record<string, unknown>>;
}

export interface ChatAnswer {
  text: string;
  /** `length`: cut at the token limit. `refused`: the model or a filter declined, `refusal` may say why. */
  finish: "stop" | "length" | "refused";
  refusal?: string;
  /** Tokens, where the service tells. */
  usage?: { input: number; output: number };
}

/** What an endpoint turned out not to take, learnt from its first refusal. */
export interface Quirks {
  /** Newer OpenAI models want `max_completion_tokens`. */
  completionTokens?: boolean;
  /** Reasoning models take only their own temperature. */
  fixedTemperature?: boolean;
}

/** DashScope takes a list of frames as a clip from four on; fewer go as single pictures. */
const leastFramesOfClip = 4;

function dataUri(bytes: Uint8Array, mime: string): string {
  return `data:${mime};base64,${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64")}`;
}

function pictureOf(bytes: Uint8Array, mime: string) {
  return { type: "image_url", image_url: { url: dataUri(bytes, mime) } };
}

function contentOf(part: ChatPart, dashscope: boolean): Record<string, unknown>[] {
  switch (part.type) {
    case "text":
      return [{ type: "text", text: part.text }];
    case "picture":
      return [pictureOf(part.bytes, part.mime)];
    case "frames":
      if (dashscope && part.frames.length >= leastFramesOfClip)
        return [{ type: "video", video: part.frames.map((frame) => dataUri(frame, part.mime)), fps: part.fps }];
      return part.frames.map((frame) => pictureOf(frame, part.mime));
    case "video":
      return [
        {
          type: "video_url",
          video_url: { url: dataUri(part.bytes, part.mime) },
          ...(dashscope && part.fps !== undefined ? { fps: part.fps } : {}),
        },
      ];
  }
}

/** The path of the protocol, appended to an endpoint's base address. */
export const CHAT_PATH = "/chat/completions";

/**
 * The body of a request. How DashScope takes clips (frames as `video` lists, `fps`, data URIs):
 * https://www.alibabacloud.com/help/en/model-studio/vision
 */
export function requestBody(request: ChatRequest, quirks: Quirks, protocol: ChatProtocol): Record<string, unknown> {
  const { model, parts, maxTokens, temperature, seed, extra } = request;
  return {
    model,
    messages: [{ role: "user", content: parts.flatMap((part) => contentOf(part, protocol === "dashscope")) }],
    stream: false,
    ...(maxTokens !== undefined
      ? { [quirks.completionTokens ? "max_completion_tokens" : "max_tokens"]: maxTokens }
      : {}),
    ...(temperature !== undefined && !quirks.fixedTemperature ? { temperature } : {}),
    ...(seed !== undefined ? { seed } : {}),
    ...extra,
  };
}

/** Content is a string, or parts of which the text ones count. */
const contentSchema = z
  .union([z.string(), z.array(z.looseObject({ text: z.string().nullish() }))])
  .nullish()
  .transform((content) =>
    typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? "").join(""),
  );

const answerSchema = z.looseObject({
  choices: z
    .array(
      z.looseObject({
        finish_reason: z.string().nullish(),
        message: z.looseObject({ content: contentSchema, refusal: z.string().nullish() }),
      }),
    )
    .min(1),
  usage: z.looseObject({ prompt_tokens: z.number().nullish(), completion_tokens: z.number().nullish() }).nullish(),
});

function finishOf(reason: string | null | undefined, refusal: string | null | undefined): ChatAnswer["finish"] {
  if (refusal || reason === "content_filter") return "refused";
  return reason === "length" ? "length" : "stop";
}

function usageOf(input: number | null | undefined, output: number | null | undefined) {
  return input == null && output == null ? {} : { usage: { input: input ?? 0, output: output ?? 0 } };
}

/** Undefined where `json` is no answer of the protocol. */
export function readAnswer(json: unknown): ChatAnswer | undefined {
  const parsed = answerSchema.safeParse(json);
  if (!parsed.success) return undefined;
  const { finish_reason: reason, message } = parsed.data.choices[0]!;
  return {
    text: message.content,
    finish: finishOf(reason, message.refusal),
    ...(message.refusal ? { refusal: message.refusal } : {}),
    ...usageOf(parsed.data.usage?.prompt_tokens, parsed.data.usage?.completion_tokens),
  };
}
