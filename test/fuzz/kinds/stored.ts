// What Kinora wrote earlier: prepared sets and their work folders, runs, caches, registries, remembered hashes, locks.
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { finished } from "../../../src/base/generators.ts";
import { CacheStore, cacheKey } from "../../../src/cache/store.ts";
import { readCaptionFolder } from "../../../src/dataset/caption/folder.ts";
import { Journal, readJournal, triggersOf } from "../../../src/dataset/caption/journal.ts";
import { folderConfig } from "../../../src/dataset/config.ts";
import { planDataset } from "../../../src/dataset/dataset-plan.ts";
import { inspection } from "../../../src/dataset/inspection.ts";
import { probeMedia } from "../../../src/dataset/probe.ts";
import { planWarnings } from "../../../src/dataset/warnings.ts";
import { HashCache } from "../../../src/io/content-hash.ts";
import { FileLock } from "../../../src/io/file-lock.ts";
import { parseReference } from "../../../src/registry/address.ts";
import { deployStore } from "../../../src/registry/deploy.ts";
import { openRegistry, storageAt } from "../../../src/registry/open.ts";
import { Registry } from "../../../src/registry/registry.ts";
import { verifyStore } from "../../../src/registry/verify.ts";
import { RunLog, readLog } from "../../../src/train/run/run-log.ts";
import { SavedParameters } from "../../../src/train/run/saved-expert.ts";
import { checkState, readState } from "../../../src/train/run/state.ts";
import { clips } from "../../dataset/dataset-files.ts";
import { makeFilm } from "../../support/film.ts";
import { prepare, quick } from "../../support/prepared.ts";
import { narrowSettings, trainAll, writeNarrowCheckpoint } from "../../support/training-run.ts";
import { changedBytes, changedJson, changedJsonText } from "../changes.ts";
import { expectValid, type Kind, put } from "../run.ts";

type Json = Record<string, unknown>;
const readJson = (path: string): Json => JSON.parse(readFileSync(path, "utf8")) as Json;

/** Plain files below a folder, by path in it. */
const filesBelow = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();

async function makeSets(base: string): Promise<{ sources: string; sets: string[] }> {
  const sources = join(base, "sources");
  mkdirSync(sources);
  const graph = "mandelbrot=s=160x96:r=16:start_scale=0.25:end_scale=0.05:end_pts=200:maxiter=200,trim=end=1.2";
  await makeFilm(join(sources, "film.mp4"), { graph: `${graph},scroll=h=0.003,format=yuv420p` });
  writeFileSync(join(sources, "film.txt"), "A film.\n");
  const sets = ["written", "in-place"].map((name) => join(base, name));
  for (const out of sets) await prepare([sources], out, { ...quick, in_place: out.endsWith("in-place") });
  return { sources, sets };
}

const manifests: Kind = {
  name: "manifest",
  share: 700,
  async prepare(base) {
    const { sets } = await makeSets(base);
    return async (draws, place) => {
      const from = draws.pick(sets);
      const set = join(place.inside, "set");
      cpSync(from, set, { recursive: true });
      rmSync(join(set, "manifest.json"));
      put(
        draws,
        place,
        join(set, "manifest.json"),
        changedJsonText(draws, readJson(join(from, "manifest.json")), place.outside),
      );
      const folder = await readCaptionFolder(set, { extension: ".txt" }).catch((error: unknown) => error);
      const plan = await finished(planDataset(folderConfig(set), probeMedia));
      if (folder instanceof Error) throw folder;
      return [inspection(plan, planWarnings(plan)), folder];
    };
  },
};

const workFolders: Kind = {
  name: "work folder of a set",
  share: 100,
  async prepare(base) {
    const { sources, sets } = await makeSets(base);
    const [from] = sets;
    const whole = readFileSync(join(from!, "videos/film.mp4"));
    return async (draws, place) => {
      const set = join(place.inside, "set");
      cpSync(from!, set, { recursive: true });
      const file = draws.pick(filesBelow(join(set, ".kinora")));
      const bytes = readFileSync(file);
      rmSync(file);
      const json = file.endsWith(".json") && draws.chance(0.8);
      put(
        draws,
        place,
        file,
        json
          ? changedJsonText(draws, readJson(file.replace(set, from!)), place.outside)
          : changedBytes(draws, bytes, place.outside),
      );
      if (draws.chance(0.5)) rmSync(join(set, "videos/film.mp4"));
      const { summary } = await prepare([sources], set);
      expectValid(readFileSync(join(set, "videos/film.mp4")).equals(whole), "the film is another");
      return summary.problems;
    };
  },
};

const states: Kind = {
  name: "state of a run",
  share: 500,
  async prepare(base) {
    await writeNarrowCheckpoint(base);
    await clips(join(base, "clips"), 3, { frames: 5, width: 32, height: 32 });
    await trainAll(
      await narrowSettings(base, { output: "run", steps: 4, save: { state_every_steps: 2, keep_states: 2 } }),
    );
    const from = join(base, "run");
    return async (draws, place) => {
      const output = join(place.inside, "run");
      cpSync(from, output, { recursive: true });
      const records = filesBelow(output).filter((file) => file.endsWith(".json"));
      const weights = filesBelow(output).filter((file) => file.endsWith(".safetensors") && file.includes("state"));
      if (draws.chance(0.75)) {
        const file = draws.pick(records);
        const { sha256: _old, ...record } = readJson(file);
        const changed = changedJson(draws, record, place.outside) as Json;
        const isRecord = changed !== null && typeof changed === "object" && !Array.isArray(changed);
        // As someone would forge it, hash and all.
        const sha256 = createHash("sha256")
          .update(JSON.stringify(changed) ?? "")
          .digest("hex");
        rmSync(file);
        put(draws, place, file, Buffer.from(JSON.stringify(isRecord ? { ...changed, sha256 } : changed) ?? ""));
      } else {
        const file = draws.pick(weights);
        writeFileSync(file, changedBytes(draws, readFileSync(file), place.outside, 1000));
      }
      const hashes = new HashCache(join(place.inside, "cache"));
      const state = await readState(output, hashes, draws.chance(0.2) ? 2 : undefined);
      if (!state) return undefined;
      await finished(checkState(output, state, hashes));
      for (const saved of Object.values(state.experts)) {
        using parameters = new SavedParameters(output, saved);
        expectValid(parameters !== undefined, "it has no parameters");
      }
      return state.step;
    };
  },
};

const logs: Kind = {
  name: "log of a run",
  share: 400,
  async prepare() {
    const step = { kind: "step", step: 1, epoch: 1, expert: "high", loss: 0.5, smoothed: 0.5, learningRate: 1e-3 };
    const lines = [
      { ...step, gradientNorm: 1, sigmas: [0.9, 0.95], seconds: 0.1, peakBytes: 1000 },
      { kind: "saved", step: 1, files: ["style_high_noise.safetensors"] },
      { kind: "preview", step: 1, index: 0, prompt: "a red circle", file: "previews/00000001-0.mp4", seconds: 2 },
      { kind: "validation", step: 1, expert: "high", loss: 0.4, bands: [{ sigma: 0.5, loss: 0.4 }], seconds: 1 },
    ];
    return async (draws, place) => {
      const changed = lines.map((line) =>
        draws.chance(0.5) ? Buffer.from(JSON.stringify(line)) : changedJsonText(draws, line, place.outside),
      );
      put(
        draws,
        place,
        join(place.inside, "log.jsonl"),
        Buffer.from(changed.map((line) => Buffer.from(line).toString()).join("\n")),
      );
      const read = readLog(place.inside);
      using log = await RunLog.open(place.inside, 1, () => true, true);
      expectValid(log.lines.length === read.filter(({ step }) => step <= 1).length, "lines were lost");
      return read;
    };
  },
};

const caches: Kind = {
  name: "cache",
  share: 300,
  async prepare(base) {
    const key = cacheKey({ a: 1 });
    const whole = new CacheStore(base);
    await whole.write(
      "latents",
      key,
      { latents: { values: new Float32Array(24).fill(0.5), shape: [2, 3, 4] } },
      "f32",
      { a: 1 },
    );
    const bytes = readFileSync(whole.path("latents", key));
    return async (draws, place) => {
      const store = new CacheStore(place.inside);
      const path = store.path("latents", key);
      mkdirSync(join(path, ".."), { recursive: true });
      const changed = changedBytes(draws, bytes, place.outside);
      put(draws, place, path, changed);
      if (draws.chance(0.5)) {
        const found = store.look("latents", key);
        expectValid(found !== "sound" || Buffer.from(changed).equals(bytes), "damage was taken for sound");
        return found;
      }
      const [read] = store.read("latents", key, ["latents"]);
      expectValid(
        read!.values.every((value) => value === 0.5),
        "damage was read",
      );
      return read!.shape;
    };
  },
};

const registries: Kind = {
  name: "registry",
  share: 400,
  async prepare(base) {
    const store = join(base, "store");
    const registry = (await Registry.init(storageAt(store, {}), "anna")).registry;
    const reference = parseReference("styles/acme/neon");
    const source = join(base, "l.safetensors");
    for (const text of ["one", "two"]) {
      writeFileSync(source, text);
      const { version } = await registry.publish(
        reference.address,
        [{ source, path: "neon.safetensors", role: "lora" }],
        {},
      );
      await registry.note(reference.address, "a note", version);
    }
    const documents = filesBelow(store).filter((file) => !file.includes("objects"));
    return async (draws, place) => {
      const copy = join(place.inside, "store");
      cpSync(store, copy, { recursive: true });
      const file = draws.pick(documents).replace(store, copy);
      const bytes = readFileSync(file);
      rmSync(file);
      let changed: Uint8Array = changedBytes(draws, bytes, place.outside);
      if (draws.chance(0.75)) {
        try {
          changed = changedJsonText(draws, JSON.parse(bytes.toString()), place.outside);
        } catch {
          // It is no JSON: the bytes are changed.
        }
      }
      put(draws, place, file, changed);
      const opened = await openRegistry(copy, { KINORA_USER: "anna" });
      const told: unknown[] = [];
      for await (const address of opened.names()) told.push(await opened.state(address));
      told.push((await finished(verifyStore(opened))).problems);
      await finished(deployStore(opened, join(place.inside, "deployed"), { versions: "all" }));
      told.push(await opened.resolve(parseReference("styles/acme/neon@v1")));
      return told;
    };
  },
};

const remembered: Kind = {
  name: "remembered hashes and journals",
  share: 300,
  async prepare(base) {
    const cache = new HashCache(join(base, "cache"));
    const file = join(base, "film.bin");
    writeFileSync(file, "content");
    const hash = await finished(cache.hash(file));
    await cache.save();
    const [stored] = filesBelow(join(base, "cache"));
    expectValid(stored !== undefined, "nothing was remembered");
    const records = [
      {
        event: "begin",
        run: "r",
        at: "t",
        settings: "s",
        endpoint: "e",
        model: "m",
        template: "scene",
        trigger: "x",
        mode: "rewrite",
        draft: false,
      },
      { event: "caption", run: "r", at: "t", item: "a", after: "h", before: "g" },
      { event: "end", run: "r", at: "t" },
    ];
    return async (draws, place) => {
      if (draws.chance(0.4)) {
        mkdirSync(join(place.inside, ".kinora"));
        const lines = records.map((record) => Buffer.from(changedJsonText(draws, record, place.outside)).toString());
        put(draws, place, join(place.inside, ".kinora/captions.jsonl"), Buffer.from(lines.join("\n")));
        const read = await readJournal(place.inside);
        new Journal(place.inside).append(records[2] as never);
        return [...triggersOf(read)];
      }
      const copy = join(place.inside, "cache");
      mkdirSync(copy);
      const value = JSON.parse(readFileSync(stored, "utf8").replaceAll(base, place.inside)) as Json;
      put(draws, place, stored.replace(join(base, "cache"), copy), changedJsonText(draws, value, place.outside));
      writeFileSync(join(place.inside, "film.bin"), "content");
      const again = new HashCache(copy);
      expectValid((await finished(again.hash(join(place.inside, "film.bin"), "anew"))) === hash, "the hash is another");
      const found = await again.find(hash);
      await again.save();
      return found === undefined || existsSync(found);
    };
  },
};

const locks: Kind = {
  name: "lock",
  share: 100,
  async prepare() {
    const holder = {
      pid: 2 ** 22 - 3,
      host: (await import("node:os")).hostname(),
      token: "0011223344556677",
      since: "2026-01-01T00:00:00Z",
    };
    return async (draws, place) => {
      const path = join(place.inside, "lock");
      put(draws, place, path, changedJsonText(draws, holder, place.outside));
      using lock = FileLock.take(path, { code: "test.busy", message: "another is at work", instead: "choose another" });
      return lock !== undefined;
    };
  },
};

export const storedKinds: readonly Kind[] = [
  manifests,
  workFolders,
  states,
  logs,
  caches,
  registries,
  remembered,
  locks,
];
