// `kinora dataset prepare` killed at any moment: the run that goes on leaves what an unbroken one leaves, no file under
// its final name is ever a part, and a run over unchanged input does nothing. KINORA_KILLS sets how many kills.
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { encodeImage } from "../../src/io/image/write.ts";
import { draws } from "../support/drawn-weights.ts";
import { makeFilm, temporaryFolder } from "../support/film.ts";
import { type Ended, ended, startKinora } from "../support/kinora-process.ts";
import { contents, prepare, readManifestFile } from "../support/prepared.ts";

const folder = temporaryFolder();
const sources = join(folder, "sources");
const kills = Number(process.env.KINORA_KILLS ?? 3);

/** Encoded on the way; and rendered at the end, since the set's tones are known only then. */
const settings = {
  way: 'resolution = [416, 240]\n[clips]\nshortest = 1\nlongest = 3\n[video]\npreset = "medium"\n',
  tones:
    'resolution = [416, 240]\nnormalize = true\ncaptions_folder = true\n[clips]\nshortest = 1\n[video]\npreset = "medium"\n',
};
type Kind = keyof typeof settings;

const words = (kind: Kind, out: string) => [
  ...["dataset", "prepare", sources, "--out", join(folder, out)],
  ...["--model", "t2v-A14B", "--config", join(folder, `${kind}.toml`)],
];

beforeAll(async () => {
  mkdirSync(sources);
  for (const [kind, text] of Object.entries(settings)) writeFileSync(join(folder, `${kind}.toml`), text);
  const part = (seconds: number, scale: number, hue: number) =>
    `mandelbrot=s=640x368:r=24:start_scale=${scale}:end_scale=${scale / 5}:end_pts=200:maxiter=200,trim=end=${seconds},scroll=h=0.003,hue=h=${hue},format=yuv420p,setsar=1`;
  // Three scenes in one film, a film with bars, one out of focus, one of noise alone, pictures, captions.
  await makeFilm(join(sources, "scenes.mp4"), {
    graph: `${part(4, 0.3, 0)}[a];${part(3, 0.02, 90)}[b];${part(4, 1, 200)}[c];[a][b][c]concat=n=3,settb=1/24,setpts=N`,
    encoderOptions: { preset: "ultrafast" },
  });
  await makeFilm(join(sources, "bars.mp4"), {
    graph: `${part(4, 0.1, 40)},crop=640:268,pad=640:368:0:50`,
    encoderOptions: { preset: "ultrafast" },
  });
  await makeFilm(join(sources, "blurred.mp4"), {
    graph: `${part(2, 0.25, 300)},gblur=sigma=9`,
    encoderOptions: { preset: "ultrafast" },
  });
  writeFileSync(join(sources, "scenes.txt"), "A fractal.\n");
  writeFileSync(join(sources, "broken.mp4"), "no film");
  for (const [i, [width, height]] of [
    [400, 300],
    [300, 500],
  ].entries()) {
    const data = Uint8Array.from({ length: width! * height! * 3 }, (_, at) => (at / 7 / (i + 1)) & 255);
    const picture = await encodeImage({ width: width!, height: height!, data }, "png");
    writeFileSync(join(sources, `picture-${i}.png`), picture);
  }
  writeFileSync(join(sources, "picture-0.txt"), "A picture.\n");
}, 120_000);

/** Files under a folder, hidden ones too. */
const filesIn = (out: string): string[] =>
  existsSync(join(folder, out))
    ? readdirSync(join(folder, out), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name))
    : [];

/** Runs it; kills it `delay` ms after `out` holds so many files. */
async function run(kind: Kind, out: string, kill?: { files: number; delay: number }): Promise<Ended> {
  const child = startKinora(words(kind, out));
  const watch = setInterval(() => {
    if (!kill || filesIn(out).length < kill.files) return;
    clearInterval(watch);
    setTimeout(() => child.kill("SIGKILL"), kill.delay);
  }, 4);
  const result = await ended(child);
  clearInterval(watch);
  return result;
}

const partials = (out: string): string[] => filesIn(out).filter((name) => name.includes(".partial-"));

/**
 * Kills the run into `out` at random moments until it ends; what lies under final names must be of `known` throughout.
 * Progress is told by files, so that kills fall into all parts of a run on machines of any speed.
 */
async function killOften(kind: Kind, out: string, known: Record<string, string>[], seed: number): Promise<string[]> {
  const begun = filesIn(out).length;
  const next = draws(seed);
  const uniform = () => (next() + 1) / 2;
  // Of an earlier set most files stay until the end.
  const most = 0.9 * begun + filesIn(`unbroken-${kind}`).length;
  const told: string[] = [];
  for (let i = 0; i < kills; i++) {
    const before = filesIn(out).length;
    // One in each part of the way, in order.
    const files = Math.max(before + 1, Math.ceil(begun + ((most - begun) * (i + uniform())) / kills));
    const { signal } = await run(kind, out, { files, delay: uniform() * 40 });
    const names = contents(join(folder, out));
    told.push(`from ${before} at ${files} files (${Object.keys(names).length} of the set)`);
    // The report of a set on its way to another tells what was left over.
    if (known.length > 1) delete names["report.html"];
    for (const [name, hash] of Object.entries(names))
      expect(
        known.map((set) => set[name]),
        `${name} after kills ${told.join("; ")}`,
      ).toContain(hash);
    if (signal !== "SIGKILL") break;
  }
  const { code, stderr } = await run(kind, out);
  expect(code, stderr).toBe(0);
  if (process.env.KINORA_KILLS) console.log(`kills: ${told.join("; ")}`);
  return told;
}

describe.each(["way", "tones"] as const)("a preparation (%s)", (kind) => {
  let unbroken: Record<string, string>;

  beforeAll(async () => {
    const { code, stderr } = await run(kind, `unbroken-${kind}`);
    expect(code, stderr).toBe(0);
    unbroken = contents(join(folder, `unbroken-${kind}`));
  }, 300_000);

  it("writes what was asked for", () => {
    const { items } = readManifestFile(join(folder, `unbroken-${kind}`));
    const kept = items.filter((item) => item.verdict === "keep");
    expect(kept.filter((item) => item.kind === "video").length).toBe(kind === "way" ? 7 : 4);
    expect(items.find(({ id }) => id === "blurred")!.verdict).toBe("drop");
    for (const { file, sha256, bytes } of kept) {
      expect(unbroken[file!]).toBe(sha256);
      expect(statSync(join(folder, `unbroken-${kind}`, file!)).size).toBe(bytes);
    }
    expect(Object.keys(unbroken).filter((name) => name.endsWith(".txt")).length).toBeGreaterThan(3);
  });

  it(`killed ${kills} times ends as the unbroken one`, async () => {
    const told = await killOften(kind, `killed-${kind}`, [unbroken], kind === "way" ? 5 : 6);
    expect(contents(join(folder, `killed-${kind}`)), told.join("; ")).toEqual(unbroken);
    expect(partials(`killed-${kind}`)).toEqual([]);
  }, 300_000);

  it("run once more does nothing and says so", async () => {
    const out = join(folder, `unbroken-${kind}`);
    const times = () =>
      readdirSync(out, { recursive: true, encoding: "utf8" })
        .filter((name) => statSync(join(out, name)).isFile())
        .map((name) => [name, statSync(join(out, name)).mtimeMs]);
    const before = times();
    const { code, stdout } = await run(kind, `unbroken-${kind}`);
    expect(code).toBe(0);
    expect(stdout).toContain("nothing to do: sources and settings are unchanged and the set is complete");
    expect(times()).toEqual(before);
    const { summary } = await prepare([sources], out, readSettings(kind));
    expect(summary.work).toEqual({ analysed: 0, rendered: 0, written: 0 });
  });
});

const readSettings = (kind: Kind) =>
  ({
    way: { model: "t2v-A14B", resolution: [416, 240], clips: { shortest: 1, longest: 3 } },
    tones: {
      model: "t2v-A14B",
      resolution: [416, 240],
      normalize: true,
      captions_folder: true,
      clips: { shortest: 1 },
    },
  })[kind] as Parameters<typeof prepare>[2];

describe("a set that becomes another", () => {
  it(`killed ${kills} times on the way holds files of either, and ends as the new one with the old captions`, async () => {
    const [old, other] = ["way", "tones"].map((kind) => contents(join(folder, `unbroken-${kind}`)));
    const out = join(folder, "changing");
    await prepare([sources], out, readSettings("way"));
    expect(contents(out)).toEqual(old);
    writeFileSync(join(out, "videos/bars.txt"), "By hand.\n");
    const byHand = { "videos/bars.txt": contents(out)["videos/bars.txt"]! };
    const copied = { "captions/bars.txt": byHand["videos/bars.txt"] };
    await killOften("tones", "changing", [old!, other!, byHand, copied], 7);
    const { "report.html": _report, ...files } = contents(out);
    const { "report.html": _other, ...wanted } = other!;
    const oldCaptions = Object.fromEntries(
      Object.entries(old!).filter(([name]) => name.endsWith(".txt") && !(name in other!)),
    );
    expect(Object.keys(oldCaptions).length).toBeGreaterThan(0);
    expect(files).toEqual({ ...wanted, ...oldCaptions, ...byHand, ...copied });
    expect(partials("changing")).toEqual([]);
  }, 300_000);
});

describe("stopping", () => {
  it("by Ctrl-C ends with 130, leaves no lock and goes on later; two at once are refused", async () => {
    const child = startKinora(words("way", "stopped"));
    const end = ended(child);
    await new Promise<void>((resolve) => {
      child.stderr!.on("data", (chunk: Buffer) => chunk.toString().includes(" films") && resolve());
    });
    const second = await run("way", "stopped");
    expect(second.code).toBe(1);
    expect(second.stderr).toMatch(
      /error prepare\.busy: another preparation is writing to .*got process \d+.*hint: wait for it/s,
    );
    child.kill("SIGINT");
    const { code, stderr } = await end;
    expect(stderr).toContain("stopped; finished work is kept, run the same command again to continue");
    expect(code).toBe(130);
    expect(readdirSync(join(folder, "stopped/.kinora"))).not.toContain("lock");
    expect(partials("stopped")).toEqual([]);
    expect((await run("way", "stopped")).code).toBe(0);
    expect(contents(join(folder, "stopped"))).toEqual(contents(join(folder, "unbroken-way")));
  }, 300_000);
});
