// How large a preview gets: as its prompt or the model says, and of its picture's shape where it begins with one.
import { KinoraError } from "../../base/errors.ts";
import { ImageReader } from "../../io/image/read.ts";
import { latentSize, type VideoSize } from "../../models/wan/geometry.ts";
import { pictureVideoSize } from "../../models/wan/image-geometry.ts";
import type { WanModel } from "../../models/wan/params.ts";
import type { SamplePrompt } from "./prompt-file.ts";

/** How errors and notes call the preview of a prompt. */
export const nameOf = ({ prompt }: SamplePrompt): string => `the preview ${JSON.stringify(prompt.slice(0, 40))}`;

/** The size of a prompt's preview; its picture is decoded for it. Throws `train-config.invalid`, `size.*`. */
export async function previewSize(prompt: SamplePrompt, model: WanModel): Promise<VideoSize> {
  const { defaults } = model;
  const { width = defaults.width, height = defaults.height, frames = defaults.frames, image } = prompt;
  const sides = image === undefined ? { width, height } : await sidesOf(prompt, image, model, width * height);
  const size = { ...sides, frames };
  latentSize(model, size);
  return size;
}

/** With a picture only the area is the prompt's. */
async function sidesOf(
  prompt: SamplePrompt,
  image: string,
  model: WanModel,
  area: number,
): Promise<{ width: number; height: number }> {
  const what = nameOf(prompt);
  let info: { width: number; height: number };
  try {
    using picture = await ImageReader.open(image);
    info = picture.info;
  } catch (cause) {
    if (!(cause instanceof KinoraError)) throw cause;
    const missing = cause.code === "media.not-found";
    const fault = missing ? "does not exist" : "cannot be read";
    throw new KinoraError("train-config.invalid", `the picture for ${what} ${fault}`, {
      actual: missing ? image : cause.message,
      hint: (missing ? undefined : cause.hint) ?? "--i FILE is relative to the prompt file",
      cause,
    });
  }
  const sides = pictureVideoSize(model, info, area);
  if (sides) return sides;
  throw new KinoraError("train-config.invalid", `no video of ${area} pixels fits the picture of ${what}`, {
    actual: `${info.width}×${info.height}`,
    hint: "larger --w and --h, whose product is the area, or crop the picture",
  });
}
