// What is looked at before a long run begins: that the files are the model's, and that the result can be written.
import { accessSync, constants, existsSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { KinoraError } from "../base/errors.ts";
import { FileLock } from "../io/file-lock.ts";
import { fileError } from "../io/files.ts";
import { openNetwork } from "../models/wan/load.ts";
import type { Recognized } from "../models/wan/recognize.ts";
import type { VaeConfig } from "../models/wan/vae/config.ts";
import { ditShapes, type Shapes } from "../models/wan/weight-shapes.ts";
import { isFinished, loadLatents } from "./latents-file.ts";
import type { GenerateRequest } from "./request.ts";

function wrongModel(path: string, task: string, needs: string, { label }: Recognized, hint?: string): KinoraError {
  return new KinoraError("generate.wrong-model", `${path} is not what ${task} needs`, {
    expected: needs,
    actual: label,
    hint: hint ?? "kinora models inspect FILE says more",
  });
}

function sameShapes(a: Shapes, b: Shapes): boolean {
  return a.size === b.size && [...a].every(([name, shape]) => String(b.get(name)) === String(shape));
}

/**
 * Opens every weight file, and compares names and shapes with the model; reads no values.
 * Throws `generate.wrong-model`, `weights.*`, `io.*`.
 */
export function checkFiles({ model, files }: GenerateRequest): { vae: VaeConfig; notes: string[] } {
  const notes: string[] = [];
  const recognize = <T>(path: string, kinds: Parameters<typeof openNetwork>[1], look: (found: Recognized) => T): T => {
    const { recognized, reader } = openNetwork(path, kinds);
    using _reader = reader;
    return look(recognized);
  };
  for (const role of ["high", "low"] as const) {
    const path = files[role];
    if (path === undefined) continue;
    recognize(path, ["dit"], (found) => {
      if (found.kind !== "dit" || !sameShapes(found.expected, ditShapes(model.dit))) {
        const other = found.kind === "dit" ? found.models[0] : undefined;
        throw wrongModel(
          path,
          model.name,
          `the transformer of ${model.name}`,
          found,
          other && `is it --task ${other}?`,
        );
      }
      if (files.high !== undefined && found.expert && found.expert !== role) {
        notes.push(`${path} is named as the ${found.expert}-noise expert and runs as the ${role}-noise one`);
      }
    });
  }
  const vae = recognize(files.vae, ["vae21", "vae22"], (found) => {
    if (found.kind === model.vae.kind && found.config.zDim === model.vae.channels) return found.config;
    const version = model.vae.kind === "vae21" ? "2.1" : "2.2";
    throw wrongModel(files.vae, model.name, `the Wan ${version} autoencoder`, found);
  });
  recognize(files.textEncoder, ["text-encoder"], (found) => {
    if (found.kind !== "text-encoder" || found.config.dim !== model.dit.textDim) {
      throw wrongModel(files.textEncoder, model.name, `a UMT5 encoder of width ${model.dit.textDim}`, found);
    }
    notes.push(...found.notes);
  });
  return { vae, notes };
}

/** Throws `generate.bad-output` where the film could not be put in its place at the end. */
export function checkOutput(out: string): void {
  const bad = (message: string, hint: string) => new KinoraError("generate.bad-output", message, { hint });
  if (!/\.mp4$/i.test(out)) throw bad(`${out} is no MP4 file`, "the file to write ends in .mp4");
  if (statSync(out, { throwIfNoEntry: false })?.isDirectory()) throw bad(`${out} is a folder`, "name a file in it");
  const folder = dirname(resolve(out));
  const found = statSync(folder, { throwIfNoEntry: false });
  if (!found?.isDirectory()) throw bad(`there is no folder ${folder}`, "make the folder first, or choose another");
  try {
    accessSync(folder, constants.W_OK);
    if (existsSync(out)) accessSync(out, constants.W_OK);
  } catch (error) {
    const cause = fileError(error, out);
    throw bad(cause instanceof Error ? cause.message : String(cause), "choose a folder this user may write to");
  }
}

/** Keeps others from making the same film at the same time. Throws `generate.locked`, `io.*`. */
export function lockOutput(out: string): FileLock {
  return FileLock.take(join(dirname(out), `.${basename(out)}.lock`), {
    code: "generate.locked",
    message: `another run is making ${out}`,
    instead: "choose another --out",
  });
}

/** Throws `generate.unfinished` where a run that has not made its film yet lies at this place. */
export function checkNothingUnfinished(latents: string, out: string): void {
  if (!existsSync(latents)) return;
  const saved = loadLatents(latents);
  if (isFinished(saved) && existsSync(out)) return;
  const { step, steps } = saved.scheduler;
  throw new KinoraError("generate.unfinished", `an unfinished run lies in ${latents} (step ${step} of ${steps})`, {
    hint: "--resume goes on with it; delete the file to begin anew",
  });
}
