import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { isKinoraError } from "../../src/base/errors.ts";
import { acceptDrafts } from "../../src/dataset/caption/accept.ts";
import { type CaptionEvent, captionFolder, planCaptions } from "../../src/dataset/caption/caption.ts";
import { journalPath } from "../../src/dataset/caption/journal.ts";
import { type CaptionSettings, captionDefaults } from "../../src/dataset/caption/settings.ts";
import { parseTemplate, promptTemplate, promptTemplates, renderPrompt } from "../../src/dataset/caption/templates.ts";
import { resolveEndpoint } from "../../src/io/chat/endpoint.ts";
import { probe } from "../../src/io/video/probe.ts";
import { type DatasetManifest, datasetManifestSchema } from "../../src/protocol/dataset-manifest.ts";
import {
  decodePicture,
  greyAt,
  type TemporaryFolder,
  temporaryFolder,
  writeClip,
  writePicture,
} from "./caption-media.ts";
import { type Behaviour, ChatServer } from "./caption-server.ts";

const key = "sk-very-secret-0123456789";

function settingsFor(server: ChatServer, folder: string, changes: Partial<CaptionSettings> = {}): CaptionSettings {
  return {
    ...captionDefaults,
    folder,
    endpoint: resolveEndpoint({ endpoint: `${server.origin}/v1`, keyVariable: "K" }, { K: key }),
    model: "eyes",
    template: promptTemplate("scene"),
    trigger: "Studio Ghibli style",
    timeoutSeconds: 10,
    retries: 2,
    backoffSeconds: 0.01,
    ...changes,
  };
}

async function run(settings: CaptionSettings): Promise<CaptionEvent[]> {
  const events: CaptionEvent[] = [];
  for await (const event of captionFolder(settings)) events.push(event);
  return events;
}

const ofType = <T extends CaptionEvent["type"]>(events: CaptionEvent[], type: T) =>
  events.filter((event): event is Extract<CaptionEvent, { type: T }> => event.type === type);

const read = (folder: TemporaryFolder, name: string) => readFile(folder.file(name), "utf8");

/** Two clips and a picture, one clip with a caption. */
async function smallSet(): Promise<TemporaryFolder> {
  const folder = await temporaryFolder();
  await mkdir(folder.file("videos"));
  await mkdir(folder.file("images"));
  await writeClip(folder.file("videos/a.mp4"));
  await writeClip(folder.file("videos/b.mp4"), 20);
  await writePicture(folder.file("images/c.jpg"));
  await writeFile(folder.file("videos/b.txt"), "written by hand\n");
  return folder;
}

const describeIt: Behaviour = ({ pictures }) => `In Studio Ghibli style, ${pictures.length} grey frames brighten.`;

describe("what the model is shown", () => {
  test("frames of a clip, evenly in time, as JPEG that decodes to what the clip shows", async () => {
    await using folder = await smallSet();
    await using server = await ChatServer.start(describeIt);
    await run(settingsFor(server, folder.path, { frames: 6, side: 48 }));
    const clip = server.received.find(({ pictures }) => pictures.length === 6)!;
    const shown = await Promise.all(clip.pictures.map(decodePicture));
    // Six stretches of eight frames: the one in the middle of each.
    shown.forEach(({ width, height, mean }, i) => {
      expect([width, height]).toEqual([48, 32]);
      expect(Math.abs(mean - greyAt(8 * i + 4, 48))).toBeLessThan(6);
    });
    expect(clip.text).toContain("6 frames taken evenly from one clip of 3.0 seconds");

    const picture = server.received.find(({ pictures }) => pictures.length === 1)!;
    expect(await decodePicture(picture.pictures[0]!)).toMatchObject({ width: 48, height: 24 });
    expect(picture.text).not.toContain("clip");
  });

  test("a clip with fewer frames than asked for is shown whole, and pictures are never enlarged", async () => {
    await using folder = await temporaryFolder();
    await writeClip(folder.file("short.mp4"), 5);
    await using server = await ChatServer.start(describeIt);
    await run(settingsFor(server, folder.path, { frames: 16 }));
    const frames = await Promise.all(server.received[0]!.pictures.map(decodePicture));
    expect(frames.map(({ mean }) => Math.round(mean / 10))).toEqual(
      [0, 1, 2, 3, 4].map((i) => Math.round(greyAt(i, 5) / 10)),
    );
    expect(frames[0]).toMatchObject({ width: 96, height: 64 });
  });

  test("the film itself where video is sent, pictures as pictures", async () => {
    await using folder = await smallSet();
    await using server = await ChatServer.start(() => "grey");
    await run(settingsFor(server, folder.path, { send: "video" }));
    const film = server.received.find(({ films }) => films.length === 1)!;
    expect(film.films[0]!.equals(await readFile(folder.file("videos/a.mp4")))).toBe(true);
    expect(film.text).toContain("The clip lasts 3.0 seconds");
    expect(server.received.find(({ pictures }) => pictures.length === 1)).toBeDefined();
  });

  test("frames of a long clip, by seeking", async () => {
    await using folder = await temporaryFolder();
    await writeClip(folder.file("long.mp4"), 400);
    await using server = await ChatServer.start(() => "grey");
    await run(settingsFor(server, folder.path, { frames: 5 }));
    const frames = await Promise.all(server.received[0]!.pictures.map(decodePicture));
    expect(frames).toHaveLength(5);
    frames.forEach(({ mean }, i) => {
      expect(Math.abs(mean - greyAt(80 * i + 40, 400))).toBeLessThan(6);
    });
  });

  test("a film in another container goes as an MP4 of the same length, smaller where asked", async () => {
    await using folder = await temporaryFolder();
    await writeClip(folder.file("a.mov"));
    await using server = await ChatServer.start(() => "grey");
    await run(settingsFor(server, folder.path, { send: "video", side: 48 }));
    const film = folder.file("received.mp4");
    await writeFile(film, server.received[0]!.films[0]!);
    const { duration, video } = await probe(film);
    expect(duration).toBeCloseTo(3, 1);
    expect(video).toMatchObject({ width: 48, height: 32, codec: "h264" });
  });

  const shared = resolve("../shared/media");
  test.skipIf(!existsSync(shared))("real clips of any size, rate and codec (needs ../shared/media)", async () => {
    await using folder = await temporaryFolder();
    for (const name of ["motorcycle-4k.mp4", "dance-skeleton.mp4", "portrait.jpeg"])
      await symlink(join(shared, name), folder.file(name));
    await using server = await ChatServer.start(async ({ pictures }) => {
      const sizes = (await Promise.all(pictures.map(decodePicture))).map(
        ({ width, height }) => `${width} by ${height}`,
      );
      return `seen: ${[...new Set(sizes)].join(", ")}, ${pictures.length} of them`;
    });
    const events = await run(settingsFor(server, folder.path, { trigger: "", frames: 4, side: 512 }));
    expect(Object.fromEntries(ofType(events, "captioned").map(({ name, text }) => [name, text]))).toEqual({
      "motorcycle-4k.mp4": "seen: 512 by 288, 4 of them",
      "dance-skeleton.mp4": "seen: 512 by 288, 4 of them",
      "portrait.jpeg": "seen: 512 by 288, 1 of them",
    });
  });

  test("the kept part of a film where the manifest only points at it, cut and cropped, as frames and as film", async () => {
    await using folder = await temporaryFolder();
    await writeClip(folder.file("film.mp4"));
    const set = folder.file("set");
    await mkdir(set);
    const item = { kind: "video" as const, source: 0, frames: 16, measures: {}, reasons: [] };
    const manifest: DatasetManifest = {
      kind: "kinora.dataset",
      version: 1,
      model: "t2v-A14B",
      fps: 16,
      sizeMultiple: 16,
      inPlace: true,
      settings: {},
      sources: [{ path: "../film.mp4", kind: "video", bytes: 1 }],
      items: [
        { ...item, id: "film-1", in: 1, out: 2, crop: { x: 16, y: 0, width: 64, height: 64 }, verdict: "keep" },
        { ...item, id: "film-2", in: 2, out: 3, verdict: "drop" },
      ],
    };
    await writeFile(join(set, "manifest.json"), JSON.stringify(datasetManifestSchema.parse(manifest)));
    await using server = await ChatServer.start(() => "grey");
    await run(settingsFor(server, set, { frames: 4 }));
    expect(server.received).toHaveLength(1);
    const frames = await Promise.all(server.received[0]!.pictures.map(decodePicture));
    frames.forEach(({ width, height, mean }, i) => {
      expect([width, height]).toEqual([64, 64]);
      expect(Math.abs(mean - greyAt(16 + 4 * i + 2, 48))).toBeLessThan(6);
    });
    expect(await readFile(join(set, "videos/film-1.txt"), "utf8")).toBe("Studio Ghibli style. Grey\n");

    await run(settingsFor(server, set, { send: "video", mode: "rewrite" }));
    const film = folder.file("received.mp4");
    await writeFile(film, server.received[1]!.films[0]!);
    const { duration, video } = await probe(film);
    expect(duration).toBeCloseTo(1, 1);
    expect([video!.width, video!.height]).toEqual([64, 64]);
  });
});

describe("captions", () => {
  test("are written beside the media, the trigger first; what is there stays", async () => {
    await using folder = await smallSet();
    await using server = await ChatServer.start(describeIt);
    const events = await run(settingsFor(server, folder.path));
    expect(events[0]).toMatchObject({
      type: "plan",
      todo: ["images/c.jpg", "videos/a.mp4"],
      kept: [{ name: "videos/b.mp4", reason: "has a caption" }],
    });
    expect(await read(folder, "videos/a.txt")).toBe("Studio Ghibli style. 8 grey frames brighten.\n");
    expect(await read(folder, "images/c.txt")).toBe("Studio Ghibli style. 1 grey frames brighten.\n");
    expect(await read(folder, "videos/b.txt")).toBe("written by hand\n");
    expect(events.at(-1)).toMatchObject({
      type: "finished",
      captioned: 2,
      failed: 0,
      requests: 2,
      usage: { inputTokens: 200, outputTokens: 40 },
    });
    expect(ofType(events, "progress").map(({ done, total }) => [done, total])).toEqual([
      [1, 2],
      [2, 2],
    ]);
    const again = await run(settingsFor(server, folder.path));
    expect(again[0]).toMatchObject({ todo: [] });
    expect(server.received).toHaveLength(2);
  });

  test("a caption that comes to be while the model thinks is not overwritten", async () => {
    await using folder = await temporaryFolder();
    await writePicture(folder.file("c.jpg"));
    await using server = await ChatServer.start(async () => {
      await writeFile(folder.file("c.txt"), "by hand, just now");
      return "a picture";
    });
    const events = await run(settingsFor(server, folder.path));
    expect(ofType(events, "kept")).toHaveLength(1);
    expect(await read(folder, "c.txt")).toBe("by hand, just now");
  });

  test("a blank caption file counts as none", async () => {
    await using folder = await temporaryFolder();
    await writePicture(folder.file("c.jpg"));
    await writeFile(folder.file("c.txt"), " \n");
    await using server = await ChatServer.start(() => "a picture");
    await run(settingsFor(server, folder.path));
    expect(await read(folder, "c.txt")).toBe("Studio Ghibli style. A picture\n");
  });

  test("rewriting keeps every previous text", async () => {
    await using folder = await smallSet();
    let text = "first";
    await using server = await ChatServer.start(() => text);
    await run(settingsFor(server, folder.path, { mode: "rewrite" }));
    text = "second";
    await run(settingsFor(server, folder.path, { mode: "rewrite" }));
    expect(await read(folder, "videos/b.txt")).toBe("Studio Ghibli style. Second\n");
    expect(await read(folder, "videos/b.txt.1.bak")).toBe("written by hand\n");
    expect(await read(folder, "videos/b.txt.2.bak")).toBe("Studio Ghibli style. First\n");
    // The same text again is no change.
    await run(settingsFor(server, folder.path, { mode: "rewrite" }));
    expect((await readdir(folder.file("videos"))).filter((name) => name.includes("b.txt."))).toHaveLength(2);
  });

  test("names with spaces, quotes, line breaks and other scripts, links in a circle", async () => {
    await using folder = await temporaryFolder();
    const names = ["a b.jpg", 'it\'s "quoted".jpg', "две\nстроки.jpg", "猫.JPG"];
    for (const name of names) await writePicture(folder.file(name), 32, 32);
    await symlink(folder.path, folder.file("loop"));
    await using server = await ChatServer.start(() => "a picture");
    const events = await run(settingsFor(server, folder.path, { trigger: "" }));
    expect(
      ofType(events, "captioned")
        .map(({ name }) => name)
        .sort(),
    ).toEqual([...names].sort());
    expect(await read(folder, "две\nстроки.txt")).toBe("a picture\n");
  });

  test("two media of one name have one caption", async () => {
    await using folder = await temporaryFolder();
    await writePicture(folder.file("c.jpg"), 32, 32);
    await writePicture(folder.file("c.jpeg"), 32, 32);
    await using server = await ChatServer.start(() => "a picture");
    const [plan] = await run(settingsFor(server, folder.path));
    expect(plan).toMatchObject({
      todo: ["c.jpeg"],
      kept: [{ name: "c.jpg", reason: "its caption file belongs to c.jpeg" }],
    });
  });

  test("a captions folder is kept in step, or alone holds the captions", async () => {
    await using folder = await smallSet();
    await mkdir(folder.file("captions"));
    await using server = await ChatServer.start(() => "grey");
    await run(settingsFor(server, folder.path));
    expect(await read(folder, "captions/a.txt")).toBe(await read(folder, "videos/a.txt"));

    await using apart = await temporaryFolder();
    await mkdir(apart.file("captions"));
    await mkdir(apart.file("videos"));
    await writePicture(apart.file("videos/a.jpg"), 32, 32);
    await writePicture(apart.file("videos/b.jpg"), 32, 32);
    await writeFile(apart.file("captions/a.txt"), "by hand");
    await run(settingsFor(server, apart.path));
    expect(await readdir(apart.file("captions"))).toEqual(["a.txt", "b.txt"]);
    expect(await readdir(apart.file("videos"))).toEqual(["a.jpg", "b.jpg"]);
  });
});

describe("drafts", () => {
  test("are written for a person, accepted at once, and never over a caption unasked", async () => {
    await using folder = await smallSet();
    await using server = await ChatServer.start(() => "grey");
    const settings = settingsFor(server, folder.path, { draft: true });
    await run(settings);
    expect(existsSync(folder.file("videos/a.txt"))).toBe(false);
    expect(await read(folder, "videos/a.draft.txt")).toBe("Studio Ghibli style. Grey\n");
    // Neither a draft nor a direct caption is asked for again while one waits.
    expect((await planCaptions(settings)).todo).toEqual([]);
    expect((await planCaptions({ ...settings, draft: false })).todo).toEqual([]);

    // The person edits one, loses the trigger in another, and has a draft for a captioned clip.
    await writeFile(folder.file("videos/a.draft.txt"), "Studio Ghibli style. A grey\nclip.\n");
    await writeFile(folder.file("images/c.draft.txt"), "a picture");
    await writeFile(folder.file("videos/b.draft.txt"), "Studio Ghibli style. Better.");
    const events = [];
    for await (const event of acceptDrafts({ folder: folder.path, extension: ".txt", overwrite: false }))
      events.push(event);
    expect(events).toMatchObject([
      { type: "accepted", name: "images/c.jpg", triggerRestored: true },
      { type: "accepted", name: "videos/a.mp4", triggerRestored: false },
      { type: "kept", name: "videos/b.mp4" },
      { type: "finished", accepted: 2, kept: 1 },
    ]);
    expect(await read(folder, "images/c.txt")).toBe("Studio Ghibli style. A picture\n");
    expect(await read(folder, "videos/a.txt")).toBe("Studio Ghibli style. A grey\nclip.\n");
    expect(await read(folder, "videos/b.txt")).toBe("written by hand\n");

    for await (const event of acceptDrafts({ folder: folder.path, extension: ".txt", overwrite: true }))
      events.push(event);
    expect(await read(folder, "videos/b.txt")).toBe("Studio Ghibli style. Better.\n");
    expect(await read(folder, "videos/b.txt.1.bak")).toBe("written by hand\n");
    expect((await readdir(folder.file("videos"))).sort()).toEqual(["a.mp4", "a.txt", "b.mp4", "b.txt", "b.txt.1.bak"]);
  });

  test("an accept that was killed half way is finished by the next", async () => {
    await using folder = await temporaryFolder();
    await writePicture(folder.file("c.jpg"), 32, 32);
    await writeFile(folder.file("c.draft.txt"), "a picture");
    await writeFile(folder.file("c.txt"), "a picture\n");
    const events = [];
    for await (const event of acceptDrafts({ folder: folder.path, extension: ".txt", overwrite: false }))
      events.push(event);
    expect(events.at(-1)).toEqual({ type: "finished", accepted: 1, kept: 0 });
    expect(existsSync(folder.file("c.draft.txt"))).toBe(false);
  });

  test("the caption of a clip called a.draft is not the draft of a", async () => {
    await using folder = await temporaryFolder();
    await writePicture(folder.file("a.jpg"), 32, 32);
    await writePicture(folder.file("a.draft.jpg"), 32, 32);
    await writeFile(folder.file("a.draft.txt"), "the caption of a.draft");
    const events = [];
    for await (const event of acceptDrafts({ folder: folder.path, extension: ".txt", overwrite: true }))
      events.push(event);
    expect(events).toEqual([{ type: "finished", accepted: 0, kept: 0 }]);
    await using server = await ChatServer.start(() => "a picture");
    await run(settingsFor(server, folder.path, { draft: true, trigger: "" }));
    expect(await read(folder, "a.draft.txt")).toBe("the caption of a.draft");
    expect(await read(folder, "a.draft.draft.txt")).toBe("a picture\n");
  });
});

describe("what goes wrong", () => {
  test("with one item leaves the others be", async () => {
    await using folder = await temporaryFolder();
    for (const name of ["1", "2", "3", "4", "5"]) await writePicture(folder.file(`${name}.jpg`), 32, 32);
    await writeFile(folder.file("broken.mp4"), "this is text");
    const answers: Record<string, string> = {};
    await using server = await ChatServer.start(async (_, number) => {
      const replies = [
        "I'm sorry, but I can't assist with that.",
        "Studio Ghibli style.",
        "",
        "a picture",
        "word ".repeat(600),
      ];
      const reply = replies[number - 1] ?? "";
      answers[number] = reply;
      return reply;
    });
    const events = await run(settingsFor(server, folder.path, { concurrency: 1 }));
    expect(ofType(events, "failed").map(({ name, code }) => [name, code])).toEqual([
      ["1.jpg", "caption.refused"],
      // Nothing but the trigger, and asked once more, nothing at all.
      ["2.jpg", "caption.empty-answer"],
      ["5.jpg", "caption.empty-answer"],
      ["broken.mp4", "media.unreadable"],
    ]);
    expect(ofType(events, "captioned").map(({ name, warnings }) => [name, warnings])).toEqual([
      ["3.jpg", []],
      ["4.jpg", ["too-long"]],
    ]);
    expect((await readdir(folder.path)).filter((name) => name.endsWith(".txt"))).toEqual(["3.txt", "4.txt"]);
  });

  test("answers without end and with lost letters are no captions", async () => {
    await using folder = await temporaryFolder();
    for (const name of ["1", "2", "3"]) await writePicture(folder.file(`${name}.jpg`), 32, 32);
    const replies = ["a dog and ".repeat(10_000), "a caf\ufffd", "a caf\ufffd again", "a caf\ufffd", "a café"];
    await using server = await ChatServer.start((_, number) => replies[number - 1] ?? "");
    const events = await run(settingsFor(server, folder.path, { concurrency: 1, trigger: "" }));
    expect(ofType(events, "failed").map(({ name, code }) => [name, code])).toEqual([
      ["1.jpg", "caption.runaway"],
      ["2.jpg", "caption.garbled"],
    ]);
    expect(await readFile(folder.file("3.txt"), "utf8")).toMatch(/^a café/i);
  });

  test("a filter of the service and a cut answer", async () => {
    await using folder = await temporaryFolder();
    for (const name of ["1", "2", "3"]) await writePicture(folder.file(`${name}.jpg`), 32, 32);
    await using server = await ChatServer.start((_, number) =>
      number === 1
        ? { text: "", finish: "content_filter" }
        : number === 2
          ? { text: "A dog barks. It snows on", finish: "length" }
          : { text: "", refusal: "not this one" },
    );
    const events = await run(settingsFor(server, folder.path, { concurrency: 1 }));
    expect(ofType(events, "failed").map(({ code }) => code)).toEqual(["caption.refused", "caption.refused"]);
    expect(ofType(events, "captioned")).toMatchObject([
      { text: "Studio Ghibli style. A dog barks.", warnings: ["cut"] },
    ]);
  });

  test("what no other item would survive ends the run at once", async () => {
    await using folder = await temporaryFolder();
    for (let i = 0; i < 20; i++) await writePicture(folder.file(`${i}.jpg`), 32, 32);
    await using server = await ChatServer.start(() => "a picture", { models: ["ears"] });
    await expect(run(settingsFor(server, folder.path))).rejects.toMatchObject({
      code: "chat.model-not-found",
      hint: "did you mean ears? it has ears",
    });
    await using closed = await ChatServer.start(() => "a picture", { key: "another" });
    await expect(run(settingsFor(closed, folder.path))).rejects.toMatchObject({ code: "chat.unauthorized" });
    // Nothing was written, so nothing was left behind.
    expect((await readdir(folder.path)).filter((name) => !name.endsWith(".jpg"))).toEqual([]);
  });

  test("an endpoint that keeps failing is given up", async () => {
    await using folder = await temporaryFolder();
    for (let i = 0; i < 9; i++) await writePicture(folder.file(`${i}.jpg`), 32, 32);
    await using server = await ChatServer.start(() => ({ status: 500, body: "broken" }));
    await expect(run(settingsFor(server, folder.path, { retries: 1, concurrency: 1 }))).rejects.toMatchObject({
      code: "caption.giving-up",
    });
    expect(server.received).toHaveLength(10);
  });

  test.each<[Partial<CaptionSettings>]>([
    [{ frames: 0 }],
    [{ timeoutSeconds: 301 }],
    [{ trigger: "two\nlines" }],
    [{ requestsPerMinute: 0 }],
    [{ extension: "txt" }],
  ])("a setting that cannot be: %j", async (changes) => {
    await using server = await ChatServer.start(() => "a picture");
    await expect(planCaptions(settingsFor(server, ".", changes))).rejects.toMatchObject({
      code: "caption.bad-setting",
    });
  });

  test("a folder that is empty, missing, or has a manifest of another version", async () => {
    await using folder = await temporaryFolder();
    await using server = await ChatServer.start(() => "a picture");
    await expect(planCaptions(settingsFor(server, folder.path))).rejects.toMatchObject({ code: "caption.no-media" });
    await expect(planCaptions(settingsFor(server, folder.file("none")))).rejects.toMatchObject({
      code: "dataset.no-folder",
    });
    await writeFile(folder.file("manifest.json"), '{"kind":"kinora.dataset","version":99}');
    await expect(planCaptions(settingsFor(server, folder.path))).rejects.toMatchObject({
      code: "dataset.bad-manifest",
    });
  });

  test("the key is in no file", async () => {
    await using folder = await smallSet();
    await using server = await ChatServer.start(
      ({ authorization }) => ({ status: 400, body: `bad: ${authorization}` }),
      { key },
    );
    const events = await run(settingsFor(server, folder.path));
    expect(ofType(events, "failed")).toHaveLength(2);
    server.behaviour = ({ authorization }) => `a note that says ${authorization?.slice(0, 6)}`;
    await run(settingsFor(server, folder.path));
    const journal = await readFile(journalPath(folder.path), "utf8");
    expect(journal).toContain('"model":"eyes"');
    expect(JSON.stringify(events) + journal).not.toContain(key);
  });
});

describe("an interrupted run", () => {
  test("left by its consumer stops asking and goes on later with the rest", async () => {
    await using folder = await temporaryFolder();
    for (let i = 0; i < 6; i++) await writePicture(folder.file(`${i}.jpg`), 32, 32);
    await using server = await ChatServer.start(() => "a picture");
    const settings = settingsFor(server, folder.path, { concurrency: 1 });
    for await (const event of captionFolder(settings)) if (event.type === "captioned" && event.name === "2.jpg") break;
    const asked = server.received.length;
    expect(asked).toBeLessThanOrEqual(4);
    const written = (await readdir(folder.path)).filter((name) => name.endsWith(".txt")).length;
    const [plan] = await run(settings);
    expect((plan as { todo: string[] }).todo).toHaveLength(6 - written);
    expect((await readdir(folder.path)).filter((name) => name.endsWith(".txt"))).toHaveLength(6);
  });

  test("of a rewrite takes up what is left, failures too, and begins anew when told or changed", async () => {
    await using folder = await temporaryFolder();
    for (let i = 0; i < 4; i++) {
      await writePicture(folder.file(`${i}.jpg`), 32, 32);
      await writeFile(folder.file(`${i}.txt`), `old ${i}\n`);
    }
    let failing = true;
    await using server = await ChatServer.start((_, number) =>
      failing && number === 2 ? { status: 400, body: "bad" } : `new ${number}`,
    );
    const settings = settingsFor(server, folder.path, { mode: "rewrite", concurrency: 1, trigger: "" });
    for await (const event of captionFolder(settings)) if (event.type === "captioned" && event.name === "2.jpg") break;
    failing = false;
    // A line that the kill cut short, and an edit by hand after the interruption.
    await writeFile(journalPath(folder.path), `${await readFile(journalPath(folder.path), "utf8")}{"event":"capt`);
    await writeFile(folder.file("0.txt"), "edited by hand\n");
    const left = (await planCaptions(settings)).todo;
    expect(left).toContain("1.jpg");
    expect(left).not.toContain("0.jpg");
    expect((await planCaptions({ ...settings, restart: true })).todo).toHaveLength(4);
    expect((await planCaptions({ ...settings, model: "ears" })).todo).toHaveLength(4);

    const events = await run(settings);
    expect(events[0]).toMatchObject({ resumes: true });
    expect(await read(folder, "0.txt")).toBe("edited by hand\n");
    for (const i of [1, 2, 3]) {
      expect(await read(folder, `${i}.txt`)).toMatch(/^new \d\n$/);
      expect(await read(folder, `${i}.txt.1.bak`)).toBe(`old ${i}\n`);
    }
    // It is finished now: the next rewrite is a new one.
    expect((await planCaptions(settings)).todo).toHaveLength(4);
  });
});

describe("instructions", () => {
  test("every template asks for one paragraph, and tells clips from pictures", () => {
    expect(promptTemplates.map(({ name }) => name)).toEqual([
      "scene",
      "scene-short",
      "character",
      "style",
      "motion",
      "domain",
    ]);
    for (const template of promptTemplates) {
      const clip = renderPrompt(template, "clip", { trigger: "ohwx", note: "The dog is old.", frames: 8, seconds: 5 });
      const picture = renderPrompt(template, "picture", { trigger: "ohwx", note: "" });
      expect(clip).toContain("8 frames taken evenly from one clip of 5.0 seconds");
      expect(clip).toContain("The dog is old.");
      for (const text of [clip, picture]) {
        expect(text).toContain("one paragraph");
        expect(text).not.toMatch(/[{}]|undefined| {2}/);
        // Models echo a phrase they are given.
        expect(text).not.toContain("ohwx");
      }
      expect(picture).not.toMatch(/\bclip\b|camera behaves/);
    }
  });

  test("a template of one's own", () => {
    const both = parseTemplate("Describe {trigger}. {note} {view}", "mine");
    expect(renderPrompt(both, "clip", { trigger: "Rex", note: "", seconds: 2 })).toBe(
      "Describe Rex. The clip lasts 2.0 seconds: describe it from its beginning to its end.",
    );
    const two = parseTemplate("[clip]\r\nA clip.\r\n[picture]\r\nA picture.\r\n", "mine");
    expect([two.clip, two.picture]).toEqual(["A clip.", "A picture."]);
    for (const [text, hint] of [
      ["Describe {tigger}", "did you mean {trigger}?"],
      ["[clip]\nonly clips", "write the instruction as plain text, or under [clip] and [picture]"],
    ] as const) {
      try {
        parseTemplate(text, "mine");
        throw new Error("no error");
      } catch (error) {
        expect(isKinoraError(error, "caption.bad-template") && error.hint).toBe(hint);
      }
    }
  });

  test("one that names the trigger keeps it inside the sentences", async () => {
    await using folder = await temporaryFolder();
    await writePicture(folder.file("c.jpg"), 32, 32);
    await using server = await ChatServer.start(() => "Rex: Rex runs after a cat.");
    await run(
      settingsFor(server, folder.path, { template: parseTemplate("What does {trigger} do?", "mine"), trigger: "Rex" }),
    );
    expect(server.received[0]!.text).toBe("What does Rex do?");
    expect(await read(folder, "c.txt")).toBe("Rex. Rex runs after a cat.\n");
  });
});
