// Where the networks of a model lie: in an official folder, a diffusers folder, a folder of single files, or named one
// by one. Files are told by what is in them, not by their names; only which expert a transformer is comes from its path.
// The one place that knows this, for generation (sample, cli) and training alike. Nothing is loaded.
import { existsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { z } from "zod";
import { isKinoraError, KinoraError } from "../../base/errors.ts";
import { readBackSync } from "../../io/read-back.ts";
import { findModels, openTensorSource } from "../../io/tensor-source.ts";
import { bundledFolder } from "./bundled.ts";
import { type WanModel, wanModels } from "./params.ts";
import { expertOfPath, type RecognizedDit, recognize } from "./recognize.ts";
import { findComponents } from "./weight-names.ts";
import { mapWeights } from "./weights.ts";

/** What a run may need. The transformer of a model without experts is `low`, as in the denoising loop. */
export type CheckpointRole = "high" | "low" | "vae" | "textEncoder" | "tokenizer";

/** What a person names. A file named for a role comes before what the folder holds. */
export interface FileChoices {
  /** An official folder, a diffusers folder, or one of single files. */
  folder?: string | undefined;
  /** The transformer of a model without experts. */
  dit?: string | undefined;
  high?: string | undefined;
  low?: string | undefined;
  vae?: string | undefined;
  textEncoder?: string | undefined;
  tokenizer?: string | undefined;
}

/** Every file that a generation needs. */
export interface CheckpointFiles {
  high?: string;
  low: string;
  vae: string;
  textEncoder: string;
  tokenizer: string;
  /** Where the checkpoint itself says when the experts change (diffusers' `boundary_ratio`). */
  boundary?: number;
}

const roleNames: Readonly<Record<CheckpointRole, string>> = {
  high: "the high-noise transformer",
  low: "the low-noise transformer",
  vae: "the autoencoder",
  textEncoder: "the UMT5 text encoder",
  tokenizer: "the tokenizer",
};

const bundledModels = Object.values<WanModel>(wanModels)
  .flatMap(({ bundled, name }) => (bundled ? [name] : []))
  .join(" and ");

/** What was found; a role that is missing is an error only once it is asked for. */
export class CheckpointSearch {
  readonly model: WanModel;
  readonly paths: Readonly<Partial<Record<CheckpointRole, string>>>;
  readonly boundary: number | undefined;
  /** What else the folder holds or why a file could not be used, for the error where a role is missing. */
  readonly #notes: readonly string[];
  readonly #folder: string | undefined;

  constructor(
    model: WanModel,
    paths: Partial<Record<CheckpointRole, string>>,
    folder: string | undefined,
    notes: readonly string[],
  ) {
    this.boundary = folder === undefined || model.boundary === undefined ? undefined : boundaryOf(folder);
    this.model = model;
    this.paths = paths;
    this.#folder = folder;
    this.#notes = notes;
  }

  /** A role in words, e.g. `the autoencoder`. */
  nameOf(role: CheckpointRole): string {
    return role === "low" && this.model.boundary === undefined ? "the transformer" : roleNames[role];
  }

  /** The path for a role. Throws `checkpoint.missing`, telling what is there instead. */
  file(role: CheckpointRole): string {
    this.require([role]);
    return this.paths[role]!;
  }

  /** Throws `checkpoint.missing` naming every one of `roles` that was not found. */
  require(roles: readonly CheckpointRole[]): void {
    const missing = roles.filter((role) => this.paths[role] === undefined);
    if (missing.length === 0) return;
    const what = missing.map((role) => this.nameOf(role)).join(", ");
    const own = bundledFolder(this.model);
    const ships = own !== undefined && (this.#folder ?? own) === own;
    const where = ships
      ? `they ship with Kinora but are missing in ${own}`
      : this.#folder === undefined
        ? "no folder or file was given"
        : `not in ${this.#folder}`;
    const verb = missing.length === 1 ? "is" : "are";
    throw new KinoraError("checkpoint.missing", `${what} of ${this.model.name} ${verb} missing: ${where}`, {
      ...(this.#notes.length > 0 ? { actual: this.#notes.slice(0, 8).join("; ") } : {}),
      hint: `${ships ? "install Kinora again; or " : ""}name a checkpoint folder (\`checkpoint\`; model.checkpoint in a configuration), or the files one by one${this.model.bundled ? "" : `; ${bundledModels} come with Kinora and need none`}`,
    });
  }
}

const MOST_INDEX_BYTES = 2 ** 20;
/** The σ at which diffusers changes from one transformer to the other; null or absent where there is one. */
const modelIndexSchema = z.looseObject({
  boundary_ratio: z.number().gt(0, "must be between 0 and 1").lt(1, "must be between 0 and 1").nullish(),
});

/**
 * https://github.com/huggingface/diffusers/blob/main/src/diffusers/pipelines/wan/pipeline_wan.py: model_index.json
 * Throws `checkpoint.bad-index`.
 */
function boundaryOf(folder: string): number | undefined {
  const path = join(folder, "model_index.json");
  const index = readBackSync(path, modelIndexSchema, MOST_INDEX_BYTES);
  if (index.state === "missing") return undefined;
  if (index.state === "read") return index.value.boundary_ratio ?? undefined;
  throw new KinoraError("checkpoint.bad-index", `${path} ${index.why}`, {
    hint: "it says at which noise level the experts change: get it again from the checkpoint's source",
  });
}

/** The σ where the experts change: as the checkpoint says, else as the official code has it; undefined without experts. */
export function settledBoundary(model: WanModel, asked: Pick<FileChoices, "folder">): number | undefined {
  if (model.boundary === undefined) return undefined;
  const folder = asked.folder ?? bundledFolder(model);
  return (folder === undefined ? undefined : boundaryOf(folder)) ?? model.boundary;
}

/** Tokenizers of a checkpoint folder, best first: official, diffusers and single-file layouts. */
const tokenizerPlaces = ["google/umt5-xxl", "tokenizer", "umt5-xxl", "tokenizer.json", "spiece.model"];

function findTokenizer(folder: string | undefined, textEncoder: string | undefined): string | undefined {
  const folders = [folder, textEncoder && dirname(textEncoder)].filter((base) => base !== undefined);
  const beside = folders.flatMap((base) => tokenizerPlaces.map((place) => join(base, place))).find(existsSync);
  // ComfyUI's text encoder files carry their tokenizer inside.
  return (
    beside ?? (textEncoder && statSync(textEncoder, { throwIfNoEntry: false })?.isFile() ? textEncoder : undefined)
  );
}

interface Found {
  path: string;
  role: CheckpointRole | "transformer";
  note?: string;
}

/** What of this model a weight file holds. */
function classify(path: string, model: WanModel): { found: Found[]; notes: string[] } {
  const found: Found[] = [];
  const notes: string[] = [];
  try {
    using source = openTensorSource(path);
    for (const component of findComponents(source.names)) {
      const { kind } = component;
      if (kind === model.vae.kind) found.push({ path, role: "vae" });
      else if (kind === "text-encoder") found.push({ path, role: "textEncoder" });
      else if (kind === "dit") {
        const recognized = recognize(mapWeights(source, component), path) as RecognizedDit;
        const known: readonly string[] = recognized.models;
        if (known.includes(model.name) || sameSizes(recognized, model)) {
          const role = model.boundary === undefined ? "low" : (expertOfPath(path) ?? "transformer");
          found.push({ path, role });
        } else notes.push(`${path} is ${recognized.label}`);
      } else notes.push(`${path} is a ${kind}`);
    }
  } catch (error) {
    if (!isKinoraError(error)) throw error;
    notes.push(error.message);
  }
  return { found, notes };
}

/** Models of one's own sizes have no published name. */
function sameSizes({ config }: RecognizedDit, { dit }: WanModel): boolean {
  return (["dim", "ffnDim", "layers", "inputChannels", "outputChannels", "textDim"] as const).every(
    (size) => config[size] === dit[size],
  );
}

/**
 * Finds the files of `model`. Without a folder, models that ship with Kinora come from its own.
 * Throws `checkpoint.ambiguous` where a folder holds two files for one role, `checkpoint.no-folder`, `checkpoint.bad-index`.
 */
export function searchCheckpoint(model: WanModel, asked: FileChoices): CheckpointSearch {
  const named: Partial<Record<CheckpointRole, string>> = {};
  const put = (role: CheckpointRole, path: string | undefined) => {
    if (path !== undefined) named[role] = path;
  };
  put("high", asked.high);
  put("low", asked.low ?? (model.boundary === undefined ? asked.dit : undefined));
  put("vae", asked.vae);
  put("textEncoder", asked.textEncoder);
  put("tokenizer", asked.tokenizer);
  const folder = asked.folder ?? bundledFolder(model);
  if (folder === undefined || !existsSync(folder)) {
    if (asked.folder !== undefined) {
      throw new KinoraError(
        "checkpoint.no-folder",
        `the checkpoint folder does not exist: ${JSON.stringify(asked.folder)}`,
        {
          hint: "give an official or diffusers folder of the model, or each file separately",
        },
      );
    }
    put("tokenizer", named.tokenizer ?? findTokenizer(undefined, named.textEncoder));
    return new CheckpointSearch(model, named, undefined, []);
  }
  if (statSync(folder).isFile()) {
    throw new KinoraError("checkpoint.no-folder", `${folder} is a file`, { hint: "give it as the transformer" });
  }
  const found: Found[] = [];
  const notes: string[] = [];
  for (const path of findModels(folder)) {
    const result = classify(path, model);
    found.push(...result.found);
    notes.push(...result.notes);
  }
  settleExperts(found, model);
  const paths = { ...named };
  for (const role of ["high", "low", "vae", "textEncoder"] as const) {
    if (paths[role] !== undefined) continue;
    const candidates = [...new Set(found.filter((entry) => entry.role === role).map(({ path }) => path))];
    if (candidates.length > 1) {
      throw new KinoraError("checkpoint.ambiguous", `${folder} has several files for ${roleNames[role]}`, {
        actual: candidates.join(", "),
        hint: "give the one you mean",
      });
    }
    if (candidates[0] !== undefined) paths[role] = candidates[0];
  }
  // A text encoder of one's own goes with its own tokenizer, not with the one that ships with Kinora.
  const places = asked.folder === undefined && asked.textEncoder !== undefined ? undefined : folder;
  const tokenizer = paths.tokenizer ?? findTokenizer(places, paths.textEncoder);
  if (tokenizer !== undefined) paths.tokenizer = tokenizer;
  return new CheckpointSearch(model, paths, folder, notes);
}

/** The files of a generation. Throws as {@link searchCheckpoint}, and `checkpoint.missing`. */
export function findCheckpointFiles(model: WanModel, asked: FileChoices): CheckpointFiles {
  const search = searchCheckpoint(model, asked);
  const experts = model.boundary !== undefined;
  search.require([...(experts ? (["high"] as const) : []), "low", "vae", "textEncoder", "tokenizer"]);
  return {
    ...(experts ? { high: search.file("high") } : {}),
    low: search.file("low"),
    vae: search.file("vae"),
    textEncoder: search.file("textEncoder"),
    tokenizer: search.file("tokenizer"),
    ...(search.boundary === undefined ? {} : { boundary: search.boundary }),
  };
}

/** Diffusers names only the second of two transformers apart: the other is then the high-noise one. */
function settleExperts(found: Found[], model: WanModel): void {
  if (model.boundary === undefined) return;
  const unnamed = found.filter(({ role }) => role === "transformer");
  const present = (role: CheckpointRole) => found.some((entry) => entry.role === role);
  if (unnamed.length !== 1) return;
  if (present("low") && !present("high")) unnamed[0]!.role = "high";
  else if (present("high") && !present("low")) unnamed[0]!.role = "low";
}
