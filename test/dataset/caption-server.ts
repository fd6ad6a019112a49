// A chat server for the tests: real HTTP, both forms of the protocol, strict about what it is sent, with faults on demand.
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** What one request held, taken apart as the protocol says. */
export interface Received {
  path: string;
  authorization: string | undefined;
  model: string;
  body: Record<string, unknown>;
  /** The instruction. */
  text: string;
  /** Bytes of the pictures, in order; those of a clip sent as a list of frames too. */
  pictures: Buffer[];
  /** Bytes of a film. */
  films: Buffer[];
  /** Where frames came as one clip. */
  fps: number | undefined;
  /** Milliseconds. */
  at: number;
  /** Bytes of an endless answer that went out before the caller left. */
  sent?: number;
}

export type Reply =
  | string
  | { text: string; finish?: string; refusal?: string }
  | { status: number; headers?: Record<string, string>; body: string }
  | "reset"
  | "hang"
  | "endless";

export type Behaviour = (request: Received, number: number) => Reply | Promise<Reply>;

interface ServerOptions {
  models?: string[];
  /** Requests must carry this key. */
  key?: string;
}

function dataUri(value: unknown): { mime: string; bytes: Buffer } {
  const match = /^data:([a-z]+\/[a-z0-9.-]+);base64,([A-Za-z0-9+/]+=*)$/.exec(String(value));
  if (!match) throw new Error("not a base64 data URI");
  return { mime: match[1]!, bytes: Buffer.from(match[2]!, "base64") };
}

type Part = Record<string, unknown>;

function contentOf(messages: unknown): Part[] {
  const [message, ...more] = messages as { role: string; content: Part[] }[];
  if (more.length > 0 || message?.role !== "user" || !Array.isArray(message.content))
    throw new Error("one user message");
  return message.content;
}

function take(received: Received, kind: "image" | "video", value: unknown): void {
  const { mime, bytes } = dataUri(value);
  if (!mime.startsWith(`${kind}/`)) throw new Error(`${mime} as ${kind}`);
  (kind === "image" ? received.pictures : received.films).push(bytes);
}

function readContent(received: Received, dashscope: boolean): void {
  for (const part of contentOf(received.body.messages)) {
    if (part.type === "text") received.text += String(part.text);
    else if (part.type === "image_url") take(received, "image", (part.image_url as Part).url);
    else if (part.type === "video_url") take(received, "video", (part.video_url as Part).url);
    else if (part.type === "video" && dashscope) {
      const frames = part.video as unknown[];
      if (!Array.isArray(frames) || frames.length < 4) throw new Error("a clip needs at least 4 frames");
      for (const frame of frames) take(received, "image", frame);
    } else throw new Error(`unknown content type ${part.type}`);
    if (part.fps !== undefined) received.fps = part.fps as number;
  }
}

const compatible = "/compatible-mode/v1/chat/completions";
const openai = "/v1/chat/completions";

export class ChatServer implements AsyncDisposable {
  readonly received: Received[] = [];
  behaviour: Behaviour;
  readonly #server: Server;
  readonly #options: ServerOptions;

  private constructor(behaviour: Behaviour, options: ServerOptions) {
    this.behaviour = behaviour;
    this.#options = options;
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  static async start(behaviour: Behaviour, options: ServerOptions = {}): Promise<ChatServer> {
    const server = new ChatServer(behaviour, options);
    server.#server.listen(0, "127.0.0.1");
    await once(server.#server, "listening");
    return server;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** How many callers have a connection open: none is left once a killed one and its children are gone. */
  connections(): Promise<number> {
    return new Promise((resolve, reject) =>
      this.#server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer);
    } catch {
      return; // The caller went away.
    }
    const path = request.url ?? "";
    const send = (status: number, body: unknown, headers: Record<string, string> = {}) => {
      response.writeHead(status, { "content-type": "application/json", ...headers });
      response.end(typeof body === "string" ? body : JSON.stringify(body));
    };
    const fail = (status: number, code: string, message: string) =>
      send(status, { error: { code, message, type: "error" } });

    const { models = ["eyes"], key } = this.#options;
    const authorization = request.headers.authorization;
    // As OpenAI does, the key comes back in the message.
    if (key !== undefined && authorization !== `Bearer ${key}`)
      return fail(401, "invalid_api_key", `Incorrect API key provided: ${authorization}`);
    if (request.method === "GET" && path === "/v1/models")
      return send(200, { object: "list", data: models.map((id) => ({ id, object: "model" })) });
    if (request.method !== "POST" || ![compatible, openai].includes(path)) return send(404, "404 page not found");

    const received: Received = {
      path,
      authorization,
      model: "",
      body: {},
      text: "",
      pictures: [],
      films: [],
      fps: undefined,
      at: performance.now(),
    };
    try {
      received.body = JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>;
      received.model = String(received.body.model);
      readContent(received, path === compatible);
    } catch (error) {
      return fail(400, "invalid_request_error", (error as Error).message);
    }
    if (!models.includes(received.model))
      return fail(404, "model_not_found", `The model \`${received.model}\` does not exist`);
    this.received.push(received);
    const reply = await this.behaviour(received, this.received.length);
    if (reply === "hang") return;
    if (reply === "endless") {
      response.writeHead(200, { "content-type": "application/json" });
      response.write('{"choices":[{"message":{"content":"');
      const piece = "a".repeat(1 << 20);
      let sent = 0;
      response.once("close", () => {
        received.sent = sent;
      });
      while (!response.destroyed) {
        sent += piece.length;
        if (!response.write(piece)) await Promise.race([once(response, "drain"), once(response, "close")]);
      }
      return;
    }
    if (reply === "reset") {
      request.socket.resetAndDestroy();
      return;
    }
    if (typeof reply === "object" && "status" in reply) return send(reply.status, reply.body, reply.headers);
    const { text, finish = "stop", refusal } = typeof reply === "string" ? { text: reply } : reply;
    send(200, {
      id: "c-1",
      object: "chat.completion",
      choices: [
        {
          index: 0,
          finish_reason: finish,
          message: { role: "assistant", content: text, ...(refusal ? { refusal } : {}) },
        },
      ],
      usage: { prompt_tokens: 100, completion_tokens: 20, total_tokens: 120 },
    });
  }
}
