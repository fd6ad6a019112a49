// Do the measures of dataset preparation meet real faults? Clean clips are spoiled in each way at three strengths; printed
// are the share that verdicts name and drop, what happens to clean clips, and what FFmpeg's own measures tell.
//   npm run bench:quality [-- --quick] [--media FOLDER] [--only FAULT,…] [--strengths weak,…] [--no-clean] [--no-peers]
//                            [--keep FOLDER [--measured]]
// --quick: a few clips and faults, about two minutes. --keep: films and what was measured stay in FOLDER, so that a run
// that was stopped goes on where it was; what was measured is taken anew once the code of the measures has changed, unless
// --measured says that only limits did.
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { inParallel } from "../src/base/parallel.ts";
import { prepareDataset } from "../src/dataset/prepare/prepare.ts";
import { probe } from "../src/io/video/probe.ts";
import { type DatasetManifest, datasetManifestSchema } from "../src/protocol/dataset-manifest.ts";
import { type CleanClip, cleanClips, clipSeconds, type Half, styleNames } from "./quality/clips.ts";
import { type Fault, faults, strengths } from "./quality/faults.ts";
import { ffmpeg, ffmpegVersion } from "./quality/ffmpeg.ts";
import { askPeers, isBeyond, type PeerValues, peerLimits, peerNames } from "./quality/peers.ts";
import { type Outcome, outcomes, share } from "./quality/score.ts";

const { values: options } = parseArgs({
  options: {
    media: { type: "string", default: resolve(import.meta.dirname, "../../shared/media") },
    only: { type: "string" },
    strengths: { type: "string", default: strengths.join(",") },
    keep: { type: "string" },
    measured: { type: "boolean", default: false },
    quick: { type: "boolean", default: false },
    clean: { type: "boolean", default: true },
    peers: { type: "boolean", default: true },
  },
  allowNegative: true,
});
/** Loses nothing that shows, and is quick. */
const faithful = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "6"];
const halves: readonly Half[] = ["chosen", "checked"];
const width = 2;

interface Film {
  clip: CleanClip;
  path: string;
}

async function makeFilm(path: string, args: readonly string[]): Promise<void> {
  if (existsSync(path)) return;
  const partial = `${path}.part${path.slice(path.lastIndexOf("."))}`;
  await ffmpeg([...args, "-an", "-t", String(clipSeconds), partial]);
  await rename(partial, path);
}

async function makeClean(clips: readonly CleanClip[], folder: string): Promise<Film[]> {
  await mkdir(folder, { recursive: true });
  const films = clips.map((clip) => ({ clip, path: join(folder, `${clip.name}.mkv`) }));
  await inParallel(films, width, ({ clip, path }) => makeFilm(path, [...clip.input, "-vf", clip.filters, ...faithful]));
  return films;
}

async function spoil(films: readonly Film[], fault: Fault, strength: number, folder: string): Promise<Film[]> {
  await mkdir(folder, { recursive: true });
  const spoiled: Film[] = [];
  await inParallel([...films.entries()], width, async ([index, { clip, path: from }]) => {
    const { video } = await probe(from);
    const { width, height, fps } = video!;
    const recipe = fault.recipe(strength, { width, height, fps, index });
    const { before, filters, encoder = faithful, ending = ".mkv" } = recipe;
    const path = join(folder, `${clip.name}${ending}`);
    const first = before ? `${path}.before.mkv` : from;
    if (before && !existsSync(path)) await makeFilm(first, ["-i", from, ...before]);
    await makeFilm(path, ["-i", first, "-vf", `${filters},format=yuv420p`, ...encoder]);
    if (before) await rm(first, { force: true });
    spoiled[index] = { clip, path };
  });
  return spoiled;
}

/** One set of these films, with every default of a real preparation but the search for duplicates. */
async function prepare(films: readonly Film[], out: string): Promise<DatasetManifest> {
  const config = {
    model: "t2v-A14B",
    in_place: true,
    clips: { shortest: 1 },
    duplicates: { detect: false },
  } as const;
  for await (const event of prepareDataset({ sources: films.map(({ path }) => path), out, config, width }))
    if (event.type === "problem") console.log(`${event.path}: ${event.message}`);
  const manifest = datasetManifestSchema.parse(JSON.parse(await readFile(join(out, "manifest.json"), "utf8")));
  return manifest;
}

/** Where sets are prepared in `folder`: a place for each state of the code that measures. */
async function setsFolder(folder: string): Promise<string> {
  if (options.measured) {
    const old = (await readdir(folder)).filter((name) => name.startsWith("sets-")).sort();
    if (old.length === 1) return join(folder, old[0]!);
    throw new Error(`${folder} holds ${old.length} sets-… folders: --measured needs one`);
  }
  const hash = createHash("sha256");
  for (const part of ["dataset/prepare", "io/video"]) {
    const root = resolve(import.meta.dirname, "../src", part);
    const files = await readdir(root, { recursive: true });
    for (const file of files.filter((name) => name.endsWith(".ts")).sort())
      hash.update(`${file}\n`).update(await readFile(join(root, file)));
  }
  return join(folder, `sets-${hash.digest("hex").slice(0, 12)}`);
}

async function askAll(films: readonly Film[]): Promise<PeerValues[]> {
  const values: PeerValues[] = [];
  if (!options.peers) return values;
  await inParallel([...films.entries()], width, async ([i, { path }]) => {
    values[i] = await askPeers(path);
  });
  return values;
}

const column = (text: string, width: number) => text.padEnd(width);

function reportClean(films: readonly Film[], said: ReadonlyMap<string, Outcome>): void {
  console.log("\nclean clips: dropped, and told a finding (chosen half | checked half)");
  const row = (title: string, some: readonly Film[]) => {
    const parts = halves.map((half) => {
      const list = some.flatMap(({ clip }) => (clip.half === half ? said.get(clip.name)! : []));
      const told = share(list, ({ dropped, codes }) => !dropped && codes.length > 0);
      return `${column(`${share(list, ({ dropped }) => dropped)} of ${list.length}`, 12)}${column(told, 7)}`;
    });
    console.log(`${column(title, 24)}${parts.join("| ")}`);
  };
  for (const style of styleNames)
    row(
      style.replace("_", " "),
      films.filter(({ clip }) => clip.style === style),
    );
  row("all", films);
  for (const { clip } of films) {
    const { dropped, codes } = said.get(clip.name)!;
    if (codes.length > 0) console.log(`  ${clip.name} ${dropped ? "dropped" : "told"}: ${codes.join(", ")}`);
  }
}

/** What was said of clean clips. */
async function judgeClean(clean: readonly Film[], folder: string): Promise<void> {
  const said = new Map<string, Outcome>();
  // Each look by itself: looks of one clip beside each other are no set that anyone has.
  for (const style of styleNames) {
    const films = clean.filter(({ clip }) => clip.style === style);
    if (films.length === 0) continue;
    for (const outcome of outcomes(await prepare(films, join(folder, `clean-${style}`))))
      said.set(outcome.film, outcome);
  }
  reportClean(clean, said);
}

async function main(folder: string): Promise<void> {
  const version = await ffmpegVersion();
  if (!version) return console.log("no ffmpeg on this machine: the bench spoils clips with it");
  const quickClips = /^(press-clay|dog-snow|animated-market)-(whole|crop|pan)(-grain|-shallow)?$/;
  const quickFaults = ["soft focus", "x264", "noise", "flicker", "freeze", "watermark of a set"];
  const wanted = options.only?.split(",") ?? (options.quick ? quickFaults : faults.map(({ name }) => name));
  const clips = cleanClips(options.media).filter(({ name }) => !options.quick || quickClips.test(name));
  if (clips.length === 0) return console.log(`no clips in ${options.media}: name a folder with --media`);

  const clean = await makeClean(clips, join(folder, "clean"));
  console.log(`ffmpeg ${version}, ${clean.length} clean clips`);
  const sets = await setsFolder(folder);
  if (options.clean) await judgeClean(clean, sets);
  const cleanPeers = await askAll(clean);
  const limits = peerNames.flatMap((name) => {
    const { low, high } = peerLimits(cleanPeers, name);
    return [
      { title: `${name} low`, name, limit: low },
      { title: `${name} high`, name, limit: high },
    ];
  });

  const spoilable = clean.filter(({ clip }) => clip.spoiled);
  console.log(
    `\nfaults: named/dropped of ${halves.map((half) => `${spoilable.filter(({ clip }) => clip.half === half).length} clips of the ${half} half`).join(" | ")}`,
  );
  console.log(column("", 22) + strengths.map((strength) => column(strength, 30)).join(""));
  const total = strengths.map(() => ({ chosen: [] as Outcome[], checked: [] as Outcome[] }));
  const peerRows: string[] = [];
  for (const fault of faults.filter(({ name }) => wanted.includes(name))) {
    const cells: string[] = [];
    const missed: string[] = [];
    for (const [i, strength] of strengths.entries()) {
      if (!options.strengths.includes(strength)) {
        cells.push(column("", 30));
        continue;
      }
      const films = await spoil(spoilable, fault, i, join(folder, fault.name, strength));
      const found = outcomes(await prepare(films, join(sets, `${fault.name}-${strength}`)), fault, i);
      const byName = new Map(found.map((outcome) => [outcome.film, outcome]));
      const parts = halves.map((half) => {
        const list = films.flatMap(({ clip }) => (clip.half === half ? (byName.get(clip.name) ?? []) : []));
        total[i]![half].push(...list);
        return `${share(list, ({ named }) => named)}/${share(list, ({ dropped }) => dropped)}`;
      });
      cells.push(column(parts.join(" | "), 30));
      for (const { film, named, vanished, codes } of found)
        if (vanished || (i > 0 && !named))
          missed.push(
            `  ${strength} ${film}${vanished ? " VANISHED" : " not named"} (${codes.join(", ") || "nothing told"})`,
          );
      const asked = await askAll(films);
      if (asked.length > 0) {
        const best = limits
          .map(({ title, name, limit }) => ({
            title,
            hits: asked.filter((values) => isBeyond(values, name, limit)).length,
          }))
          .sort((a, b) => b.hits - a.hits);
        peerRows.push(
          `${column(`${fault.name}, ${strength}`, 34)}${best
            .slice(0, 3)
            .map(({ title, hits }) => `${title} ${Math.round((100 * hits) / asked.length)} %`)
            .join(", ")}`,
        );
      }
      if (!options.keep) await rm(join(folder, fault.name, strength), { recursive: true });
    }
    console.log(column(fault.name, 22) + cells.join(""));
    for (const line of missed) console.log(line);
  }
  const named = (list: readonly Outcome[]) => share(list, (outcome) => outcome.named);
  console.log(
    column("all of these, named", 22) +
      total.map((of) => column(halves.map((half) => named(of[half])).join(" | "), 30)).join(""),
  );
  if (peerRows.length > 0)
    console.log(
      `\nFFmpeg's best three measures for each, with a limit that 2 % of the clean clips are beyond:\n${peerRows.join("\n")}`,
    );
}

const folder = options.keep ? resolve(options.keep) : await mkdtemp(join(tmpdir(), "kinora-quality-"));
try {
  await main(folder);
} finally {
  if (!options.keep) await rm(folder, { recursive: true, force: true });
}
