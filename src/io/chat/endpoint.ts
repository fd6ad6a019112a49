// Where questions go and with which key: known services by name, any other by its address.
// Keys come from the environment only and never reach a message, a log or a file.
import { KinoraError } from "../../base/errors.ts";
import { nearestName } from "../../base/nearest.ts";
import type { ChatProtocol } from "./wire.ts";

export interface ChatEndpoint {
  /** Base address without a trailing slash; the protocol's path is appended. */
  url: string;
  protocol: ChatProtocol;
  /** Sent as a bearer token. */
  key?: string;
  /** Where a key for this endpoint is looked for, for hints. */
  keyVariables: readonly string[];
}

interface KnownEndpoint {
  url: string;
  protocol: ChatProtocol;
  keys: readonly string[];
}

const openaiKeys = ["OPENAI_API_KEY"];
// DASH_API_KEY is the name the official Wan code reads.
const dashscopeKeys = ["DASHSCOPE_API_KEY", "DASH_API_KEY"];

/** Services one can name instead of giving an address. */
export const knownEndpoints: Readonly<Record<string, KnownEndpoint>> = {
  ollama: { url: "http://127.0.0.1:11434/v1", protocol: "openai", keys: [] },
  lmstudio: { url: "http://127.0.0.1:1234/v1", protocol: "openai", keys: [] },
  vllm: { url: "http://127.0.0.1:8000/v1", protocol: "openai", keys: openaiKeys },
  openai: { url: "https://api.openai.com/v1", protocol: "openai", keys: openaiKeys },
  dashscope: { url: "https://dashscope.aliyuncs.com/compatible-mode/v1", protocol: "dashscope", keys: dashscopeKeys },
  "dashscope-intl": {
    url: "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
    protocol: "dashscope",
    keys: dashscopeKeys,
  },
};

function isLoopback(host: string): boolean {
  return host === "localhost" || host.endsWith(".localhost") || host === "[::1]" || /^127(\.\d+){3}$/.test(host);
}

const isAlibaba = (url: URL): boolean => url.hostname.endsWith(".aliyuncs.com");

/** Addresses of DashScope's own protocol, which is not spoken here. */
const isNative = (url: URL): boolean =>
  /\/services\/aigc\//.test(url.pathname) || (isAlibaba(url) && /^\/api\/v1(\/|$)/.test(url.pathname));

/** The part of an address a person pastes too much of: the protocol's own path is cut off again. */
function baseOf(url: URL): string {
  return url.origin + url.pathname.replace(/\/+$/, "").replace(/\/chat\/completions$/, "");
}

function readKey(name: string, environment: Readonly<Record<string, string | undefined>>): string | undefined {
  const key = environment[name]?.trim();
  if (!key) return undefined;
  // Anything else cannot stand in a header, and the error of the HTTP library would print it.
  if (!/^[\x21-\x7e]+$/.test(key))
    throw new KinoraError("chat.bad-key", `the key in ${name} contains invalid characters`, {
      hint: `set ${name} again, without spaces, quotes or line breaks inside`,
    });
  return key;
}

export interface EndpointChoice {
  /** A name of `knownEndpoints`, or an http(s) address. */
  endpoint: string;
  /** Overrides what the address suggests. */
  protocol?: ChatProtocol;
  /** The environment variable with the key; overrides the service's own names. */
  keyVariable?: string;
  /** Nothing will be sent, so a missing key is no matter. */
  withoutKey?: boolean;
}

/**
 * Resolves a name or an address, with the key of `environment`. Without `keyVariable`, a key goes only where it
 * belongs: DashScope's to *.aliyuncs.com, OPENAI_API_KEY to https and to this machine, never in clear over a network.
 * Errors: `chat.bad-endpoint`, `chat.missing-key`, `chat.bad-key`.
 */
export function resolveEndpoint(
  choice: EndpointChoice,
  environment: Readonly<Record<string, string | undefined>>,
): ChatEndpoint {
  const known = knownEndpoints[choice.endpoint];
  // The official Wan code lets DASH_API_URL move DashScope's own address; the compatible mode is on the same host.
  const moved =
    choice.endpoint === "dashscope"
      ? environment.DASH_API_URL?.trim().replace(/\/api\/v1\/?$/, "/compatible-mode/v1")
      : undefined;
  const address = moved || known?.url || choice.endpoint;
  if (!/^https?:\/\//i.test(address)) {
    const near = nearestName(address, Object.keys(knownEndpoints));
    throw new KinoraError("chat.bad-endpoint", `unknown endpoint "${address}"`, {
      expected: `an http(s) address or one of ${Object.keys(knownEndpoints).join(", ")}`,
      hint: near ? `did you mean ${near}?` : "e.g. http://127.0.0.1:11434/v1",
    });
  }
  if (!URL.canParse(address))
    throw new KinoraError("chat.bad-endpoint", "the endpoint's address is invalid", {
      hint: "it looks like http://localhost:11434/v1",
    });
  const url = new URL(address);
  if (url.username || url.password || url.search)
    throw new KinoraError("chat.bad-endpoint", `the endpoint's address at ${url.host} carries credentials or a query`, {
      hint: "put the key in an environment variable and name it with `keyVariable`",
    });
  if (isNative(url))
    throw new KinoraError(
      "chat.bad-endpoint",
      `${url.origin}${url.pathname} is an address of DashScope's own protocol`,
      {
        expected: "its OpenAI-compatible mode, which is equivalent",
        hint: `use ${isAlibaba(url) ? `${url.origin}/compatible-mode/v1` : "dashscope"}, with the same key`,
      },
    );
  const protocol = choice.protocol ?? known?.protocol ?? (isAlibaba(url) ? "dashscope" : "openai");
  const base = { url: baseOf(url), protocol };
  if (choice.withoutKey) return { ...base, keyVariables: [] };

  if (choice.keyVariable !== undefined) {
    const key = readKey(choice.keyVariable, environment);
    if (key === undefined)
      throw new KinoraError("chat.missing-key", `the environment variable ${choice.keyVariable} is empty or not set`, {
        hint: "set it to the key of your account",
      });
    return { ...base, key, keyVariables: [choice.keyVariable] };
  }
  const keyVariables = known?.keys ?? (isAlibaba(url) || protocol === "dashscope" ? dashscopeKeys : openaiKeys);
  const key =
    url.protocol === "https:" || isLoopback(url.hostname)
      ? keyVariables.map((name) => readKey(name, environment)).find((value) => value !== undefined)
      : undefined;
  if (key === undefined && known && known.keys.length > 0 && url.protocol === "https:")
    throw new KinoraError("chat.missing-key", `${choice.endpoint} needs a key`, {
      hint: `set ${keyVariables.join(" or ")}, or name another variable with \`keyVariable\``,
    });
  return { ...base, ...(key === undefined ? {} : { key }), keyVariables };
}
