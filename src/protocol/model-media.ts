// What each model wants of its pictures and films: frame rate, size steps, usual size. Not its weights or shapes.
import { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";

/** The models Kinora trains and runs, by the names the command line takes. */
export const modelNames = [
  "t2v-A14B",
  "i2v-A14B",
  "ti2v-5B",
  "t2v-1.3B",
  "t2v-14B",
  "i2v-14B",
  "flf2v-14B",
  "tiny-t2v",
  "tiny-ti2v",
] as const;

export const modelNameSchema = z.enum(modelNames);
export type ModelName = z.infer<typeof modelNameSchema>;

/** A model by its name. @throws KinoraError `model.unknown`, naming the nearest. */
export function findModel(name: string): ModelName {
  const found = modelNames.find((known) => known === name);
  if (found) return found;
  const near = nearestName(name, modelNames);
  throw new KinoraError("model.unknown", `unknown model ${JSON.stringify(name)}`, {
    expected: modelNames.join(", "),
    ...(near ? { hint: `did you mean ${near}?` } : {}),
  });
}

export interface ModelMedia {
  /** Frames a second that the model was trained at. */
  fps: number;
  /** Width and height must be multiples of this many pixels (VAE stride × patch). */
  sizeMultiple: 16 | 32;
  /** Width and height of its usual training clips, pixels. */
  defaultSize: readonly [width: number, height: number];
  /** Frames of its usual clips; always 4n + 1. */
  defaultFrames: number;
  /** Generates from a picture given with the text. */
  takesImage: boolean;
}

/** Source: sample_fps, vae_stride × patch_size of https://github.com/Wan-Video/Wan2.2/tree/42bf4cf/wan/configs */
export const modelMedia: Readonly<Record<ModelName, ModelMedia>> = {
  "t2v-A14B": { fps: 16, sizeMultiple: 16, defaultSize: [832, 480], defaultFrames: 81, takesImage: false },
  "i2v-A14B": { fps: 16, sizeMultiple: 16, defaultSize: [832, 480], defaultFrames: 81, takesImage: true },
  "ti2v-5B": { fps: 24, sizeMultiple: 32, defaultSize: [1280, 704], defaultFrames: 121, takesImage: true },
  "t2v-1.3B": { fps: 16, sizeMultiple: 16, defaultSize: [832, 480], defaultFrames: 81, takesImage: false },
  "t2v-14B": { fps: 16, sizeMultiple: 16, defaultSize: [832, 480], defaultFrames: 81, takesImage: false },
  "i2v-14B": { fps: 16, sizeMultiple: 16, defaultSize: [832, 480], defaultFrames: 81, takesImage: true },
  "flf2v-14B": { fps: 16, sizeMultiple: 16, defaultSize: [832, 480], defaultFrames: 81, takesImage: true },
  "tiny-t2v": { fps: 16, sizeMultiple: 16, defaultSize: [64, 64], defaultFrames: 9, takesImage: false },
  "tiny-ti2v": { fps: 24, sizeMultiple: 32, defaultSize: [128, 128], defaultFrames: 9, takesImage: true },
};
