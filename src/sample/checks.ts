// What is looked at before a long run begins: that the files are the model's, and that the result can be written.
import { accessSync, constants, existsSync, type Stats, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { KinoraError } from "../base/errors.ts";
import { FileLock } from "../io/file-lock.ts";
import { fileError } from "../io/files.ts";
import { checkAutoencoder, checkTextEncoder, checkTransformer } from "../models/wan/check-files.ts";
import type { VaeConfig } from "../models/wan/vae/config.ts";
import type { GenerateRequest } from "./request.ts";

/**
 * Opens every weight file, and compares names and shapes with the model; reads no values.
 * Throws `checkpoint.wrong-model`, `weights.*`, `io.*`.
 */
export function checkFiles({ model, files, image }: GenerateRequest): { vae: VaeConfig; notes: string[] } {
  const notes: string[] = [];
  for (const role of ["high", "low"] as const) {
    const path = files[role];
    if (path === undefined) continue;
    const { expert } = checkTransformer(path, model);
    if (files.high !== undefined && expert && expert !== role)
      notes.push(`${path} is named like the ${expert}-noise expert but is used as the ${role}-noise one`);
  }
  const vae = checkAutoencoder(files.vae, model, { tiny: true });
  if (vae.tiny && image !== undefined) {
    throw new KinoraError("generate.tiny-picture", "a picture is encoded with the model's own autoencoder", {
      actual: `${files.vae} is a tiny one`,
      hint: "give the full autoencoder as `files.vae`",
    });
  }
  notes.push(...vae.notes, ...checkTextEncoder(files.textEncoder, model).notes);
  return { vae: vae.config, notes };
}

/** Throws `generate.bad-output`, `io.*` where the film could not be put in its place at the end. */
export function checkOutput(out: string): void {
  const bad = (message: string, hint: string) => new KinoraError("generate.bad-output", message, { hint });
  if (!/\.mp4$/i.test(out)) throw bad(`${out} is not an MP4 file`, "the output must end in .mp4");
  if (statOf(out)?.isDirectory()) throw bad(`${out} is a folder`, "give a file name in it");
  const folder = dirname(resolve(out));
  if (!statOf(folder)?.isDirectory())
    throw bad(`the folder ${folder} does not exist`, "create the folder first, or choose another");
  try {
    accessSync(folder, constants.W_OK);
    if (existsSync(out)) accessSync(out, constants.W_OK);
  } catch (error) {
    const cause = fileError(error, out);
    throw bad(cause instanceof Error ? cause.message : String(cause), "choose a folder that you can write to");
  }
}

function statOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    throw fileError(error, path);
  }
}

/** Keeps others from making the same film at the same time. Throws `generate.locked`, `io.*`. */
export function lockOutput(out: string): FileLock {
  return FileLock.take(join(dirname(out), `.${basename(out)}.lock`), {
    code: "generate.locked",
    message: `another run is writing ${out}`,
    instead: "choose another `out`",
  });
}
