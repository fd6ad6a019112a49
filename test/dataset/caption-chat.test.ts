import { describe, expect, test } from "vitest";
import { isKinoraError, type KinoraError } from "../../src/base/errors.ts";
import {
  backoff,
  ChatClient,
  type ChatClientOptions,
  type Retry,
  retryAfterSeconds,
} from "../../src/io/chat/client.ts";
import { resolveEndpoint } from "../../src/io/chat/endpoint.ts";
import { stopsEverything } from "../../src/io/chat/failures.ts";
import { Pace } from "../../src/io/chat/pace.ts";
import type { ChatPart, ChatProtocol } from "../../src/io/chat/wire.ts";
import { type Behaviour, ChatServer, type Reply } from "./caption-server.ts";

const bases: Record<ChatProtocol, string> = {
  openai: "/v1",
  dashscope: "/compatible-mode/v1",
};
const protocols = Object.keys(bases) as ChatProtocol[];
const key = "sk-very-secret-0123456789";

function clientFor(server: ChatServer, protocol: ChatProtocol, options: Partial<ChatClientOptions> = {}): ChatClient {
  const endpoint = resolveEndpoint(
    { endpoint: server.origin + bases[protocol], protocol, keyVariable: "TEST_KEY" },
    { TEST_KEY: key },
  );
  return new ChatClient({ endpoint, timeoutSeconds: 5, retries: 3, backoffSeconds: 0.01, ...options });
}

const question: ChatPart[] = [
  { type: "picture", bytes: Buffer.from("picture"), mime: "image/jpeg" },
  { type: "text", text: "what is it?" },
];
const request = { model: "eyes", parts: question, maxTokens: 50, temperature: 0.2, seed: 7 };

async function codeOf(promise: Promise<unknown>): Promise<KinoraError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!isKinoraError(error)) throw new Error(`expected a coded error, got ${error}`);
  return error;
}

/** Answers with these in turn, the last again and again. */
const inTurn =
  (...replies: Reply[]): Behaviour =>
  (_, number) =>
    replies[Math.min(number, replies.length) - 1]!;

describe.each(protocols)("the %s protocol", (protocol) => {
  test("sends pictures, settings and the key, and reads the answer", async () => {
    await using server = await ChatServer.start(() => "a dog", { key });
    const answer = await clientFor(server, protocol).complete(request);
    expect(answer).toEqual({ text: "a dog", finish: "stop", usage: { input: 100, output: 20 } });
    const [received] = server.received;
    expect(received!.pictures.map(String)).toEqual(["picture"]);
    expect(received!.text).toBe("what is it?");
    expect(received!.authorization).toBe(`Bearer ${key}`);
    expect(received!.body).toMatchObject({ max_tokens: 50, temperature: 0.2, seed: 7 });
  });

  test("sends a clip as frames with their rate where the service knows clips, and three frames as pictures", async () => {
    await using server = await ChatServer.start(() => "a dog");
    const frames = ["a", "b", "c", "d"].map((text) => Buffer.from(text));
    const client = clientFor(server, protocol);
    const ask = (count: number) =>
      client.complete({
        model: "eyes",
        parts: [{ type: "frames", frames: frames.slice(0, count), mime: "image/jpeg", fps: 1.6 }],
      });
    await ask(4);
    await ask(3);
    const [clip, pictures] = server.received;
    expect(clip!.pictures.map(String)).toEqual(["a", "b", "c", "d"]);
    expect(clip!.fps).toBe(protocol === "openai" ? undefined : 1.6);
    expect(pictures!.pictures.map(String)).toEqual(["a", "b", "c"]);
  });

  test("sends a film", async () => {
    await using server = await ChatServer.start(() => "a dog");
    const film: ChatPart = { type: "video", bytes: Buffer.from("film"), mime: "video/mp4", fps: 2 };
    await clientFor(server, protocol).complete({ model: "eyes", parts: [film] });
    expect(server.received[0]!.films.map(String)).toEqual(["film"]);
  });

  test("tells cut answers, and adds fields of the person's own", async () => {
    await using server = await ChatServer.start(() => ({ text: "a dog and a", finish: "length" }));
    const answer = await clientFor(server, protocol).complete({ ...request, extra: { enable_thinking: false } });
    expect(answer.finish).toBe("length");
    expect(server.received[0]!.body).toMatchObject({ enable_thinking: false });
  });

  test("an unknown model, a wrong key and a wrong address are told apart at once", async () => {
    await using server = await ChatServer.start(() => "a dog", { key, models: ["eyes", "ears"] });
    const client = clientFor(server, protocol);
    const noModel = await codeOf(client.complete({ ...request, model: "eye" }));
    expect(noModel.code).toBe("chat.model-not-found");
    expect(client.requests).toBe(1);
    if (protocol === "openai")
      expect((await client.withKnownModels(noModel, "eye")).hint).toBe("did you mean eyes? it has eyes, ears");

    const endpoint = resolveEndpoint(
      { endpoint: server.origin + bases[protocol], protocol, keyVariable: "K" },
      { K: "sk-other-key" },
    );
    const wrongKey = await codeOf(new ChatClient({ endpoint, timeoutSeconds: 5, retries: 3 }).complete(request));
    expect(wrongKey.code).toBe("chat.unauthorized");
    expect(JSON.stringify([wrongKey.message, wrongKey.hint, wrongKey.actual, wrongKey.stack])).not.toContain(
      "sk-other-key",
    );

    const elsewhere = resolveEndpoint({ endpoint: `${server.origin}/else`, protocol }, { OPENAI_API_KEY: key });
    const wrongPath = await codeOf(
      new ChatClient({ endpoint: elsewhere, timeoutSeconds: 5, retries: 3 }).complete(request),
    );
    expect(wrongPath.code).toBe(protocol === "openai" ? "chat.wrong-endpoint" : "chat.unauthorized");
  });

  test("goes on after errors of the server, broken connections and answers that are no JSON", async () => {
    const retries: Retry[] = [];
    await using server = await ChatServer.start(
      inTurn({ status: 503, body: "busy" }, "reset", { status: 200, body: "<html>welcome</html>" }, "a dog"),
    );
    const client = clientFor(server, protocol);
    const answer = await client.complete(request, { onRetry: (retry) => retries.push(retry) });
    expect(answer.text).toBe("a dog");
    expect(retries.map(({ error }) => error.code)).toEqual([
      "chat.server-error",
      "chat.connection-lost",
      "chat.malformed-answer",
    ]);
    expect(client.requests).toBe(4);
  });
});

describe("waiting", () => {
  test("Retry-After is kept to, for every caller", async () => {
    await using server = await ChatServer.start((_, number) =>
      number === 1
        ? { status: 429, headers: { "retry-after": "1" }, body: '{"error":{"message":"slow down"}}' }
        : "a dog",
    );
    const client = clientFor(server, "openai");
    const retries: Retry[] = [];
    const first = client.complete(request, { onRetry: (retry) => retries.push(retry) });
    await expect.poll(() => retries.length).toBe(1);
    const second = client.complete(request);
    await Promise.all([first, second]);
    expect(retries).toMatchObject([{ attempt: 1, waitSeconds: 1, error: { code: "chat.rate-limited" } }]);
    const [refused, ...later] = server.received;
    expect(later).toHaveLength(2);
    for (const { at } of later) expect(at - refused!.at).toBeGreaterThanOrEqual(990);
  });

  test("Retry-After in all its forms", () => {
    const now = Date.parse("2026-01-01T00:00:00Z");
    const of = (headers: Record<string, string>) => retryAfterSeconds(new Headers(headers), now);
    expect(of({ "retry-after": "7" })).toBe(7);
    expect(of({ "retry-after": "Thu, 01 Jan 2026 00:00:30 GMT" })).toBe(30);
    expect(of({ "retry-after": "Wed, 31 Dec 2025 23:59:00 GMT" })).toBe(0);
    expect(of({ "retry-after-ms": "250", "retry-after": "9" })).toBe(0.25);
    expect(of({ "retry-after": "soon" })).toBeUndefined();
    expect(of({})).toBeUndefined();
  });

  test("a server that asks for hours is not waited for", async () => {
    await using server = await ChatServer.start(() => ({ status: 429, headers: { "retry-after": "7200" }, body: "" }));
    const error = await codeOf(clientFor(server, "openai").complete(request));
    expect(error.code).toBe("chat.rate-limited");
    expect(error.message).toContain("7200 s");
  });

  test("back-off doubles up to its most, with up to half taken off", () => {
    expect([1, 2, 3, 4, 5].map((attempt) => backoff(attempt, 1, 10, 0))).toEqual([1, 2, 4, 8, 10]);
    expect(backoff(3, 1, 10, 1)).toBe(2);
  });

  test("gives up after the retries, with the last reason", async () => {
    await using server = await ChatServer.start(() => ({ status: 500, body: '{"error":{"message":"out of memory"}}' }));
    const client = clientFor(server, "openai", { retries: 2 });
    const error = await codeOf(client.complete(request));
    expect(error.code).toBe("chat.server-error");
    expect(error.actual).toBe("HTTP 500 (out of memory)");
    expect(client.requests).toBe(3);
  });

  test("an answer that does not come in time", async () => {
    await using server = await ChatServer.start(() => "hang");
    const error = await codeOf(clientFor(server, "openai", { timeoutSeconds: 0.2, retries: 1 }).complete(request));
    expect(error.code).toBe("chat.timeout");
    expect(server.received).toHaveLength(2);
  });

  test("nobody there is said after one more try", async () => {
    let origin: string;
    {
      await using server = await ChatServer.start(() => "a dog");
      origin = server.origin;
    }
    const client = new ChatClient({
      endpoint: resolveEndpoint({ endpoint: `${origin}/v1` }, {}),
      timeoutSeconds: 5,
      retries: 5,
      backoffSeconds: 0.01,
    });
    const error = await codeOf(client.complete(request));
    expect(error.code).toBe("chat.unreachable");
    expect(error.message).toContain(origin);
    expect(client.requests).toBe(2);
  });

  test("aborting ends a wait at once", async () => {
    await using server = await ChatServer.start(() => ({ status: 429, headers: { "retry-after": "60" }, body: "" }));
    const abort = new AbortController();
    const call = clientFor(server, "openai").complete(request, {
      signal: abort.signal,
      onRetry: () => abort.abort(new Error("enough")),
    });
    await expect(call).rejects.toThrow("enough");
  });

  test("a rate spaces the starts evenly", async () => {
    const pace = new Pace(1200);
    const began = performance.now();
    const starts = await Promise.all([0, 1, 2, 3].map(() => pace.turn().then(() => performance.now() - began)));
    // Never early; how late depends on the machine.
    for (const [i, start] of starts.entries()) expect(start).toBeGreaterThanOrEqual(50 * i - 2);
  });
});

describe("what a refusal of the server means", () => {
  test.each<[number, string, string]>([
    [402, "{}", "chat.quota"],
    [429, '{"error":{"code":"insufficient_quota","message":"You exceeded your current quota"}}', "chat.quota"],
    [400, '{"code":"Arrearage","message":"Access denied"}', "chat.quota"],
    [400, '{"code":"DataInspectionFailed","message":"Input data may contain inappropriate content."}', "chat.refused"],
    [403, '{"code":"AccessDenied.Unpurchased","message":"Access to model denied."}', "chat.unauthorized"],
    [
      404,
      '{"error":{"message":"model \\"llava\\" not found, try pulling it first","type":"api_error"}}',
      "chat.model-not-found",
    ],
    [413, "Request Entity Too Large", "chat.too-large"],
    [400, '{"error":{"message":"This model\'s maximum context length is 4096 tokens."}}', "chat.too-large"],
    [400, '{"object":"error","message":"llama is not a multimodal model"}', "chat.no-vision"],
    [400, '{"error":"this model does not support image input"}', "chat.no-vision"],
    [301, "", "chat.wrong-endpoint"],
    [400, '{"detail":"bad seed"}', "chat.bad-request"],
    [200, '{"error":{"code":"model_not_found","message":"no such model"}}', "chat.model-not-found"],
  ])("%i %s", async (status, body, code) => {
    await using server = await ChatServer.start(() => ({
      status,
      body,
      ...(status === 301 ? { headers: { location: "/" } } : {}),
    }));
    const client = clientFor(server, "openai");
    expect((await codeOf(client.complete(request))).code).toBe(code);
    expect(client.requests).toBe(1);
  });

  test("an answer without end is not read to its end, nor asked for again", async () => {
    await using server = await ChatServer.start(() => "endless");
    const client = clientFor(server, "openai");
    const error = await codeOf(client.complete(request));
    expect(error.code).toBe("chat.answer-too-large");
    expect(stopsEverything(error)).toBe(true);
    expect(client.requests).toBe(1);
    await expect.poll(() => server.received[0]!.sent).toBeDefined();
    expect(server.received[0]!.sent!).toBeLessThan(256 << 20);
  });

  test("parameters a newer model does not take are left out from then on", async () => {
    await using server = await ChatServer.start(({ body }) => {
      if ("max_tokens" in body)
        return {
          status: 400,
          body: '{"error":{"message":"Unsupported parameter: max_tokens. Use max_completion_tokens instead."}}',
        };
      if ("temperature" in body)
        return {
          status: 400,
          body: '{"error":{"message":"Unsupported value: temperature. Only the default is supported."}}',
        };
      return "a dog";
    });
    const client = clientFor(server, "openai");
    await client.complete(request);
    await client.complete(request);
    expect(server.received).toHaveLength(4);
    expect(server.received[3]!.body).toMatchObject({ max_completion_tokens: 50 });
  });
});

describe("keys", () => {
  test("go only where they belong", () => {
    const environment = { OPENAI_API_KEY: "sk-openai", DASHSCOPE_API_KEY: "sk-dash", DASH_API_KEY: "sk-wan" };
    const keyOf = (endpoint: string, rest = environment) => resolveEndpoint({ endpoint }, rest).key;
    expect(keyOf("openai")).toBe("sk-openai");
    expect(keyOf("dashscope")).toBe("sk-dash");
    expect(keyOf("https://dashscope-intl.aliyuncs.com/compatible-mode/v1")).toBe("sk-dash");
    expect(keyOf("https://ws-1.cn-beijing.maas.aliyuncs.com/compatible-mode/v1")).toBe("sk-dash");
    expect(keyOf("https://gpu.example.org/v1")).toBe("sk-openai");
    expect(keyOf("http://127.0.0.1:8000/v1")).toBe("sk-openai");
    expect(keyOf("ollama")).toBeUndefined();
    // In clear over a network: only when it is asked for by name.
    expect(keyOf("http://192.168.0.9:8000/v1")).toBeUndefined();
    expect(resolveEndpoint({ endpoint: "http://gpu:8000/v1", keyVariable: "OPENAI_API_KEY" }, environment).key).toBe(
      "sk-openai",
    );
    expect(resolveEndpoint({ endpoint: "dashscope" }, { DASH_API_KEY: "sk-wan" }).key).toBe("sk-wan");
  });

  test("addresses tell their protocol, and may be pasted whole", () => {
    const of = (endpoint: string, environment: Record<string, string> = {}) => {
      const { url, protocol } = resolveEndpoint({ endpoint, withoutKey: true }, environment);
      return `${protocol} ${url}`;
    };
    expect(of("http://127.0.0.1:1234/v1/chat/completions")).toBe("openai http://127.0.0.1:1234/v1");
    expect(of("https://dashscope.aliyuncs.com/compatible-mode/v1/")).toBe(
      "dashscope https://dashscope.aliyuncs.com/compatible-mode/v1",
    );
    expect(of("dashscope", { DASH_API_URL: "https://dashscope-intl.aliyuncs.com/api/v1" })).toBe(
      "dashscope https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
    );
  });

  test.each<[string, Record<string, string>, string]>([
    ["openai", {}, "chat.missing-key"],
    ["dashscope", {}, "chat.missing-key"],
    ["olama", {}, "chat.bad-endpoint"],
    ["http://", {}, "chat.bad-endpoint"],
    ["https://me:secret@host/v1", {}, "chat.bad-endpoint"],
    ["https://host/v1?key=secret", {}, "chat.bad-endpoint"],
    ["openai", { OPENAI_API_KEY: "sk-one\nsk-two" }, "chat.bad-key"],
  ])("%s %j is %s", (endpoint, environment, code) => {
    try {
      resolveEndpoint({ endpoint }, environment);
      throw new Error("no error");
    } catch (error) {
      expect(error).toMatchObject({ code });
      expect(String((error as KinoraError).message + (error as KinoraError).hint)).not.toMatch(/secret|sk-one/);
    }
  });

  test("DashScope's own protocol is told from its compatible mode", () => {
    for (const [endpoint, hint] of [
      ["https://dashscope-intl.aliyuncs.com/api/v1", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"],
      [
        "https://dashscope.aliyuncs.com/api/v1/services/aigc/multimodal-generation/generation",
        "https://dashscope.aliyuncs.com/compatible-mode/v1",
      ],
      ["http://127.0.0.1:9/api/v1/services/aigc/multimodal-generation/generation", "dashscope"],
    ] as const)
      expect(() => resolveEndpoint({ endpoint, withoutKey: true }, {}), endpoint).toThrow(
        expect.objectContaining({ code: "chat.bad-endpoint", hint: expect.stringContaining(hint) }),
      );
  });

  test("do not follow a redirect, whose address is told without its query", async () => {
    await using elsewhere = await ChatServer.start(() => "a dog", { key });
    const location = `${elsewhere.origin}/v1/chat/completions?token=hidden`;
    await using server = await ChatServer.start(() => ({ status: 307, headers: { location }, body: "" }));
    const error = await codeOf(clientFor(server, "openai").complete(request));
    expect(error.code).toBe("chat.wrong-endpoint");
    expect(error.hint).toContain(`it redirects to ${elsewhere.origin}/v1:`);
    expect(error.message + error.hint).not.toContain("hidden");
    expect(elsewhere.received).toHaveLength(0);
  });

  test("a server that repeats the key in its errors is not repeated", async () => {
    await using server = await ChatServer.start(({ authorization }) => ({
      status: 500,
      body: `crash: headers ${authorization} sk-abcdef123`,
    }));
    const error = await codeOf(clientFor(server, "openai", { retries: 0 }).complete(request));
    expect(error.actual).toContain("crash");
    expect(error.message + error.stack).not.toMatch(/secret|abcdef/);
  });
});
