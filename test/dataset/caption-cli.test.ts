import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { main } from "../../src/cli/main.ts";
import { temporaryFolder, writeClip, writePicture } from "./caption-media.ts";
import { ChatServer } from "./caption-server.ts";

const key = "sk-very-secret-0123456789";

async function kinora(...argv: string[]) {
  const data: string[] = [];
  const notes: string[] = [];
  const code = await main(["dataset", "caption", ...argv], {
    data: (text) => data.push(text),
    note: (text) => notes.push(text),
    progress: (text) => notes.push(text),
  });
  return { code, data: data.join("\n"), notes: notes.join("\n") };
}

afterEach(() => vi.unstubAllEnvs());

describe("kinora dataset caption", () => {
  test("a dry run names items, requests and prompt, sends nothing and needs no endpoint", async () => {
    await using folder = await temporaryFolder();
    await writeClip(folder.file("a.mp4"));
    await writePicture(folder.file("b.jpg"));
    await writeFile(folder.file("b.txt"), "there");
    const shown = await kinora(folder.path, "--dry-run", "--template", "motion", "--note", "A press.");
    expect(shown.code).toBe(0);
    expect(shown.data).toContain("a.mp4\nb.jpg: unchanged, has a caption");
    expect(shown.data).toMatch(/Describe the movement in this clip\..*8 frames.*3\.0 seconds.*A press\./);
    expect(shown.data).toContain("1 request would be sent");
    const json = JSON.parse((await kinora(folder.path, "--dry-run", "--json", "--endpoint", "dashscope")).data);
    expect(json).toMatchObject({ todo: ["a.mp4"], kept: [{ name: "b.jpg" }], requests: 1 });
    expect(await readdir(folder.path)).toEqual(["a.mp4", "b.jpg", "b.txt"]);
  });

  test("captions with the key of the environment, in DashScope's form too, and never shows it", async () => {
    await using folder = await temporaryFolder();
    await writeClip(folder.file("a.mp4"));
    await using server = await ChatServer.start(() => "grey", { key });
    vi.stubEnv("DASHSCOPE_API_KEY", key);
    const url = `${server.origin}/compatible-mode/v1`;
    const done = await kinora(
      folder.path,
      "--endpoint",
      url,
      "--protocol",
      "dashscope",
      "--model",
      "eyes",
      "--trigger",
      "sks,",
      "--json",
    );
    expect(done.code).toBe(0);
    expect(JSON.parse(done.data)).toMatchObject({
      captioned: [{ name: "a.mp4", text: "sks, grey" }],
      failed: [],
      requests: 1,
      usage: { inputTokens: 100, outputTokens: 20 },
    });
    expect(server.received[0]!.pictures).toHaveLength(8);
    expect(server.received[0]!.fps).toBeCloseTo(8 / 3, 2);
    expect(await readFile(folder.file("a.txt"), "utf8")).toBe("sks, grey\n");

    vi.stubEnv("DASHSCOPE_API_KEY", `${key}-wrong`);
    const refused = await kinora(
      folder.path,
      "--endpoint",
      url,
      "--protocol",
      "dashscope",
      "--model",
      "eyes",
      "--rewrite",
    );
    expect(refused.code).toBe(1);
    expect(refused.notes).toContain("error chat.unauthorized");
    expect(done.data + done.notes + refused.data + refused.notes).not.toContain(key);
  });

  test("drafts, then accepts", async () => {
    await using folder = await temporaryFolder();
    await writePicture(folder.file("b.jpg"));
    await using server = await ChatServer.start(() => "a dog");
    const url = `${server.origin}/v1`;
    const drafted = await kinora(folder.path, "--endpoint", url, "--model", "eyes", "--draft", "--trigger", "sks");
    expect(drafted.notes).toContain("1 draft written");
    const accepted = await kinora(folder.path, "--accept", "--json");
    expect(JSON.parse(accepted.data)).toMatchObject({ accepted: [{ name: "b.jpg", text: "sks. A dog" }], kept: [] });
    expect((await readdir(folder.path)).sort()).toEqual([".kinora", "b.jpg", "b.txt"]);
  });

  test("items that fail give exit code 1 and are named with a reason", async () => {
    await using folder = await temporaryFolder();
    await writePicture(folder.file("b.jpg"));
    await writePicture(folder.file("c.jpg"));
    await using server = await ChatServer.start((_, number) => (number === 1 ? "I cannot describe people." : "a dog"));
    const done = await kinora(
      folder.path,
      "--endpoint",
      `${server.origin}/v1`,
      "--model",
      "eyes",
      "--concurrency",
      "1",
    );
    expect(done.code).toBe(1);
    expect(done.notes).toContain("b.jpg: error caption.refused");
    expect(done.notes).toMatch(/captioned 2 of 2, \d+ s, about 0 s left/);
    expect(done.data).toContain("c.txt: a dog");
  });

  test.each<[string[], string]>([
    [[], "cli.bad-arguments"],
    [["set"], "cli.missing-option"],
    [["set", "--endpoint", "ollama"], "cli.missing-option"],
    [["set", "--endpoint", "olama", "--model", "m"], "chat.bad-endpoint"],
    [["set", "--endpoint", "ollama", "--model", "m", "--frames", "many"], "cli.bad-number"],
    [["set", "--endpoint", "ollama", "--model", "m", "--send", "sound"], "cli.bad-value"],
    [["set", "--endpoint", "ollama", "--model", "m", "--template", "sceen"], "caption.unknown-template"],
    [["set", "--endpoint", "ollama", "--model", "m", "--template-file", "nowhere.txt"], "io.not-found"],
    [["set", "--endpoint", "ollama", "--model", "m", "--body", "[1]"], "cli.bad-value"],
    [["set", "--missing", "--rewrite"], "cli.bad-arguments"],
    [["set", "--accept", "--dry-run"], "cli.bad-arguments"],
    [["nowhere", "--endpoint", "ollama", "--model", "m"], "dataset.no-folder"],
  ])("%j is %s", async (argv, code) => {
    const { code: exit, data } = await kinora(...argv, "--json");
    expect(exit).toBe(1);
    expect(JSON.parse(data).error).toMatchObject({ code, hint: expect.stringMatching(/./) });
  });

  test("killed at any moment, it goes on where it stopped, and no caption is ever half written", async () => {
    await using folder = await temporaryFolder();
    await mkdir(folder.file("set"));
    const count = 12;
    for (let i = 0; i < count; i++) await writePicture(folder.file(`set/${i}.jpg`), 32, 32);
    const text = `${"A long grey picture. ".repeat(400)}End.`;
    // Answers only so many, so that a kill always finds work undone.
    let most = 0;
    await using server = await ChatServer.start((_, number) => (number <= most ? text : "hang"));
    const run = () =>
      spawn(
        process.execPath,
        [
          resolve("bin/kinora.mjs"),
          "dataset",
          "caption",
          folder.file("set"),
          "--endpoint",
          `${server.origin}/v1`,
          "--model",
          "eyes",
        ],
        { stdio: "ignore" },
      );
    for (const answers of [2, 7]) {
      most = answers;
      const child = run();
      const gone = once(child, "exit");
      await expect.poll(() => server.received.length, { timeout: 60_000, interval: 1 }).toBeGreaterThan(most);
      child.kill("SIGKILL");
      await gone;
      // The job's own process ends with it, a moment later.
      await expect.poll(() => server.connections(), { timeout: 30_000 }).toBe(0);
    }
    most = Number.POSITIVE_INFINITY;
    const written = (await readdir(folder.file("set"))).filter((name) => name.endsWith(".txt"));
    expect(written.length).toBeGreaterThan(0);
    expect(written.length).toBeLessThan(count);
    const asked = server.received.length;
    const [code] = await once(run(), "exit");
    expect(code).toBe(0);
    expect(server.received.length - asked).toBe(count - written.length);
    for (let i = 0; i < count; i++) {
      expect(existsSync(folder.file(`set/${i}.txt`))).toBe(true);
      expect(await readFile(folder.file(`set/${i}.txt`), "utf8")).toBe(`${text}\n`);
    }
  });
});
