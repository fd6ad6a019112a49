// A registry in a bucket of any server that speaks S3. Requests are signed by aws4fetch; what must not be lost to another
// writer is made by conditional PUT (`If-None-Match: *`), which AWS, MinIO, R2 and moto honour.
import { createReadStream } from "node:fs";
import { open, rm } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { AwsClient } from "aws4fetch";
import { decodeXML } from "entities";
import { KinoraError } from "../../base/errors.ts";
import { partialPath, replaceFile, writeError } from "../../io/atomic.ts";
import { missing } from "./folder.ts";
import type { Storage, StoredKey } from "./storage.ts";

export interface S3Settings {
  bucket: string;
  /** In front of every key; without slashes at its ends. */
  prefix: string;
  /** Without it, AWS in `region`. */
  endpoint?: string | undefined;
  region: string;
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string | undefined;
}

/** Larger files go in parts, so that a cut connection costs one part. S3 takes 5 GiB at once and 10,000 parts. */
const PART = 128 * 2 ** 20;
const TRIES = 6;
/** Answers are small XML documents or small values; a stranger's server must not fill the memory. */
const MOST_ANSWER = 64 * 2 ** 20;

type Environment = Readonly<Record<string, string | undefined>>;

/** `s3://bucket/prefix` with the usual AWS_* variables. Throws `s3.bad-address`, `s3.no-credentials`. */
export function s3Settings(address: string, environment: Environment): S3Settings {
  const match = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*?))?\/*$/.exec(address);
  if (!match) {
    throw new KinoraError("s3.bad-address", "this is no address in S3", {
      expected: "s3://BUCKET or s3://BUCKET/PREFIX",
      actual: address,
      hint: "bucket names have lower-case letters, digits, dots and hyphens",
    });
  }
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey } = environment;
  if (!accessKeyId || !secretAccessKey) {
    throw new KinoraError("s3.no-credentials", `there are no credentials for ${address}`, {
      expected: "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
      hint: "set both; for a server of your own also AWS_ENDPOINT_URL_S3, e.g. http://localhost:9000",
    });
  }
  return {
    bucket: match[1]!,
    prefix: match[2] ?? "",
    endpoint: environment.AWS_ENDPOINT_URL_S3 || environment.AWS_ENDPOINT_URL || undefined,
    region: environment.AWS_REGION || environment.AWS_DEFAULT_REGION || "us-east-1",
    accessKeyId,
    secretAccessKey,
    sessionToken: environment.AWS_SESSION_TOKEN,
  };
}

export class S3Storage implements Storage {
  readonly place: string;
  readonly #client: AwsClient;
  readonly #base: string;
  readonly #prefix: string;

  constructor(settings: S3Settings) {
    const { bucket, prefix, endpoint, region, accessKeyId, secretAccessKey, sessionToken } = settings;
    this.place = `s3://${bucket}${prefix === "" ? "" : `/${prefix}`}`;
    this.#prefix = prefix === "" ? "" : `${prefix}/`;
    this.#base = endpoint
      ? `${endpoint.replace(/\/+$/, "")}/${bucket}`
      : bucket.includes(".")
        ? `https://s3.${region}.amazonaws.com/${bucket}`
        : `https://${bucket}.s3.${region}.amazonaws.com`;
    this.#client = new AwsClient({
      accessKeyId,
      secretAccessKey,
      ...(sessionToken ? { sessionToken } : {}),
      service: "s3",
      region,
      retries: 0,
    });
  }

  localPath(): undefined {
    return undefined;
  }

  async read(key: string): Promise<Uint8Array | undefined> {
    const answer = await this.#ask("GET", this.#url(key));
    if (answer.status === 404) {
      await discard(answer);
      return undefined;
    }
    await this.#expect(answer, [200], `reading ${key}`);
    return bounded(answer, key);
  }

  async create(key: string, data: Uint8Array): Promise<boolean> {
    for (let attempt = 1; ; attempt++) {
      const answer = await this.#ask("PUT", this.#url(key), { body: data, headers: { "if-none-match": "*" } });
      // 409: two conditional writes at once, neither decided; ask again.
      if (answer.status === 409 && attempt < TRIES) {
        await discard(answer);
        await delay(pause(attempt));
        continue;
      }
      if (answer.status !== 412) {
        await this.#expect(answer, [200, 201, 204], `writing ${key}`);
        await discard(answer);
        return true;
      }
      await discard(answer);
      // A write whose answer was lost is there when it is tried again: it is ours if it is what we wrote.
      const there = await this.read(key);
      return there !== undefined && Buffer.from(there).equals(data);
    }
  }

  async replace(key: string, data: Uint8Array): Promise<void> {
    const answer = await this.#ask("PUT", this.#url(key), { body: data });
    await this.#expect(answer, [200, 201, 204], `writing ${key}`);
    await discard(answer);
  }

  async storeFile(key: string, path: string, { bytes, sha256 }: { bytes: number; sha256: string }): Promise<void> {
    const there = await this.#ask("HEAD", this.#url(key));
    if (there.status === 200 && Number(there.headers.get("content-length")) === bytes) return;
    if (bytes > PART) return this.#storeParts(key, path, bytes);
    const body = await readPart(path, 0, bytes);
    const answer = await this.#ask("PUT", this.#url(key), { body, headers: { "x-amz-content-sha256": sha256 } });
    await this.#expect(answer, [200, 201, 204], `writing ${key}`);
    await discard(answer);
  }

  async #storeParts(key: string, path: string, bytes: number): Promise<void> {
    const url = this.#url(key);
    const begun = await this.#ask("POST", `${url}?uploads`);
    const upload = tagOf(await this.#text(begun, `beginning ${key}`), "UploadId");
    if (upload === undefined)
      throw new KinoraError("s3.failed", `${this.place} began no upload of ${key}`, {
        hint: "try again; is it an S3 server?",
      });
    const parts: string[] = [];
    const size = Math.max(PART, Math.ceil(bytes / 9000));
    try {
      for (let at = 0; at < bytes; at += size) {
        const number = parts.length + 1;
        const body = await readPart(path, at, Math.min(size, bytes - at));
        const query = `?partNumber=${number}&uploadId=${encodeURIComponent(upload)}`;
        const answer = await this.#ask("PUT", url + query, { body });
        await this.#expect(answer, [200], `writing part ${number} of ${key}`);
        await discard(answer);
        const etag = answer.headers.get("etag");
        if (!etag)
          throw new KinoraError("s3.failed", `${this.place} named no ETag for part ${number} of ${key}`, {
            hint: "try again; is it an S3 server?",
          });
        parts.push(`<Part><PartNumber>${number}</PartNumber><ETag>${etag}</ETag></Part>`);
      }
      const body = `<CompleteMultipartUpload>${parts.join("")}</CompleteMultipartUpload>`;
      const done = await this.#ask("POST", `${url}?uploadId=${encodeURIComponent(upload)}`, {
        body: new TextEncoder().encode(body),
      });
      const text = await this.#text(done, `completing ${key}`);
      // S3 may answer 200 and put the failure into the document.
      if (text.includes("<Error>")) throw failed(this.place, `completing ${key}`, 200, text);
    } catch (error) {
      const gone = await this.#ask("DELETE", `${url}?uploadId=${encodeURIComponent(upload)}`).catch(() => undefined);
      if (gone) await discard(gone);
      throw error;
    }
  }

  async fetchFile(key: string, target: string): Promise<void> {
    const partial = partialPath(target);
    try {
      await this.#download(key, partial);
      await replaceFile(partial, target);
    } catch (error) {
      throw error instanceof KinoraError ? error : writeError(error, target);
    } finally {
      await rm(partial, { force: true }).catch(() => {});
    }
  }

  /** Goes on from where a cut connection stopped. */
  async #download(key: string, path: string): Promise<void> {
    const file = await open(path, "w");
    let at = 0;
    try {
      for (let attempt = 1; ; attempt++) {
        const answer = await this.#ask("GET", this.#url(key), { headers: at > 0 ? { range: `bytes=${at}-` } : {} });
        if (answer.status === 404) throw missing(key, this.place);
        await this.#expect(answer, at > 0 ? [206] : [200], `reading ${key}`);
        const length = Number(answer.headers.get("content-length") ?? Number.NaN);
        const end = at + length;
        try {
          for await (const chunk of answer.body ?? []) {
            await file.write(chunk, 0, chunk.length, at);
            at += chunk.length;
          }
        } catch (error) {
          if (attempt >= TRIES || (error as NodeJS.ErrnoException).code === "ENOSPC") throw error;
        }
        if (Number.isNaN(length) || at >= end) break;
        if (attempt >= TRIES) throw unreachable(this.place, new Error("the connection keeps failing"));
        await delay(pause(attempt));
      }
      await file.sync();
    } finally {
      await file.close();
    }
  }

  async *list(prefix: string): AsyncGenerator<StoredKey> {
    let token: string | undefined;
    do {
      const query = new URLSearchParams({ "list-type": "2", prefix: this.#prefix + prefix });
      if (token !== undefined) query.set("continuation-token", token);
      // A plus would be signed as a plus and read as a space.
      const answer = await this.#ask("GET", `${this.#base}?${query.toString().replaceAll("+", "%20")}`);
      const text = await this.#text(answer, "listing");
      for (const [, entry = ""] of text.matchAll(/<Contents>(.*?)<\/Contents>/gs)) {
        const key = tagOf(entry, "Key");
        if (key === undefined || !key.startsWith(this.#prefix)) continue;
        const modified = Date.parse(tagOf(entry, "LastModified") ?? "");
        yield { key: key.slice(this.#prefix.length), bytes: Number(tagOf(entry, "Size") ?? 0), modified };
      }
      token = tagOf(text, "IsTruncated") === "true" ? tagOf(text, "NextContinuationToken") : undefined;
    } while (token !== undefined);
  }

  async remove(key: string): Promise<void> {
    const answer = await this.#ask("DELETE", this.#url(key));
    await this.#expect(answer, [200, 204, 404], `removing ${key}`);
    await discard(answer);
  }

  #url(key: string): string {
    return `${this.#base}/${(this.#prefix + key).split("/").map(encodeURIComponent).join("/")}`;
  }

  /** One request, tried again where the server is busy or out of reach. */
  async #ask(
    method: string,
    url: string,
    init: { body?: Uint8Array<ArrayBufferLike>; headers?: Record<string, string> } = {},
  ): Promise<Response> {
    for (let attempt = 1; ; attempt++) {
      let answer: Response;
      try {
        answer = await this.#client.fetch(url, {
          method,
          headers: init.headers ?? {},
          ...(init.body ? { body: init.body as Uint8Array<ArrayBuffer> } : {}),
        });
      } catch (error) {
        if (attempt >= TRIES) throw unreachable(this.place, error);
        await delay(pause(attempt));
        continue;
      }
      if ((answer.status < 500 && answer.status !== 429) || attempt >= TRIES) return answer;
      await discard(answer);
      await delay(pause(attempt));
    }
  }

  async #text(answer: Response, what: string): Promise<string> {
    await this.#expect(answer, [200], what);
    return new TextDecoder().decode(await bounded(answer, what));
  }

  async #expect(answer: Response, statuses: readonly number[], what: string): Promise<void> {
    if (statuses.includes(answer.status)) return;
    const text = new TextDecoder().decode(await bounded(answer, what).catch(() => new Uint8Array()));
    throw failed(this.place, what, answer.status, text);
  }
}

const pause = (attempt: number): number => 100 * 2 ** attempt * (0.5 + Math.random() / 2);

async function readPart(path: string, at: number, bytes: number): Promise<Uint8Array> {
  const part = new Uint8Array(bytes);
  if (bytes === 0) return part;
  let filled = 0;
  for await (const chunk of createReadStream(path, { start: at, end: at + bytes - 1 })) {
    part.set(chunk as Uint8Array, filled);
    filled += (chunk as Uint8Array).length;
  }
  if (filled === bytes) return part;
  throw new KinoraError("registry.file-changed", `${path} shrank while it was read`, {
    hint: "publish again once nothing is writing to it",
  });
}

/** The text of the first element of this name. */
function tagOf(xml: string, name: string): string | undefined {
  const found = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1];
  return found === undefined ? undefined : decodeXML(found);
}

async function discard(answer: Response): Promise<void> {
  await answer.body?.cancel().catch(() => {});
}

async function bounded(answer: Response, what: string): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of answer.body ?? []) {
    bytes += chunk.length;
    if (bytes > MOST_ANSWER) {
      await discard(answer);
      throw new KinoraError("s3.answer-too-large", `${what}: the answer is too long for a registry value`, {
        expected: `at most ${MOST_ANSWER} bytes`,
        hint: "check that it is an S3 server and that the prefix is a registry's",
      });
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function unreachable(place: string, cause: unknown): KinoraError {
  const reason = ((cause as Error).cause as Error | undefined)?.message ?? (cause as Error).message;
  return new KinoraError("s3.unreachable", `${place} cannot be reached: ${reason}`, {
    hint: "check the network and AWS_ENDPOINT_URL_S3; nothing is lost; run the same command again",
    cause,
  });
}

function failed(place: string, what: string, status: number, text: string): KinoraError {
  const code = tagOf(text, "Code");
  const denied = status === 401 || status === 403;
  return new KinoraError(denied ? "s3.denied" : "s3.failed", `${place}: ${what} was refused`, {
    actual: [String(status), code, tagOf(text, "Message")].filter(Boolean).join(", "),
    hint: denied
      ? "check the credentials, the clock of this machine, and that they may read and write this bucket"
      : code === "NoSuchBucket"
        ? "create the bucket first"
        : "see the server's log",
  });
}
