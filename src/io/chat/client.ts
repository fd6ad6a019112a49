// Asks a chat endpoint one question at a time over HTTP: timeouts, retries with back-off, a rate limit that holds
// for all callers of one client. Knows nothing of captions or prompts.
import { KinoraError } from "../../base/errors.ts";
import { nearestName } from "../../base/nearest.ts";
import type { ChatEndpoint } from "./endpoint.ts";
import { type FailedResponse, failureOf, failureOfException, mayRetry, redact } from "./failures.ts";
import { Pace, sleep } from "./pace.ts";
import { CHAT_PATH, type ChatAnswer, type ChatRequest, type Quirks, readAnswer, requestBody } from "./wire.ts";

export interface ChatClientOptions {
  endpoint: ChatEndpoint;
  /** For one request, its answer included. Node's fetch gives up after 300 whatever is asked. */
  timeoutSeconds: number;
  /** Further tries after the first. */
  retries: number;
  requestsPerMinute?: number;
  /** The first wait before a further try; each later one doubles, up to `mostBackoffSeconds`. */
  backoffSeconds?: number;
  mostBackoffSeconds?: number;
}

export interface Retry {
  /** 1 for the first further try. */
  attempt: number;
  waitSeconds: number;
  error: KinoraError;
}

export interface CompleteOptions {
  signal?: AbortSignal;
  onRetry?(retry: Retry): void;
}

/** A server may ask for patience, not for the day. */
const mostRetryAfterSeconds = 900;

/** Seconds the server asks to wait, from Retry-After (seconds or a date) or retry-after-ms. */
export function retryAfterSeconds(headers: Headers, now = Date.now()): number | undefined {
  const milliseconds = Number.parseFloat(headers.get("retry-after-ms") ?? "");
  if (milliseconds >= 0) return milliseconds / 1000;
  const value = headers.get("retry-after")?.trim();
  if (!value) return undefined;
  if (/^\d+(\.\d+)?$/.test(value)) return Number.parseFloat(value);
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, (date - now) / 1000);
}

/** Full exponential growth, with up to half of it taken off at random so that parallel callers spread out. */
export function backoff(attempt: number, first: number, most: number, random: number): number {
  return Math.min(most, first * 2 ** (attempt - 1)) * (1 - random / 2);
}

/** More than any answer has, thoughts and all. */
const mostAnswerBytes = 8 << 20;

/** The body as text; undefined, and no longer read, where it is too large. */
async function boundedText(response: Response): Promise<string | undefined> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.length;
    // Leaving the loop ends the connection.
    if (size > mostAnswerBytes) return undefined;
    chunks.push(chunk);
  }
  return new TextDecoder().decode(Buffer.concat(chunks));
}

interface Failure {
  error: KinoraError;
  waitSeconds?: number;
}

export class ChatClient {
  readonly #options: ChatClientOptions;
  readonly #pace: Pace;
  readonly #quirks: Quirks = {};
  #answered = false;

  constructor(options: ChatClientOptions) {
    this.#options = options;
    this.#pace = new Pace(options.requestsPerMinute);
  }

  /** Requests sent so far, further tries included. */
  requests = 0;

  /**
   * One answer. Errors: the codes of failures.ts; aborting `signal` rejects with its reason.
   * An endpoint that never answered and cannot be reached gets one further try only.
   */
  async complete(request: ChatRequest, { signal, onRetry }: CompleteOptions = {}): Promise<ChatAnswer> {
    const { retries, backoffSeconds = 1, mostBackoffSeconds = 60 } = this.#options;
    for (let attempt = 1; ; attempt++) {
      await this.#pace.turn(signal);
      const result = await this.#once(request, signal);
      if ("text" in result) return result;
      const { error } = result;
      const most = error.code === "chat.unreachable" && !this.#answered ? Math.min(1, retries) : retries;
      if (!mayRetry(error) || attempt > most) throw error;
      if ((result.waitSeconds ?? 0) > mostRetryAfterSeconds)
        throw new KinoraError(
          error.code,
          `${error.message}; it asks to wait ${Math.round(result.waitSeconds ?? 0)} s`,
          {
            hint: "run the same command again later: finished work is kept",
          },
        );
      const waitSeconds = result.waitSeconds ?? backoff(attempt, backoffSeconds, mostBackoffSeconds, Math.random());
      if (result.waitSeconds !== undefined) this.#pace.pause(waitSeconds * 1000);
      onRetry?.({ attempt, waitSeconds, error });
      await sleep(waitSeconds * 1000, signal);
    }
  }

  async #once(request: ChatRequest, signal: AbortSignal | undefined): Promise<ChatAnswer | Failure> {
    const { endpoint } = this.#options;
    for (;;) {
      const body = requestBody(request, this.#quirks, endpoint.protocol);
      const response = await this.#send(CHAT_PATH, JSON.stringify(body), signal);
      if ("error" in response) return response;
      const { status, headers } = response;
      this.#answered = true;
      if (status === 400 && this.#learn(response.body)) continue;
      const waitSeconds = retryAfterSeconds(headers);
      const failure = (error: KinoraError): Failure => ({
        error,
        ...(waitSeconds === undefined ? {} : { waitSeconds }),
      });
      if (status !== 200) return failure(failureOf(response, endpoint, request.model));
      let json: unknown;
      try {
        json = JSON.parse(response.body);
      } catch {
        json = undefined;
      }
      const answer = readAnswer(json);
      if (answer) return answer;
      // Some gateways put an error into a 200.
      const fields = json !== null && typeof json === "object" ? (json as Record<string, unknown>) : {};
      if (fields.error || fields.code) return failure(failureOf(response, endpoint, request.model));
      return failure(
        new KinoraError("chat.malformed-answer", `${endpoint.url} did not answer as the protocol requires`, {
          actual: redact(response.body.slice(0, 1000), endpoint.key, 120) || "an empty body",
          hint: "check that this is an OpenAI-compatible server; most addresses end in /v1",
        }),
      );
    }
  }

  /** Takes note of a parameter this model does not take; true where sending again makes sense. */
  #learn(body: string): boolean {
    if (!this.#quirks.completionTokens && /max_completion_tokens/.test(body)) {
      this.#quirks.completionTokens = true;
      return true;
    }
    if (
      !this.#quirks.fixedTemperature &&
      /temperature/i.test(body) &&
      /unsupported|not support|only the default/i.test(body)
    ) {
      this.#quirks.fixedTemperature = true;
      return true;
    }
    return false;
  }

  async #send(
    path: string,
    body: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<FailedResponse | Failure> {
    const { endpoint, timeoutSeconds } = this.#options;
    const timeout = AbortSignal.timeout(timeoutSeconds * 1000);
    this.requests++;
    try {
      const response = await fetch(endpoint.url + path, {
        method: body === undefined ? "GET" : "POST",
        headers: {
          accept: "application/json",
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...(endpoint.key === undefined ? {} : { authorization: `Bearer ${endpoint.key}` }),
        },
        ...(body === undefined ? {} : { body }),
        // A redirected POST loses its body or carries the key elsewhere; neither is wanted.
        redirect: "manual",
        signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      });
      const text = await boundedText(response);
      if (text !== undefined) return { status: response.status, headers: response.headers, body: text };
      return {
        error: new KinoraError("chat.answer-too-large", `${endpoint.url} sends an endless answer`, {
          expected: `at most ${mostAnswerBytes >> 20} MB`,
          hint: "check that this is an OpenAI-compatible server; most addresses end in /v1",
        }),
      };
    } catch (error) {
      signal?.throwIfAborted();
      return { error: failureOfException(error, endpoint, timeoutSeconds) };
    }
  }

  /** Names of the models the endpoint offers; empty where it does not tell. */
  async models(signal?: AbortSignal): Promise<string[]> {
    const response = await this.#send("/models", undefined, signal);
    if ("error" in response || response.status !== 200) return [];
    try {
      const { data } = JSON.parse(response.body) as { data?: unknown };
      return Array.isArray(data)
        ? data.slice(0, 1000).flatMap((row: { id?: unknown } | null) => (typeof row?.id === "string" ? row.id : []))
        : [];
    } catch {
      return [];
    }
  }

  /** `error` with the models there are as its hint, where it says that the model is unknown. */
  async withKnownModels(error: KinoraError, model: string, signal?: AbortSignal): Promise<KinoraError> {
    if (error.code !== "chat.model-not-found") return error;
    const names = await this.models(signal);
    if (names.length === 0) return error;
    const near = nearestName(model, names);
    const list = names.slice(0, 12).join(", ") + (names.length > 12 ? ", …" : "");
    return new KinoraError(error.code, error.message, {
      hint: `${near ? `did you mean ${near}? ` : ""}it has ${list}`,
    });
  }
}
