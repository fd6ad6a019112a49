// Captions, JSONL, templates and prompts as people save them: read rightly wherever they are read, told, never mangled.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { finished } from "../../src/base/generators.ts";
import { acceptDrafts } from "../../src/dataset/caption/accept.ts";
import { readCaptionFolder } from "../../src/dataset/caption/folder.ts";
import { replaceCaption, writeNewCaption } from "../../src/dataset/caption/store.ts";
import { readTemplate } from "../../src/dataset/caption/templates.ts";
import { folderConfig, parseDatasetConfig } from "../../src/dataset/config.ts";
import { planDataset } from "../../src/dataset/dataset-plan.ts";
import { type PrepareEvent, prepareDataset } from "../../src/dataset/prepare/prepare.ts";
import { probeMedia } from "../../src/dataset/probe.ts";
import { planWarnings } from "../../src/dataset/warnings.ts";
import { measureNames } from "../../src/protocol/prepare-config.ts";
import { readPromptFile } from "../../src/train/config/prompt-file.ts";
import { encodeText } from "../support/encode-text.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { picture } from "./dataset-files.ts";

const path = temporaryFolder();
const composed = "caf\u00e9";
const decomposed = "cafe\u0301";
const unclear = encodeText("巴林", "gb18030");
const plan = (config: ReturnType<typeof folderConfig>) =>
  finished(planDataset(config, probeMedia, { model: "tiny-t2v" }));

describe("a dataset's captions", () => {
  it("are read in any encoding that can be told; others leave their file out, and both are told", async () => {
    const saved: Record<string, Uint8Array> = {
      a: Buffer.from("\ufeffein rotes Haus\r\n", "utf16le"),
      b: encodeText("eine grüne Tür", "windows-1252"),
      c: encodeText("湖面上的白色小船", "gb18030"),
      d: unclear,
      e: Buffer.from("a lamp"),
    };
    for (const [name, bytes] of Object.entries(saved)) {
      await picture(path(`set/${name}.png`));
      writeFileSync(path(`set/${name}.txt`), bytes);
    }
    const found = await plan(folderConfig(path("set")));
    const captions = Object.fromEntries(found.items.map(({ name, caption }) => [name, caption.text]));
    expect(captions).toEqual({
      "a.png": "ein rotes Haus",
      "b.png": "eine grüne Tür",
      "c.png": "湖面上的白色小船",
      "e.png": "a lamp",
    });
    expect(found.drops).toMatchObject([{ name: "d.png", code: "bad-caption", items: 1 }]);
    const warnings = planWarnings(found);
    expect(warnings.find(({ code }) => code === "text.encoding")).toMatchObject({ files: ["b.txt", "c.txt"] });
    expect(warnings.find(({ code }) => code === "caption.unreadable")).toMatchObject({
      files: ["d.png"],
      hint: expect.stringContaining("d.txt"),
    });
  });

  it("belong to a clip whose name is spelled the other way, as do controls and the paths of a JSONL", async () => {
    await picture(path(`spelled/${decomposed}.png`));
    writeFileSync(path(`spelled/${composed}.txt`), "a cup");
    const beside = await plan(folderConfig(path("spelled")));
    expect(beside.items.map(({ caption }) => caption.text)).toEqual(["a cup"]);
    expect(beside.datasets[0]!.orphanCaptions).toEqual([]);

    mkdirSync(path("spelled-controls"));
    await picture(path(`spelled-controls/${composed}_0.png`));
    const config = parseDatasetConfig(
      `[[datasets]]\nimage_directory = ${JSON.stringify(path("spelled"))}\ncontrol_directory = ${JSON.stringify(path("spelled-controls"))}\ncache_directory = "c"`,
    );
    const [item] = (await plan(config)).items;
    expect(item!.control).toBe(path(`spelled-controls/${composed}_0.png`));

    const line = { image_path: path(`spelled/${composed}.png`), caption: "a cup of tea" };
    writeFileSync(path("set.jsonl"), Buffer.from(`\ufeff${JSON.stringify(line)}\r\n`, "utf16le"));
    const lines = await plan(
      parseDatasetConfig(
        `[[datasets]]\nimage_jsonl_file = ${JSON.stringify(path("set.jsonl"))}\ncache_directory = "c"`,
      ),
    );
    expect(lines.items.map(({ file, caption }) => [file, caption.text])).toEqual([
      [path(`spelled/${decomposed}.png`), "a cup of tea"],
    ]);
  });
});

describe("captioning", () => {
  it("finds what is there under either spelling, and leaves alone what it cannot read", async () => {
    await picture(path(`mine/${decomposed}.png`));
    await picture(path("mine/old.png"));
    await picture(path("mine/odd.png"));
    await picture(path("mine/drafted.png"));
    writeFileSync(path(`mine/${composed}.txt`), "a cup");
    writeFileSync(path("mine/old.txt"), encodeText("une forêt près d’un lac", "windows-1252"));
    writeFileSync(path("mine/odd.txt"), unclear);
    writeFileSync(path("mine/drafted.draft.txt"), unclear);
    const { items, left, notices } = await readCaptionFolder(path("mine"), { extension: ".txt" });
    expect(items.map(({ name, caption, captionPath }) => [name, caption, captionPath])).toEqual([
      [`${decomposed}.png`, "a cup", path(`mine/${composed}.txt`)],
      ["old.png", "une forêt près d’un lac", path("mine/old.txt")],
    ]);
    expect(left.map(({ name, unreadable }) => [name, unreadable]).sort()).toEqual([
      ["drafted.png", true],
      ["odd.png", true],
    ]);
    expect(notices).toEqual([expect.stringMatching(/^old\.txt is not UTF-8 and was read as Windows-1252/)]);
    const events = [];
    for await (const event of acceptDrafts({ folder: path("mine"), extension: ".txt", overwrite: true }))
      events.push(event);
    expect(events.filter(({ type }) => type === "kept")).toHaveLength(2);
    expect(readFileSync(path("mine/drafted.draft.txt")).equals(unclear)).toBe(true);
  });

  it("keeps a replaced caption byte by byte, and never writes over one that it cannot read", async () => {
    const before = encodeText("une forêt", "windows-1252");
    writeFileSync(path("kept.txt"), before);
    expect(await replaceCaption(path("kept.txt"), "a forest")).toBe(path("kept.txt.1.bak"));
    expect(readFileSync(path("kept.txt.1.bak")).equals(before)).toBe(true);
    expect(readFileSync(path("kept.txt"), "utf8")).toBe("a forest\n");
    writeFileSync(path("unclear.txt"), unclear);
    await expect(replaceCaption(path("unclear.txt"), "new")).rejects.toMatchObject({ code: "text.unknown-encoding" });
    await expect(writeNewCaption(path("unclear.txt"), "new")).rejects.toMatchObject({ code: "text.unknown-encoding" });
    expect(readFileSync(path("unclear.txt")).equals(unclear)).toBe(true);
    expect(readdirSync(path(".")).filter((name) => name.includes("partial"))).toEqual([]);
  });

  it("reads templates in any encoding", async () => {
    writeFileSync(path("template.txt"), Buffer.from("\ufeffDescribe {view}\r\n[picture]\r\nSay more.", "utf16le"));
    const { template } = await readTemplate(path("template.txt"));
    expect([template.clip, template.picture]).toEqual(["Describe {view}", "Say more."]);
  });
});

describe("preparing", () => {
  it("brings captions along in UTF-8, tells which were not, and names those that it cannot read", async () => {
    await picture(path(`source/${decomposed}.png`));
    await picture(path("source/odd.png"), 96, 64);
    writeFileSync(path(`source/${composed}.txt`), encodeText("une tasse de café à côté", "windows-1252"));
    writeFileSync(path("source/odd.txt"), unclear);
    const quality = Object.fromEntries(measureNames.map((name) => [name, false as const]));
    const config = { model: "tiny-t2v" as const, quality, duplicates: { detect: false } };
    const events: PrepareEvent[] = [];
    const request = { sources: [path("source")], out: path("prepared"), config };
    for await (const event of prepareDataset(request)) events.push(event);
    const end = events.at(-1)!;
    const notes = end.type === "finished" ? end.summary.notes : [];
    expect(readFileSync(path(`prepared/images/${composed}.txt`), "utf8")).toBe("une tasse de café à côté\n");
    expect(notes).toEqual([expect.stringMatching(/Windows-1252/)]);
    expect(events.filter(({ type }) => type === "problem")).toMatchObject([
      { path: path("source/odd.txt"), code: "text.unknown-encoding" },
    ]);

    // A text of a person that cannot be read stays as it is.
    writeFileSync(path(`prepared/images/${composed}.txt`), unclear);
    for await (const event of prepareDataset(request)) events.push(event);
    expect(readFileSync(path(`prepared/images/${composed}.txt`)).equals(unclear)).toBe(true);
  });
});

describe("a prompt file", () => {
  it("is read in any encoding, and says so where it was guessed", async () => {
    writeFileSync(path("p.txt"), Buffer.from("\ufeffein Hund --w 64 --h 64\r\n", "utf16le"));
    expect(await readPromptFile(path("p.txt"))).toEqual({
      prompts: [{ prompt: "ein Hund", width: 64, height: 64 }],
      notes: [],
    });
    writeFileSync(path("q.txt"), encodeText("собака бежит по снегу --d 3\r# коммент\r", "windows-1251"));
    const { prompts, notes } = await readPromptFile(path("q.txt"));
    expect(prompts).toEqual([{ prompt: "собака бежит по снегу", seed: 3n }]);
    expect(notes).toEqual([expect.stringMatching(/q\.txt is not UTF-8 and was read as Windows-1251/)]);
    writeFileSync(path("r.txt"), unclear);
    await expect(readPromptFile(path("r.txt"))).rejects.toMatchObject({ code: "text.unknown-encoding" });
  });

  it("takes --n without words as no negative prompt of its own, as musubi does", async () => {
    await picture(path(`${decomposed} start.png`));
    writeFileSync(path("n.txt"), `a dog --n --s 3 --i ${composed} start.png`);
    const { prompts, notes } = await readPromptFile(path("n.txt"));
    expect(prompts).toEqual([{ prompt: "a dog", steps: 3, image: path(`${decomposed} start.png`) }]);
    expect(notes).toEqual([expect.stringMatching(/line 1: --n has no value/)]);
  });
});
