// What each model wants of its pictures and films, told from its row: frame rate, size steps, usual size.
import { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";
import { type ModelName, type WanModel, wanModels } from "./models.ts";

export type { ModelName } from "./models.ts";

/** By the names the command line takes. */
export const modelNames = Object.keys(wanModels) as ModelName[];

/** Those that generate and train. */
export const runnableModels = modelNames.filter((name) => (wanModels[name] as WanModel).lacking === undefined);

/** Of these, those that take a picture. */
export const pictureModels = runnableModels.filter((name) => wanModels[name].image !== "none");

/** The name of a model. */
export const modelNameSchema = z.enum(modelNames);

/** A model by its name. @throws KinoraError `model.unknown`, naming the nearest. */
export function findModel(name: string): ModelName {
  if (Object.hasOwn(wanModels, name)) return name as ModelName;
  const near = nearestName(name, modelNames);
  throw new KinoraError("model.unknown", `unknown model ${JSON.stringify(name)}`, {
    expected: modelNames.join(", "),
    hint: near ? `did you mean ${near}?` : "choose one of these",
  });
}

/** What a model asks of the media that it trains on and makes. */
export interface ModelMedia {
  /** Frames a second that the model was trained at. */
  fps: number;
  /** Width and height must be multiples of this many pixels (VAE stride × patch). */
  sizeMultiple: number;
  /** Width and height of its usual training clips, pixels. */
  defaultSize: readonly [width: number, height: number];
  /** Frames of its usual clips; always 4n + 1. */
  defaultFrames: number;
  /** Tokens of a text that it reads; the rest is lost. */
  textLength: number;
  /** Makes nothing without a picture, so that a still teaches it nothing. */
  needsImage: boolean;
}

/** What a model asks of media, from its row of the table. */
export function mediaOf({ vae, dit, image, defaults, clipSize }: WanModel): ModelMedia {
  return {
    fps: defaults.fps,
    sizeMultiple: vae.stride[1] * dit.patchSize[1],
    defaultSize: clipSize ?? [defaults.width, defaults.height],
    defaultFrames: defaults.frames,
    textLength: dit.textLength,
    needsImage: image !== "none" && image !== "first-frame",
  };
}
