// A first training configuration for a folder: the fewest settings that run, and beside them, commented out, those that
// people look for next. It names the data that lies there.
import { readdir, stat, writeFile } from "node:fs/promises";
import { basename, dirname, extname, join, relative, resolve, sep } from "node:path";
import { KinoraError } from "../../base/errors.ts";
import { findManifest } from "../../dataset/manifest.ts";
import { byCodePoint, listFolder, mediaKind, withoutExtension } from "../../dataset/media-files.ts";
import { makeFolder, writeError } from "../../io/atomic.ts";
import { spellingKey } from "../../io/disk-names.ts";
import { bundledFolder } from "../../models/wan/bundled.ts";
import { wanModels } from "../../models/wan/params.ts";
import type { ModelName } from "../../protocol/model-media.ts";

/** What a folder offers to train on. */
export interface FoundData {
  /** As it is written in the file: relative to it, with forward slashes. */
  dataset: string;
  /** How it was found; undefined where nothing was, and the file has a name to be replaced. */
  kind: "prepared" | "captioned" | undefined;
  model: ModelName;
}

/** Folders that training itself writes. */
const ownFolders: ReadonlySet<string> = new Set(["runs", "kinora-cache", "node_modules"]);

const firstModel: ModelName = "tiny-t2v";

/** The first prepared set, else the first folder with captioned clips or pictures, of `folder` itself and those in it. */
async function findData(folder: string): Promise<FoundData> {
  const inside = (await readdir(folder, { withFileTypes: true }).catch(() => []))
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith(".") && !ownFolders.has(entry.name))
    .map(({ name }) => join(folder, name))
    .sort(byCodePoint);
  const written = (place: string) => relative(folder, place).split(sep).join("/") || ".";
  for (const place of [folder, ...inside]) {
    const found = await findManifest(place).catch(() => undefined);
    if (found?.state === "read") return { dataset: written(place), kind: "prepared", model: found.value.model };
  }
  for (const place of [...inside, folder])
    if (await hasCaptions(place)) return { dataset: written(place), kind: "captioned", model: firstModel };
  return { dataset: "clips", kind: undefined, model: firstModel };
}

async function hasCaptions(folder: string): Promise<boolean> {
  const files = (await listFolder(folder).catch(() => [])).map(({ path }) => spellingKey(path));
  const captions = new Set(files.filter((path) => path.endsWith(".txt")));
  return files.some((path) => mediaKind(path) !== undefined && captions.has(`${withoutExtension(path)}.txt`));
}

/** Text of TOML; JSON's escapes are TOML's. */
const quoted = (text: string): string => JSON.stringify(text);

/** The file's text. `name` is the file's own, as a person types it. */
export function initialConfig({ dataset, kind, model }: FoundData, name: string): string {
  const ships = bundledFolder(wanModels[model]) !== undefined;
  const data = {
    prepared: "the set that kinora dataset prepare wrote",
    captioned: "clips and pictures, each with a .txt caption of the same name",
    none: "a prepared set, or a folder of clips with .txt captions: put yours here",
  }[kind ?? "none"];
  return `# kinora train ${name} --explain   print every setting and what it implies, without training
# kinora train ${name}             train; Ctrl-C saves, the same command resumes
# Lines starting with # show default settings. All of them: docs/training.md
# Paths are relative to this file. Windows paths: 'C:\\films' in single quotes, or "C:/films".

dataset = ${quoted(dataset)}  # ${data}
steps = ${ships ? 200 : 1000}  # or epochs = 10
# seed = 42
# output = ${quoted(`runs/${basename(name, extname(name))}`)}  # the run's folder: LoRA files, states, previews, index.html

[model]
${
  ships
    ? `name = ${quoted(model)}  # small, and ships with Kinora; the published ones need their files:
# name = "t2v-A14B"  # or i2v-A14B, ti2v-5B, t2v-1.3B, t2v-14B
# checkpoint = "Wan2.2-T2V-A14B"  # the folder with the model's files`
    : `name = ${quoted(model)}  # what the set was prepared for
checkpoint = ${quoted(checkpointNames[model] ?? "checkpoint")}  # the folder with the model's files: put yours here`
}
# base = "fp8"  # dtype of the frozen weights: f32, bf16 or fp8 (smallest)

[lora]
rank = 32  # a larger rank learns more detail, and over-fits sooner
# alpha = 32  # the change is scaled by alpha / rank

[optimizer]
learning_rate = 1e-4

# [validation]
# hold_out = 2  # files that never train and show over-fitting

# [preview]
# prompts = "prompts.txt"  # one video per line, e.g. a red circle --w 832 --h 480 --f 33
# every_steps = 250

# [save]
# every_steps = 250  # besides the final file
`;
}

/** Folders as the model pages call them. */
const checkpointNames: Partial<Record<ModelName, string>> = {
  "t2v-A14B": "Wan2.2-T2V-A14B",
  "i2v-A14B": "Wan2.2-I2V-A14B",
  "ti2v-5B": "Wan2.2-TI2V-5B",
  "t2v-1.3B": "Wan2.1-T2V-1.3B",
  "t2v-14B": "Wan2.1-T2V-14B",
};

/**
 * Writes a first configuration, for the data beside it. Never over a file that is there.
 * @throws KinoraError `train-config.exists`, `train-config.wrong-format`, `io.*`.
 */
export async function writeInitialConfig(file: string): Promise<{ file: string } & FoundData> {
  if (extname(file).toLowerCase() !== ".toml")
    throw new KinoraError("train-config.wrong-format", "training configurations are TOML", {
      actual: file,
      hint: `name it ${basename(file, extname(file))}.toml`,
    });
  const exists = new KinoraError("train-config.exists", `${file} already exists and was left unchanged`, {
    hint: "give another name: kinora train --init other.toml",
  });
  if (await stat(file).catch(() => undefined)) throw exists;
  const folder = dirname(resolve(file));
  await makeFolder(folder);
  const found = await findData(folder);
  try {
    await writeFile(file, initialConfig(found, basename(file)), { flag: "wx" });
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === "EEXIST" ? exists : writeError(error, file);
  }
  return { file, ...found };
}
