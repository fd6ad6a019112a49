// Texts and the picture of a generation, encoded before its transformer is loaded. Each encoder is freed before the next.
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Device } from "../device/device.ts";
import { type HostCondition, type PreparedImage, pictureLatents } from "../models/wan/conditioning.ts";
import { loadTextEncoder, loadVae } from "../models/wan/load.ts";
import { embedPrompt, openTokenizer, promptTokens, type TextEmbedding } from "../models/wan/prompt.ts";
import type { GenerateEvent } from "./events.ts";
import type { FilmInput } from "./film-run.ts";
import { createGuidance } from "./guidance/index.ts";
import type { GenerateRequest } from "./request.ts";

/** The embeddings of the prompt, and of the negative text where a guidance asks for it. */
export async function* encodeTexts(
  { model, files, prompt, negative, nagNegative, guidance }: GenerateRequest,
  device: Device,
): AsyncGenerator<GenerateEvent, FilmInput["text"]> {
  yield { type: "stage", stage: "text", detail: "encoding the prompt" };
  const tokenizer = await openTokenizer(files.tokenizer);
  const { textLength: limit, textDim } = model.dit;
  const tokens = { prompt: promptTokens(tokenizer, prompt, limit), negative: promptTokens(tokenizer, negative, limit) };
  for (const [name, { total }] of Object.entries(tokens)) {
    if (total <= limit) continue;
    const what = name === "prompt" ? "the prompt" : "the negative prompt";
    yield { type: "note", text: `${what} has ${total} tokens; the model reads the first ${limit}` };
  }
  // Officially bf16, whatever the transformer runs in.
  using encoder = loadTextEncoder(device, files.textEncoder, { dtype: model.bundled ? "f32" : "bf16" });
  await nextTurn();
  const host = ({ values, tokens: count }: TextEmbedding) => ({ values, shape: [count, textDim] });
  const positive = host(await embedPrompt(encoder, tokens.prompt));
  await nextTurn();
  const guided = [guidance.low, guidance.high].some((choice) => createGuidance(choice).negative);
  if (!guided) return { positive };
  const encoded = host(await embedPrompt(encoder, tokens.negative));
  if (nagNegative === undefined) return { positive, negative: encoded };
  const own = promptTokens(tokenizer, nagNegative, limit);
  return { positive, negative: encoded, nag: host(await embedPrompt(encoder, own)) };
}

export async function* encodePicture(
  { model, files, frames }: GenerateRequest,
  picture: PreparedImage,
  device: Device,
): AsyncGenerator<GenerateEvent, HostCondition> {
  yield { type: "stage", stage: "image", detail: "encoding the picture" };
  using vae = loadVae(device, files.vae, { dtype: "f32", half: "encoder" });
  return { image: model.image, latents: await pictureLatents(vae, model.image, picture, frames) };
}
