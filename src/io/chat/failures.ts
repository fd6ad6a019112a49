// What can go wrong between us and a chat endpoint, and what each failure means: try again, give this question up,
// or stop altogether. Texts of the server are quoted short and with everything that looks like a key blotted out.
import { KinoraError } from "../../base/errors.ts";
import type { ChatEndpoint } from "./endpoint.ts";
import { CHAT_PATH } from "./wire.ts";

interface FailureRow {
  /** The same request may succeed later. */
  retry: boolean;
  /** Every other request would fail the same way. */
  endpoint: boolean;
}

const failureRows = {
  "chat.unreachable": { retry: true, endpoint: true },
  "chat.connection-lost": { retry: true, endpoint: false },
  "chat.timeout": { retry: true, endpoint: false },
  "chat.rate-limited": { retry: true, endpoint: false },
  "chat.server-error": { retry: true, endpoint: false },
  "chat.malformed-answer": { retry: true, endpoint: false },
  "chat.answer-too-large": { retry: false, endpoint: true },
  "chat.unauthorized": { retry: false, endpoint: true },
  "chat.quota": { retry: false, endpoint: true },
  "chat.model-not-found": { retry: false, endpoint: true },
  "chat.wrong-endpoint": { retry: false, endpoint: true },
  "chat.no-vision": { retry: false, endpoint: true },
  "chat.too-large": { retry: false, endpoint: false },
  "chat.refused": { retry: false, endpoint: false },
  "chat.bad-request": { retry: false, endpoint: false },
} as const satisfies Record<string, FailureRow>;

export type ChatFailureCode = keyof typeof failureRows;

function rowOf(error: unknown): FailureRow | undefined {
  return error instanceof KinoraError ? (failureRows as Record<string, FailureRow>)[error.code] : undefined;
}

export const mayRetry = (error: unknown): boolean => rowOf(error)?.retry ?? false;

/** Whether going on with other questions is pointless. */
export const stopsEverything = (error: unknown): boolean => rowOf(error)?.endpoint ?? false;

/** `text` on one line, at most `most` characters, with the key and whatever looks like one replaced by ***. */
export function redact(text: string, key: string | undefined, most = 300): string {
  const hidden = (key ? text.replaceAll(key, "***") : text)
    .replace(/\bsk-[A-Za-z0-9*_.-]{4,}/g, "***")
    .replace(/\bBearer\s+\S+/gi, "Bearer ***")
    .replace(/\s+/g, " ")
    .trim();
  return hidden.length > most ? `${hidden.slice(0, most - 1)}…` : hidden;
}

/** So much of a server's words is looked at. */
const WORDS = 4000;

/** The server's own words and code: OpenAI's `error`, DashScope's flat form, FastAPI's `detail`, or the text. */
export function serverWords(body: string): { code: string; message: string } {
  let json: unknown;
  try {
    json = JSON.parse(body);
  } catch {
    return { code: "", message: body.slice(0, WORDS) };
  }
  const record = (value: unknown) =>
    value !== null && typeof value === "object" ? (value as Record<string, unknown>) : {};
  const outer = record(json);
  const inner = typeof outer.error === "string" ? { message: outer.error } : record(outer.error ?? json);
  const text = (value: unknown) => (typeof value === "string" || typeof value === "number" ? String(value) : "");
  return {
    code: (text(inner.code) || text(inner.type)).slice(0, 200),
    message: (text(inner.message) || text(inner.detail) || text(outer.message) || (outer === inner ? body : "")).slice(
      0,
      WORDS,
    ),
  };
}

function kindOf(status: number, code: string, message: string): ChatFailureCode {
  if (/insufficient_quota|insufficient balance|arrearage|billing_hard_limit/i.test(`${code} ${message}`))
    return "chat.quota";
  if (/data_?inspection_?failed|content_policy|content_filter/i.test(code)) return "chat.refused";
  if (/model_?not_?found|model.{0,80}(not found|not exist|does not exist)/i.test(`${code} ${message}`))
    return "chat.model-not-found";
  if (status === 401 || status === 403) return "chat.unauthorized";
  if (status === 402) return "chat.quota";
  if (status === 404 || status === 405 || (status >= 300 && status < 400)) return "chat.wrong-endpoint";
  if (status === 408 || status === 504) return "chat.timeout";
  if (status === 429 || /^throttling/i.test(code)) return "chat.rate-limited";
  if (status >= 500 || status === 425) return "chat.server-error";
  if (
    status === 413 ||
    /context.?length|maximum context|too (large|long|many images)|exceed\w* .{0,40}(limit|size|length|tokens)/i.test(
      message,
    )
  )
    return "chat.too-large";
  if (
    /(not|n't) (support|accept|have).{0,60}(image|vision|multi-?modal|video)|not a (multi-?modal|vision)|missing data required for image/i.test(
      message,
    )
  )
    return "chat.no-vision";
  return "chat.bad-request";
}

/** Where a redirect leads, without what may be secret in it. Redirects are not followed: they would carry the key along. */
function movedTo(location: string | null, endpoint: ChatEndpoint): string | undefined {
  if (location === null || !URL.canParse(location, endpoint.url)) return undefined;
  const { origin, pathname, protocol } = new URL(location, endpoint.url);
  return /^https?:$/.test(protocol)
    ? redact(`${origin}${pathname.replace(CHAT_PATH, "")}`, endpoint.key, 200)
    : undefined;
}

/** A response that is no answer. */
export interface FailedResponse {
  status: number;
  body: string;
  headers: Headers;
}

/** The failure that such a response stands for. */
export function failureOf(
  { status, body, headers }: FailedResponse,
  endpoint: ChatEndpoint,
  model: string,
): KinoraError {
  const moved = status >= 300 && status < 400 ? movedTo(headers.get("location"), endpoint) : undefined;
  const { code, message } = serverWords(body);
  const kind = kindOf(status, code, message);
  const said = redact([code, message].filter(Boolean).join(": "), endpoint.key);
  const actual = `HTTP ${status}${said ? ` (${said})` : ""}`;
  const where = endpoint.url;
  const keyNames = endpoint.keyVariables.join(" or ");
  switch (kind) {
    case "chat.unauthorized":
      return new KinoraError(kind, endpoint.key ? `${where} rejected the API key` : `${where} wants a key`, {
        // Some services echo the key they were given: of their words only the code is repeated.
        actual: `HTTP ${status}${code ? ` (${redact(code, endpoint.key, 60)})` : ""}`,
        hint: keyNames
          ? `set ${keyNames}, or name another variable with \`keyVariable\``
          : "name the key's variable with `keyVariable`",
      });
    case "chat.quota":
      return new KinoraError(kind, `the account at ${where} is out of credit`, {
        actual,
        hint: "add credit, or choose another `endpoint`",
      });
    case "chat.model-not-found":
      return new KinoraError(kind, `${where} has no model "${model}"`, { actual, hint: "choose one with `model`" });
    case "chat.wrong-endpoint":
      return new KinoraError(kind, `${where} does not speak this protocol`, {
        actual,
        hint: moved
          ? `it redirects to ${moved}: use that address if you trust it`
          : "most addresses end in /v1, e.g. http://127.0.0.1:11434/v1",
      });
    case "chat.no-vision":
      return new KinoraError(kind, `the model "${model}" at ${where} does not accept pictures or video in this form`, {
        actual,
        hint: "choose a vision-language model (e.g. Qwen2.5-VL), or send frames instead of video",
      });
    case "chat.too-large":
      return new KinoraError(kind, "the request is too large for the endpoint", {
        actual,
        hint: "send fewer or smaller frames (`frames`, `frameSize`), or give the server a longer context",
      });
    case "chat.refused":
      return new KinoraError(kind, "the service's content filter declined this item", {
        actual,
        hint: "caption it by hand, or with another model",
      });
    case "chat.rate-limited":
      return new KinoraError(kind, `${where} limits the rate of requests`, {
        actual,
        hint: "lower `requestsPerMinute` or `concurrency`",
      });
    case "chat.timeout":
      return new KinoraError(kind, `${where} timed out`, {
        actual,
        hint: "raise `timeout` or lower `concurrency`",
      });
    case "chat.server-error":
      return new KinoraError(kind, `${where} failed`, {
        actual,
        hint: "the service has a problem of its own: try again later",
      });
    default:
      return new KinoraError("chat.bad-request", `${where} rejected the request`, {
        actual,
        hint: "check that it is an OpenAI-compatible endpoint and that the model takes pictures; its answer is above",
      });
  }
}

/** Error codes of sockets and name look-up that mean: nobody is there. */
const nobodyThere = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
]);

/** The failure an exception of `fetch` stands for. */
export function failureOfException(error: unknown, endpoint: ChatEndpoint, timeoutSeconds: number): KinoraError {
  const where = endpoint.url;
  const cause = error instanceof Error ? error.cause : undefined;
  const code = cause !== null && typeof cause === "object" && "code" in cause ? String(cause.code) : "";
  const name = error instanceof Error ? error.name : "";
  if (name === "TimeoutError" || code === "UND_ERR_HEADERS_TIMEOUT" || code === "UND_ERR_BODY_TIMEOUT")
    return new KinoraError("chat.timeout", `${where} did not answer within ${timeoutSeconds} s`, {
      hint: "raise `timeout`, lower `concurrency`, or choose a smaller model",
    });
  if (nobodyThere.has(code))
    return new KinoraError("chat.unreachable", `nothing answers at ${where}`, {
      actual: code,
      hint: "check that the server is running and the address is right",
    });
  if (/CERT|TLS|SSL/.test(code))
    return new KinoraError("chat.wrong-endpoint", `no secure connection to ${where}`, {
      actual: code,
      hint: "check the address (http or https) and its certificate",
    });
  const detail = cause instanceof Error ? cause.message : error instanceof Error ? error.message : String(error);
  return new KinoraError("chat.connection-lost", `the connection to ${where} was interrupted`, {
    actual: redact(code || detail, endpoint.key),
    hint: "check the network and try again",
  });
}
