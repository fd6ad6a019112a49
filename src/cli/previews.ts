// Previews during training: the trainer's request, answered by the same sampling that generates videos.
import { dirname } from "node:path";
import { makeFolder } from "../io/atomic.ts";
import { loadVae } from "../models/wan/load.ts";
import { denoise } from "../sample/denoise.ts";
import { drawNoise } from "../sample/noise.ts";
import { encodePicture, latentShape, preparePicture } from "../sample/picture.ts";
import { createScheduler } from "../sample/schedulers/index.ts";
import { writeFilm } from "../sample/video-output.ts";
import { ownedEmpty, type Tensor } from "../tensor/tensor.ts";
import type { PreviewMaker, PreviewRequest } from "../train/preview.ts";

/** Makes one film for a prompt with the experts as they are trained so far. Throws `size.*`, `media.*`, `sample.*`. */
export const makePreview: PreviewMaker = async function* (request) {
  const { model, prompt, seed, text, device, files, vaeDtype, out, signal } = request;
  const { defaults } = model;
  const frames = prompt.frames ?? defaults.frames;
  const asked = { width: prompt.width ?? defaults.width, height: prompt.height ?? defaults.height };
  const picture = prompt.image === undefined ? undefined : await preparePicture(model, prompt.image, asked);
  const size = picture ? { width: picture.width, height: picture.height } : asked;
  const shape = latentShape(model, size, frames);
  const condition = picture && (await encodeWith(request, (vae) => encodePicture(vae, model, picture, shape, frames)));
  const steps = prompt.steps ?? defaults.steps;
  const scheduler = createScheduler("unipc", { steps, shift: prompt.shift ?? defaults.shift });
  using positive = upload(request, text.positive);
  using negative = upload(request, text.negative);
  let latents = drawNoise(
    { kind: "kinora" },
    seed,
    shape.reduce((product, side) => product * side, 1),
  );
  for await (const step of denoise({
    expert: request.expert,
    ...(request.boundary === undefined ? {} : { boundary: request.boundary }),
    scheduler,
    latents,
    shape,
    text: { positive, negative },
    guidance: guidanceOf(request),
    ...condition,
  })) {
    latents = step.latents;
    yield { done: step.step + 1, of: steps };
    await new Promise(setImmediate);
    signal?.throwIfAborted();
  }
  await makeFolder(dirname(out));
  using vae = loadVae(device, files.file("vae"), { dtype: vaeDtype, half: "decoder" });
  const film = writeFilm(out, vae, latents, shape, {
    ...size,
    fps: defaults.fps,
    metadata: { comment: prompt.prompt },
  });
  for await (const _chunk of film) signal?.throwIfAborted();
};

async function encodeWith<T>(
  { device, files, vaeDtype }: PreviewRequest,
  work: (vae: ReturnType<typeof loadVae>) => Promise<T>,
): Promise<T> {
  using vae = loadVae(device, files.file("vae"), { dtype: vaeDtype, half: "encoder" });
  return work(vae);
}

function upload({ device }: PreviewRequest, { values, shape }: PreviewRequest["text"]["positive"]): Tensor {
  const tensor = ownedEmpty(device, shape, "f32", "activations");
  tensor.write(values);
  return tensor;
}

/** The prompt's scale for both experts, else the model's own. */
function guidanceOf({ prompt, model }: PreviewRequest): { low: number; high: number } {
  const scale = prompt.guidance ?? model.defaults.guidance;
  return typeof scale === "number" ? { low: scale, high: scale } : { low: scale[0], high: scale[1] };
}
