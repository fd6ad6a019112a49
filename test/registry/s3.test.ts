// A registry in a bucket: what is made once stays, cut connections go on, refusals say why.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { contentOf } from "../../src/registry/objects.ts";
import { S3Storage, s3Settings } from "../../src/registry/storage/s3.ts";
import { S3Server } from "../support/s3-server.ts";

let folder: string;
let server: S3Server;
let storage: S3Storage;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "kinora-s3-"));
  server = await S3Server.listen();
  storage = new S3Storage(s3Settings("s3://bucket/some/prefix/", server.environment));
});
afterEach(async () => {
  await server.close();
  await rm(folder, { recursive: true, force: true });
});
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe("values", () => {
  it("are made once, replaced, listed in pages and removed, under any name", async () => {
    expect(await storage.create("a/名 前+&.json", bytes("one"))).toBe(true);
    expect(await storage.create("a/名 前+&.json", bytes("two"))).toBe(false);
    expect(await storage.create("a/名 前+&.json", bytes("one"))).toBe(true);
    expect(Buffer.from((await storage.read("a/名 前+&.json"))!).toString()).toBe("one");
    await storage.replace("a/名 前+&.json", bytes("three"));
    for (let i = 0; i < 20; i++) await storage.create(`b/${String(i).padStart(2, "0")}`, bytes("x"));
    const keys: string[] = [];
    for await (const { key } of storage.list("b/")) keys.push(key);
    expect(keys).toEqual(Array.from({ length: 20 }, (_, i) => `b/${String(i).padStart(2, "0")}`));
    await storage.remove("b/00");
    expect(await storage.read("b/00")).toBeUndefined();
  });

  it("survive a busy server and lost answers", async () => {
    server.failures.push(503, 500);
    expect(await storage.create("x", bytes("1"))).toBe(true);
    server.dropEvery = 3;
    for (let i = 0; i < 20; i++) expect(await storage.create(`y/${i}`, bytes(`${i}`))).toBe(true);
  });
});

describe("files", () => {
  it("go in parts above the size of one, and come back whole over cut connections", async () => {
    const path = join(folder, "large");
    const data = Buffer.alloc(129 * 2 ** 20);
    for (let i = 0; i < data.length; i += 4096) data.writeUInt32LE(i, i);
    await writeFile(path, data);
    const content = await contentOf(path);
    await storage.storeFile("objects/large", path, content);
    expect(server.entries.get("bucket/some/prefix/objects/large")!.data.equals(data)).toBe(true);
    server.cutDownloads = 2;
    await storage.fetchFile("objects/large", join(folder, "back"));
    expect((await contentOf(join(folder, "back"))).sha256).toBe(content.sha256);
  });

  it("that are missing leave nothing behind", async () => {
    await expect(storage.fetchFile("objects/none", join(folder, "none"))).rejects.toMatchObject({
      code: "registry.object-missing",
    });
    await expect(readFile(join(folder, "none"))).rejects.toThrow();
  });
});

describe("refusals", () => {
  it("say what to check", async () => {
    const wrong = new S3Storage(s3Settings("s3://bucket", { ...server.environment, AWS_SECRET_ACCESS_KEY: "wrong" }));
    await expect(wrong.read("x")).rejects.toMatchObject({
      code: "s3.denied",
      hint: expect.stringContaining("credentials"),
    });
    expect(() => s3Settings("s3://bucket", {})).toThrow(expect.objectContaining({ code: "s3.no-credentials" }));
    for (const address of ["s3://", "s3://B", "s3://x", "http://bucket"]) {
      expect(() => s3Settings(address, server.environment)).toThrow(
        expect.objectContaining({ code: "s3.bad-address" }),
      );
    }
  });

  it("of a server that is not there come after some tries", async () => {
    const { environment } = server;
    await server.close();
    await expect(new S3Storage(s3Settings("s3://bucket", environment)).read("x")).rejects.toMatchObject({
      code: "s3.unreachable",
    });
    server = await S3Server.listen();
  }, 60_000);
});
