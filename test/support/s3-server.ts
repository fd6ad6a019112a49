// A server that speaks the part of S3 that a registry needs, for tests: signed requests are checked, conditional PUT, parts,
// ranges, listing in pages. It can lose answers after it has done what was asked, as networks do.
import { createHash, createHmac } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

interface Entry {
  data: Buffer;
  modified: Date;
}

const KEY = "test-key";
const SECRET = "test-secret";
const hash = (data: string | Buffer): string => createHash("sha256").update(data).digest("hex");
const xml = (text: string): string => text.replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]!);

export class S3Server {
  readonly entries = new Map<string, Entry>();
  /** Each so many answers one is cut off after the work is done; 0 for none. */
  dropEvery = 0;
  /** The next so many downloads are cut after half of their bytes. */
  cutDownloads = 0;
  /** Answers of the next requests, instead of what would be right. */
  readonly failures: number[] = [];
  pageSize = 7;
  readonly #server: Server;
  readonly #uploads = new Map<string, Map<number, Buffer>>();
  #count = 0;
  #said = 0;

  private constructor() {
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  static async listen(): Promise<S3Server> {
    const server = new S3Server();
    await new Promise<void>((resolve) => server.#server.listen(0, "127.0.0.1", resolve));
    return server;
  }

  get environment(): Record<string, string> {
    return {
      AWS_ENDPOINT_URL_S3: `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`,
      AWS_ACCESS_KEY_ID: KEY,
      AWS_SECRET_ACCESS_KEY: SECRET,
      AWS_REGION: "us-east-1",
    };
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<unknown> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const failure = this.failures.shift();
    if (failure !== undefined) return this.#say(response, failure, error("InternalError", "as asked by the test"));
    const url = new URL(request.url!, "http://host");
    if (!signedRight(request, url, body)) {
      return this.#say(response, 403, error("SignatureDoesNotMatch", "The request signature does not match"));
    }
    return this.#do(request, response, url, body);
  }

  #do(request: IncomingMessage, response: ServerResponse, url: URL, body: Buffer): unknown {
    const key = decodeURIComponent(url.pathname.slice(1));
    const query = url.searchParams;
    const { method } = request;
    if (query.has("uploads")) {
      const id = `upload-${++this.#count}`;
      this.#uploads.set(id, new Map());
      return this.#say(response, 200, `<R><UploadId>${id}</UploadId></R>`);
    }
    const upload = this.#uploads.get(query.get("uploadId") ?? "");
    if (upload) return this.#part(response, { upload, id: query.get("uploadId")!, query, key, body, method });
    if (query.get("list-type") === "2") return this.#list(response, key.replace(/\/$/, ""), query);
    const there = this.entries.get(key);
    switch (method) {
      case "PUT":
        if (request.headers["if-none-match"] === "*" && there) {
          return this.#say(response, 412, error("PreconditionFailed", "it is there"));
        }
        this.entries.set(key, { data: body, modified: new Date() });
        return this.#say(response, 200, "");
      case "DELETE":
        this.entries.delete(key);
        return this.#say(response, 204, "");
      case "HEAD":
      case "GET":
        if (!there) return this.#say(response, 404, error("NoSuchKey", "it does not exist"));
        return this.#download(request, response, there.data);
      default:
        return this.#say(response, 405, error("MethodNotAllowed", String(method)));
    }
  }

  #part(
    response: ServerResponse,
    of: {
      upload: Map<number, Buffer>;
      id: string;
      query: URLSearchParams;
      key: string;
      body: Buffer;
      method?: string | undefined;
    },
  ): unknown {
    if (of.method === "DELETE") {
      this.#uploads.delete(of.id);
      return this.#say(response, 204, "");
    }
    if (of.method === "PUT") {
      of.upload.set(Number(of.query.get("partNumber")), of.body);
      response.setHeader("etag", `"${hash(of.body).slice(0, 32)}"`);
      return this.#say(response, 200, "");
    }
    const numbers = [...of.body.toString().matchAll(/<PartNumber>(\d+)<\/PartNumber>/g)].map(([, n]) => Number(n));
    this.entries.set(of.key, { data: Buffer.concat(numbers.map((n) => of.upload.get(n)!)), modified: new Date() });
    this.#uploads.delete(of.id);
    return this.#say(response, 200, "<R/>");
  }

  #list(response: ServerResponse, bucket: string, query: URLSearchParams): unknown {
    const prefix = `${bucket}/${query.get("prefix") ?? ""}`;
    const after = query.get("continuation-token") ?? "";
    const keys = [...this.entries.keys()].filter((key) => key.startsWith(prefix) && key > after).sort();
    const page = keys.slice(0, this.pageSize);
    const contents = page.map((key) => {
      const { data, modified } = this.entries.get(key)!;
      const name = xml(key.slice(bucket.length + 1));
      return `<Contents><Key>${name}</Key><LastModified>${modified.toISOString()}</LastModified><Size>${data.length}</Size></Contents>`;
    });
    const more = keys.length > page.length;
    const next = more ? `<NextContinuationToken>${xml(page.at(-1)!)}</NextContinuationToken>` : "";
    return this.#say(response, 200, `<R><IsTruncated>${more}</IsTruncated>${next}${contents.join("")}</R>`);
  }

  #download(request: IncomingMessage, response: ServerResponse, data: Buffer): unknown {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const part = data.subarray(from);
    response.writeHead(request.headers.range ? 206 : 200, { "content-length": part.length });
    if (request.method === "HEAD") return response.end();
    if (this.cutDownloads > 0 && part.length > 1) {
      this.cutDownloads--;
      return response.write(part.subarray(0, part.length >> 1), () => response.destroy());
    }
    return response.end(part);
  }

  #say(response: ServerResponse, status: number, text: string): unknown {
    if (this.dropEvery > 0 && ++this.#said % this.dropEvery === 0) return response.destroy();
    response.writeHead(status, { "content-type": "application/xml" });
    return response.end(text);
  }
}

const error = (code: string, message: string): string =>
  `<Error><Code>${code}</Code><Message>${message}</Message></Error>`;

/** Signature Version 4, computed again from what arrived. */
function signedRight(request: IncomingMessage, url: URL, body: Buffer): boolean {
  const header = request.headers.authorization ?? "";
  const [, credential, signed, signature] =
    /^AWS4-HMAC-SHA256 Credential=([^,]+), SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/.exec(header) ?? [];
  const [key, day, region, service] = credential?.split("/") ?? [];
  if (key !== KEY || !signed || !signature || !day) return false;
  const payload = String(request.headers["x-amz-content-sha256"]);
  if (payload !== "UNSIGNED-PAYLOAD" && payload !== hash(body)) return false;
  const query = [...url.searchParams]
    .map(([k, v]) => `${encode(k)}=${encode(v)}`)
    .sort()
    .join("&");
  const headers = signed.split(";").map((name) => `${name}:${String(request.headers[name]).trim()}\n`);
  const canonical = [request.method, url.pathname, query, headers.join(""), signed, payload].join("\n");
  const scope = `${day}/${region}/${service}/aws4_request`;
  const text = ["AWS4-HMAC-SHA256", request.headers["x-amz-date"], scope, hash(canonical)].join("\n");
  const mac = (secret: string | Buffer, value: string): Buffer => createHmac("sha256", secret).update(value).digest();
  const signing = [region!, service!, "aws4_request"].reduce(mac, mac(`AWS4${SECRET}`, day));
  return mac(signing, text).toString("hex") === signature;
}

const encode = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
