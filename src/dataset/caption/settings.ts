// Everything that decides how a folder is captioned, as plain values, and what is checked about them.
import { createHash } from "node:crypto";
import { KinoraError } from "../../base/errors.ts";
import type { ChatEndpoint } from "../../io/chat/endpoint.ts";
import type { PromptTemplate } from "./templates.ts";

/** Every setting of captioning. */
export interface CaptionSettings {
  folder: string;
  endpoint: ChatEndpoint;
  model: string;
  template: PromptTemplate;
  /** First in every caption, as it is; empty for none. */
  trigger: string;
  /** Between the trigger and the rest; the template's where absent. */
  separator?: string;
  /** Put into the instruction, e.g. who is to be seen. */
  note: string;
  /** `missing`: items without a caption and without a draft. `rewrite`: all, previous texts are kept as backups. */
  mode: "missing" | "rewrite";
  /** Write `.draft.txt` for a person to edit, and leave captions alone. */
  draft: boolean;
  send: "frames" | "video";
  /** Frames of a clip. */
  frames: number;
  /** Longest side of what is sent, pixels. */
  side: number;
  maxTokens: number;
  temperature: number;
  seed?: number;
  /** Further fields of the request. */
  extra?: Readonly<Record<string, unknown>>;
  timeoutSeconds: number;
  retries: number;
  backoffSeconds?: number;
  requestsPerMinute?: number;
  concurrency: number;
  /** Ending of caption files, with the dot. */
  extension: string;
  /** At most this many items, to try an instruction out. */
  limit?: number;
  /** Begin a rewrite anew where an interrupted one could go on. */
  restart?: boolean;
}

/** The caption settings that have a default. */
export const captionDefaults = {
  note: "",
  trigger: "",
  mode: "missing",
  draft: false,
  send: "frames",
  frames: 8,
  side: 768,
  maxTokens: 1024,
  temperature: 0.2,
  timeoutSeconds: 180,
  retries: 5,
  concurrency: 2,
  extension: ".txt",
} as const satisfies Partial<CaptionSettings>;

/** @throws KinoraError `caption.bad-setting`. */
export function checkSettings(settings: CaptionSettings): void {
  const bad = (what: string, expected: string, actual: unknown) => {
    throw new KinoraError("caption.bad-setting", `${what} cannot be used`, {
      expected,
      actual: String(actual),
      hint: "see kinora dataset caption --help",
    });
  };
  const whole = (what: string, value: number, least: number, most: number) => {
    if (!Number.isInteger(value) || value < least || value > most)
      bad(what, `a whole number from ${least} to ${most}`, value);
  };
  whole("the number of frames", settings.frames, 1, 256);
  whole("the frame size", settings.side, 32, 4096);
  whole("the number of tokens", settings.maxTokens, 16, 1_000_000);
  whole("the number of retries", settings.retries, 0, 100);
  whole("the concurrency", settings.concurrency, 1, 64);
  if (settings.limit !== undefined) whole("the limit", settings.limit, 1, Number.MAX_SAFE_INTEGER);
  // Node's fetch waits 300 seconds for an answer to begin, whatever is asked.
  if (!(settings.timeoutSeconds > 0 && settings.timeoutSeconds <= 300))
    bad("the timeout", "more than 0 and at most 300 seconds", settings.timeoutSeconds);
  if (settings.requestsPerMinute !== undefined && !(settings.requestsPerMinute > 0))
    bad("the rate", "more than 0 requests a minute", settings.requestsPerMinute);
  if (!(settings.temperature >= 0 && settings.temperature <= 2)) bad("the temperature", "0 to 2", settings.temperature);
  if (!settings.model.trim()) bad("the model's name", "a name", '""');
  if (/[\r\n]/.test(settings.trigger)) bad("the trigger phrase", "one line", JSON.stringify(settings.trigger));
  if (!/^\.[^/\\]+$/.test(settings.extension)) bad("the caption extension", "e.g. .txt", settings.extension);
}

/** Hash of what decides the texts: an interrupted rewrite goes on only where nothing of this changed. */
export function settingsHash(settings: CaptionSettings): string {
  const { endpoint, model, template, trigger, separator, note, draft, send, frames, side, extension } = settings;
  const { temperature, seed, extra } = settings;
  const decisive = [endpoint.url, endpoint.protocol, model, template.clip, template.picture, trigger, separator, note];
  return createHash("sha256")
    .update(JSON.stringify([...decisive, draft, send, frames, side, extension, temperature, seed, extra]))
    .digest("hex");
}
