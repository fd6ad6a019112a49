// Sets from elsewhere, their files changed at random in the places that matter: paths, sizes, counts, escapes. Whatever
// comes, reading ends in a plan or a coded error, and nothing outside of the set is touched. KINORA_FUZZ sets how often.
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { beforeAll, expect, it } from "vitest";
import { isKinoraError } from "../../src/base/errors.ts";
import { finished } from "../../src/base/generators.ts";
import { readCaptionFolder } from "../../src/dataset/caption/folder.ts";
import { readJournal } from "../../src/dataset/caption/journal.ts";
import { folderConfig } from "../../src/dataset/config.ts";
import { planDataset } from "../../src/dataset/dataset-plan.ts";
import { inspection } from "../../src/dataset/inspection.ts";
import { probeMedia } from "../../src/dataset/probe.ts";
import { planWarnings } from "../../src/dataset/warnings.ts";
import { makeFilm, temporaryFolder } from "../support/film.ts";
import { prepare, quick } from "../support/prepared.ts";

const runs = Number(process.env.KINORA_FUZZ ?? 60);
const folder = temporaryFolder();
const sources = join(folder, "sources");
const place = join(folder, "place");
const set = join(place, "set");
const sets = ["written", "in-place"].map((name) => join(folder, name));

beforeAll(async () => {
  mkdirSync(sources);
  const graph = "mandelbrot=s=320x180:r=16:start_scale=0.25:end_scale=0.05:end_pts=200:maxiter=200,trim=end=2";
  await makeFilm(join(sources, "film.mp4"), { graph: `${graph},scroll=h=0.003,format=yuv420p` });
  writeFileSync(join(sources, "film.txt"), "A film.\n");
  for (const out of sets) await prepare([sources], out, { ...quick, in_place: out.endsWith("in-place") });
}, 120_000);

const nasty = fc.oneof(
  fc.constantFrom(
    ...["../victim.txt", "/etc/passwd", "..\\victim.txt", "C:\\x", "\\\\server\\share", "a\0b", "con", "", ".", ".."],
    ...[
      "videos/../../victim.txt",
      "\u001b]0;title\u0007",
      "\u001b[2J",
      "x".repeat(5000),
      "__proto__",
      "film",
      "../victim",
    ],
  ),
  fc.constantFrom(0, -1, 1, 0.5, 1e3, 1e6, 1e12, 2 ** 53, -(2 ** 31), 1e308),
  fc.constantFrom(null, true, [], {}, [[[]]], { x: 1e9 }),
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.double({ noNaN: true }),
);

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** Every place of a value that holds something. */
function places(value: Json, path: (string | number)[] = []): (string | number)[][] {
  if (value === null || typeof value !== "object") return [path];
  const entries: [string | number, Json][] = Array.isArray(value) ? [...value.entries()] : Object.entries(value);
  return [path, ...entries.flatMap(([key, inner]) => places(inner, [...path, key]))];
}

/** A copy with something else at one place; at `undefined`, nothing. */
function changed(value: Json, path: readonly (string | number)[], put: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return put;
  const copy: Record<string | number, unknown> = Array.isArray(value)
    ? ([...value] as unknown as Record<number, unknown>)
    : { ...(value as { [key: string]: Json }) };
  const inner = changed((value as Record<string | number, Json>)[key]!, rest, put);
  if (inner === undefined && !Array.isArray(value)) delete copy[key];
  else copy[key] = inner ?? null;
  return copy;
}

const coded = async (work: () => Promise<unknown>): Promise<void> => {
  try {
    await work();
  } catch (error) {
    if (!isKinoraError(error)) throw error;
  }
};

const outside = (): string[] =>
  readdirSync(place, { recursive: true, encoding: "utf8" })
    .filter((name) => !name.startsWith("set"))
    .map((name) => `${name} ${statSync(join(place, name)).mtimeMs}`);

function fresh(from: string): void {
  rmSync(place, { recursive: true, force: true });
  mkdirSync(place);
  writeFileSync(join(place, "victim.txt"), "theirs");
  cpSync(from, set, { recursive: true });
}

it(`a manifest changed ${runs} times is a plan or a coded error`, async () => {
  const manifests = sets.map((from) => JSON.parse(readFileSync(join(from, "manifest.json"), "utf8")) as Json);
  await fc.assert(
    fc.asyncProperty(
      fc.nat(1),
      fc.array(fc.tuple(fc.nat(), fc.option(nasty)), { minLength: 1, maxLength: 3 }),
      async (which, changes) => {
        fresh(sets[which]!);
        let manifest: unknown = manifests[which];
        for (const [at, put] of changes) {
          const all = places(manifest as Json);
          manifest = changed(manifest as Json, all[at % all.length]!, put ?? undefined);
        }
        writeFileSync(join(set, "manifest.json"), JSON.stringify(manifest) ?? "");
        const before = outside();
        await coded(async () => {
          const plan = await finished(planDataset(folderConfig(set), probeMedia));
          inspection(plan, planWarnings(plan));
        });
        await coded(() => readCaptionFolder(set, { extension: ".txt" }));
        expect(outside()).toEqual(before);
        expect(readFileSync(join(place, "victim.txt"), "utf8")).toBe("theirs");
      },
    ),
    { numRuns: runs },
  );
}, 600_000);

it(`files of the work folder changed ${runs / 10} times end in a whole set or a coded error`, async () => {
  const whole = readFileSync(join(sets[0]!, "videos/film.mp4"));
  await fc.assert(
    fc.asyncProperty(
      fc.nat(),
      fc.oneof(
        fc.tuple(fc.nat(), fc.nat(255)),
        fc.string({ unit: "binary" }),
        nasty.map((value) => JSON.stringify(value)),
      ),
      async (which, change) => {
        fresh(sets[0]!);
        const files = readdirSync(join(set, ".kinora"), { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map((entry) => join(entry.parentPath, entry.name))
          .sort();
        const file = files[which % files.length]!;
        const bytes = readFileSync(file);
        if (Array.isArray(change)) bytes[change[0] % bytes.length] = change[1];
        writeFileSync(file, typeof change === "string" ? change : bytes);
        rmSync(join(set, "videos/film.mp4"));
        const before = outside();
        await coded(async () => {
          await prepare([sources], set);
          expect(readFileSync(join(set, "videos/film.mp4")).equals(whole)).toBe(true);
        });
        await coded(() => readJournal(set));
        expect(outside()).toEqual(before);
      },
    ),
    { numRuns: Math.max(1, Math.floor(runs / 10)) },
  );
}, 600_000);
