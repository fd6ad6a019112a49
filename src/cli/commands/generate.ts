// `kinora generate`: reads generate.py's flags and Kinora's own, runs the generation, draws its progress.
import { existsSync } from "node:fs";
import { isKinoraError, KinoraError } from "../../base/errors.ts";
import { nearestName } from "../../base/nearest.ts";
import { formatBytes, formatSeconds, plural } from "../../base/units.ts";
import type { OpenedDevice } from "../../device/open-device.ts";
import { deviceChoices } from "../../protocol/devices.ts";
import type { GenerateStage } from "../../protocol/jobs/generate.ts";
import { runnableModels } from "../../protocol/model-media.ts";
import type { LoraExpert, Recipe } from "../../protocol/recipe.ts";
import type { GenerateEvent } from "../../sample/events.ts";
import type { GenerateOptions, LoraChoice } from "../../sample/request.ts";
import { command, noteOn, type Option, type Output, type Values } from "../command.ts";
import { Interrupt } from "../interrupt.ts";
import { parseChoice, parseNumber, parseSize, parseWholeNumber } from "../parse.ts";
import { secondsLeft, timeLeft } from "../progress.ts";

const loraExperts: readonly LoraExpert[] = ["high", "low", "both"];

const options = {
  task: { type: "string", value: "TASK", help: `${runnableModels.join(", ")} (default t2v-A14B)` },
  prompt: { type: "string", value: "TEXT", help: "what the video shows" },
  negative: { type: "string", value: "TEXT", help: "what to lead away from (default: the official text)" },
  image: { type: "string", value: "FILE", help: "the first picture, for i2v-A14B, ti2v-5B and tiny-ti2v" },
  size: { type: "string", value: "W*H", help: "pixels; with a picture its aspect at this area (default: by task)" },
  frame_num: { type: "string", value: "F", help: "frames, 4n + 1 (default: by task)" },
  out: { type: "string", value: "FILE.mp4", help: "the film to write (default: named after task, prompt and seed)" },
  ckpt_dir: { type: "string", value: "DIR", help: "an official or a diffusers checkpoint; tiny-* bring their own" },
  dit: { type: "string", value: "FILE", help: "the transformer, of a model with one" },
  dit_high: { type: "string", value: "FILE", help: "the high-noise expert" },
  dit_low: { type: "string", value: "FILE", help: "the low-noise expert" },
  vae: { type: "string", value: "FILE", help: "the autoencoder" },
  t5: { type: "string", value: "FILE", help: "the text encoder" },
  tokenizer: { type: "string", value: "PATH", help: "its tokenizer's file or folder" },
  lora: {
    type: "string",
    value: "FILE[:S][@E]",
    help: "a LoRA at strength S (1) on high, low or both",
    multiple: true,
  },
  sample_solver: { type: "string", value: "NAME", help: "unipc, dpm++ or euler (default unipc)" },
  sample_steps: { type: "string", value: "N", help: "steps (default: by task)" },
  sample_shift: { type: "string", value: "S", help: "timestep shift (default: by task)" },
  sample_guide_scale: { type: "string", value: "G|LOW,HIGH", help: "guidance; 1 does without the second pass" },
  seed: { type: "string", value: "N", help: "-1 draws one and says it (default -1)" },
  noise: { type: "string", value: "NAME", help: "kinora, torch-cpu, torch-cuda or torch-cuda:GPU (default kinora)" },
  dtype: { type: "string", value: "bf16|f32", help: "of the large products (default bf16; f32 for tiny-*)" },
  device: {
    type: "string",
    value: "NAME",
    help: `${deviceChoices.join(", ")} (default auto; with --resume the run's own)`,
  },
  from: { type: "string", value: "FILE", help: "repeat what a film's recipe says; other options go before it" },
  resume: { type: "boolean", help: "go on with the run that was stopped at --out" },
  "keep-latents": { type: "boolean", help: "keep the latents beside the film" },
  preview: { type: "boolean", help: "write a rough picture beside the film after each step" },
  // generate.py's other names, and its flags that change nothing here.
  save_file: { type: "string", help: "--out", hidden: true },
  base_seed: { type: "string", help: "--seed", hidden: true },
  offload_model: { type: "string", help: "", hidden: true },
  ulysses_size: { type: "string", help: "", hidden: true },
  ring_size: { type: "string", help: "", hidden: true },
  t5_fsdp: { type: "boolean", help: "", hidden: true },
  t5_cpu: { type: "boolean", help: "", hidden: true },
  dit_fsdp: { type: "boolean", help: "", hidden: true },
  convert_model_dtype: { type: "boolean", help: "", hidden: true },
  use_prompt_extend: { type: "boolean", help: "", hidden: true },
  prompt_extend_method: { type: "string", help: "", hidden: true },
  prompt_extend_model: { type: "string", help: "", hidden: true },
  prompt_extend_target_lang: { type: "string", help: "", hidden: true },
} as const satisfies Record<string, Option>;

const details = `
The flags of the official generate.py for these tasks are taken as they are, --save_file for --out and --base_seed for
--seed too. What its memory and multi-GPU flags ask for happens anyway, or has no meaning on one device: they change
nothing. --use_prompt_extend is refused, since it would change the result.

A checkpoint is an official folder, a diffusers folder, or single files in any layout (also ComfyUI's, which carry
their tokenizer). The film carries its recipe: kinora show prints it, --from repeats it. After each step what is done
lies beside the film (FILE.latents.safetensors): Ctrl-C or a crash loses at most a step, --resume goes on. Ctrl-C is
heard at the end of a step; once more ends the run at once. While models load and texts are encoded, and where steps
take long, the first ends it at once.

Examples:
  kinora generate --task tiny-t2v --prompt "a red circle moves to the right on a blue background" --out out.mp4
  kinora generate --task t2v-A14B --size 832*480 --ckpt_dir ./Wan2.2-T2V-A14B --prompt "…" --lora style_high.safetensors:0.8 --lora style_low.safetensors
  kinora generate --task ti2v-5B --ckpt_dir ./Wan2.2-TI2V-5B --image cat.jpg --prompt "…"
  kinora generate --from out.mp4 --seed 7 --out other.mp4
  kinora generate --resume --out out.mp4`;

type Given = Values<typeof options>;

const withoutEffect = [
  "offload_model",
  "ulysses_size",
  "ring_size",
  "t5_fsdp",
  "t5_cpu",
  "dit_fsdp",
  "convert_model_dtype",
  "prompt_extend_method",
  "prompt_extend_model",
  "prompt_extend_target_lang",
] as const satisfies readonly (keyof typeof options)[];

function parseSeed(option: string, text: string): bigint {
  if (/^-?\d+$/.test(text.trim())) return BigInt(text);
  throw new KinoraError("cli.bad-number", `${option} is wrong`, {
    expected: "a whole number",
    actual: text,
    hint: `e.g. ${option} 42`,
  });
}

/** `5`, or the official order of two, low noise first: `3,4`, `"3.0 4.0"`, `(3.0, 4.0)`. */
export function parseGuidance(text: string): number | { low: number; high: number } {
  const parts = text
    .replace(/^[\s([]+|[\s)\]]+$/g, "")
    .split(/[\s,]+/)
    .map((part) => parseNumber("--sample_guide_scale", part));
  const [low, high] = parts;
  if (low !== undefined && parts.length === 1) return low;
  if (low !== undefined && high !== undefined && parts.length === 2) return { low, high };
  throw new KinoraError("cli.bad-value", "--sample_guide_scale takes one scale, or two: low noise, high noise", {
    expected: "a number, or two with a comma",
    actual: text,
    hint: "e.g. 5 or 3,4",
  });
}

const numeric = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i;
const loraForm = "FILE[:strength][@high|low|both]";

/** `FILE[:strength][@high|low|both]`, in either order; a colon or @ elsewhere belongs to the name. */
export function parseLora(text: string): LoraChoice {
  let path = text;
  let strength: number | undefined;
  let expert: LoraExpert | undefined;
  // What is there by its whole name is meant by it.
  while (!existsSync(path)) {
    const behind = /^(.+)([:@])([^/\\:@]*)$/s.exec(path);
    if (!behind) break;
    const [, before = "", mark, tail = ""] = behind;
    if (mark === ":" && strength === undefined && numeric.test(tail)) {
      strength = Number(tail);
    } else if (mark === "@" && expert === undefined && loraExperts.some((name) => name === tail)) {
      expert = tail as LoraExpert;
    } else if (/\.(?:safetensors|sft|pth|pt|bin)$/i.test(tail)) {
      break;
    } else throw badLora(text, mark!, tail);
    path = before;
  }
  return { path, strength: strength ?? 1, ...(expert === undefined ? {} : { expert }) };
}

function badLora(text: string, mark: string, tail: string): KinoraError {
  const near = nearestName(tail, loraExperts);
  const decimal = tail.replace(",", ".");
  const twice = mark === "@" ? near === tail : numeric.test(tail);
  const hint = twice
    ? "each LoRA takes one strength and one expert"
    : near
      ? `did you mean @${near}?`
      : numeric.test(decimal)
        ? `did you mean :${decimal}?`
        : "e.g. style.safetensors:0.8@high";
  return new KinoraError("cli.bad-value", `--lora: ${JSON.stringify(tail)} is out of place`, {
    expected: loraForm,
    actual: text,
    hint,
  });
}

/** One value under two names; throws where they disagree. */
function either(given: Given, name: "out" | "seed", official: "save_file" | "base_seed"): string | undefined {
  const [own, theirs] = [given[name], given[official]];
  if (own !== undefined && theirs !== undefined && own !== theirs) {
    throw new KinoraError("cli.bad-arguments", `--${name} and --${official} mean the same and differ`, {
      actual: `${own} and ${theirs}`,
      hint: "give one of them",
    });
  }
  return own ?? theirs;
}

function readOptions(given: Given, second: string | undefined): GenerateOptions & { named: string | undefined } {
  const { sample_guide_scale: scale } = given;
  const seed = either(given, "seed", "base_seed");
  const named = either(given, "out", "save_file");
  const read = <T>(text: string | undefined, parse: (text: string) => T) =>
    text === undefined ? undefined : parse(text);
  return {
    named,
    task: given.task,
    prompt: given.prompt,
    negative: given.negative,
    image: given.image,
    size: read(given.size, parseSize),
    frames: read(given.frame_num, (text) => parseWholeNumber("--frame_num", text)),
    sampler: given.sample_solver,
    steps: read(given.sample_steps, (text) => parseWholeNumber("--sample_steps", text)),
    shift: read(given.sample_shift, (text) => parseNumber("--sample_shift", text)),
    guidance: read(scale, (text) => parseGuidance(second === undefined ? text : `${text} ${second}`)),
    seed: read(seed, (text) => parseSeed("--seed", text)),
    noise: given.noise,
    dtype: read(given.dtype, (text) => parseChoice("--dtype", text, ["bf16", "f32"])),
    loras: given.lora.map(parseLora),
    files: {
      folder: given.ckpt_dir,
      dit: given.dit,
      high: given.dit_high,
      low: given.dit_low,
      vae: given.vae,
      textEncoder: given.t5,
      tokenizer: given.tokenizer,
    },
    out: named ?? "",
    keepLatents: given["keep-latents"],
  };
}

/** generate.py's way: task, the prompt's beginning, and what tells runs apart. */
function defaultName(task: string, prompt: string, seed: bigint): string {
  const words = prompt
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .replace(/^-+|-+$/g, "");
  return `${task}-${[...words].slice(0, 40).join("").replace(/-+$/, "")}-${seed}.mp4`;
}

/** Stages in which no signal is heard until they end. Nothing is lost there: what is done lies on disk. */
const deaf: ReadonlySet<GenerateStage> = new Set(["text", "image", "load"]);

/** Above this, a step is too long to wait for. */
const LONG_SECONDS = 20;

/** Leaves signals to the system, which ends the process at once, where they would only be heard after a long time. */
class Hearing {
  readonly #interrupt: Interrupt;
  readonly #say: (text: string) => void;
  #since = Date.now();
  #deaf = false;
  #long = false;

  constructor(interrupt: Interrupt, say: (text: string) => void) {
    this.#interrupt = interrupt;
    this.#say = say;
  }

  after(event: GenerateEvent): void {
    const seconds = (Date.now() - this.#since) / 1000;
    this.#since = Date.now();
    if (event.type === "stage") this.#deaf = deaf.has(event.stage);
    const piece = event.type === "step" || (event.type === "progress" && event.stage === "decode");
    if (piece && !this.#long && seconds > LONG_SECONDS) {
      this.#long = true;
      const how = "Ctrl-C now ends the run at once, and --resume goes on from what is saved";
      this.#say(`${event.type === "step" ? "a step" : "a piece of film"} takes ${formatSeconds(seconds)}: ${how}`);
    }
    this.#interrupt.listen(!this.#deaf && !this.#long);
  }
}

/** What a person reads of an event; progress is counted from `since`, and of two `experts` the one at work is named. */
function tell(event: GenerateEvent, { since, experts }: { since: number; experts: boolean }, out: Output): void {
  switch (event.type) {
    case "note":
      out.note(event.text);
      break;
    case "stage":
      out.progress(event.detail);
      break;
    case "progress": {
      const { done, total, stage, unit } = event;
      const eta = timeLeft(since, done, total);
      if (unit === "frames") out.progress(`decoding: frame ${done} of ${total}${eta}`);
      else out.progress(`${stage === "hash" ? "hashing" : stage}: ${formatBytes(done)} of ${formatBytes(total)}${eta}`);
      break;
    }
    case "step": {
      const { step, steps, expert, secondsPerStep, etaSeconds } = event;
      const which = experts ? ` (${expert} noise)` : "";
      out.progress(`step ${step} of ${steps}${which}, ${secondsPerStep.toFixed(2)} s a step${secondsLeft(etaSeconds)}`);
      break;
    }
    case "recipe":
      out.note(headline(event.recipe));
      break;
    case "preview":
    case "interrupted":
    case "finished":
      break;
  }
}

/** Pictures stay in the preview's file. */
function jsonEvent(event: GenerateEvent): unknown {
  if (event.type !== "preview") return event;
  const { frames: _frames, ...rest } = event;
  return rest;
}

function headline(recipe: Recipe): string {
  const { task, video, frames, fps, steps, sampler, shift, guidance, seed, noise, dtype, device } = recipe;
  const scale = guidance.low === guidance.high ? guidance.low : `${guidance.low} low, ${guidance.high} high`;
  return `${task}: ${video.width}×${video.height}, ${plural(frames, "frame")} at ${fps} a second, ${plural(steps, "step")} of ${sampler} at shift ${shift}, guidance ${scale}, seed ${seed}${noise === "kinora" ? "" : ` (${noise})`}, ${dtype} on ${device}`;
}

async function writePreview(event: Extract<GenerateEvent, { type: "preview" }>, out: string): Promise<void> {
  const { writePng } = await import("../../io/image/write.ts");
  const { width, height, frames } = event;
  const data = frames[Math.floor(frames.length / 2)]!;
  await writePng(`${out.replace(/\.mp4$/i, "")}.preview.png`, { width, height, data });
}

async function run(given: Given & { json: boolean }, positionals: string[], out: Output): Promise<number> {
  const [second, ...more] = positionals;
  // generate.py's two-expert scales may come as two words.
  if (
    more.length > 0 ||
    (second !== undefined && (given.sample_guide_scale === undefined || !/^[\d.]+$/.test(second)))
  ) {
    throw new KinoraError("cli.bad-arguments", `generate takes no argument ${JSON.stringify(more[0] ?? second)}`, {
      hint: `put the prompt in quotes: --prompt "…"`,
    });
  }
  if (given.use_prompt_extend) {
    throw new KinoraError("generate.no-prompt-extension", "prompts cannot be extended yet", {
      hint: "leave out --use_prompt_extend and give the long prompt yourself",
    });
  }
  const { named, ...asked } = readOptions(given, second);
  // Everything heavy is loaded only now, so that help and errors come at once.
  const [{ generate }, { resolveRequest }, existing, recipes, hashing, { openDevice }] = await Promise.all([
    import("../../sample/pipeline.ts"),
    import("../../sample/request.ts"),
    import("../../sample/existing.ts"),
    import("../../sample/recipe.ts"),
    import("../../io/content-hash.ts"),
    import("../../device/open-device.ts"),
  ]);
  const say = noteOn(out, given.json);
  const ignored = withoutEffect.filter((name) => given[name] !== undefined && given[name] !== false);
  if (ignored.length > 0) say(`without effect here: ${ignored.map((name) => `--${name}`).join(", ")}`);
  const hashes = new hashing.HashCache(hashing.cacheFolder(process.env));

  if (given.resume && named === undefined) {
    throw new KinoraError("cli.missing-option", "--resume needs to know which run", { hint: "give its --out" });
  }
  let source = given.from;
  if (given.resume) {
    source ??= existing.resumeSource(asked.out);
  }
  const repeats = source === undefined ? undefined : await recipes.readRecipe(source);
  const complete = repeats ? await recipes.repeatOptions(repeats, asked, hashes) : asked;
  const { request, notes } = resolveRequest(complete);
  if (named === undefined) request.out = defaultName(request.model.name, request.prompt, request.seed);
  for (const note of notes) say(note);

  const { device, note } = await openAsked(given.device, given.resume ? repeats?.device : undefined, openDevice);
  if (note) say(note);
  try {
    using interrupt = new Interrupt(() => say("stopping after this step; once more ends at once"));
    const hearing = new Hearing(interrupt, say);
    let loadedBytes = 0;
    const loading = (bytes: number) => {
      loadedBytes += bytes;
      out.progress(`loading: ${formatBytes(loadedBytes)}`);
    };
    const events = generate(request, device, {
      hashes,
      signal: interrupt.signal,
      resume: given.resume,
      ...(given.from !== undefined && repeats ? { repeats } : {}),
      preview: given.preview,
      ...(given.json ? {} : { loading }),
    });
    let since = Date.now();
    for await (const event of events) {
      if (event.type === "stage") {
        since = Date.now();
        loadedBytes = 0;
      }
      hearing.after(event);
      if (given.json) out.note(JSON.stringify(jsonEvent(event)));
      else tell(event, { since, experts: request.model.boundary !== undefined }, out);
      if (event.type === "preview") await writePreview(event, request.out);
      if (event.type === "interrupted") return stoppedEarly(event, request.out, given.json, out);
      if (event.type === "finished") finish(event, given.json, out);
    }
    return 0;
  } finally {
    device[Symbol.dispose]();
  }
}

/** The device that was asked for, else the one the run that goes on was begun on. Throws `device.unavailable`. */
async function openAsked(
  asked: string | undefined,
  begunOn: string | undefined,
  open: (choice: string) => Promise<OpenedDevice>,
): Promise<OpenedDevice> {
  try {
    return await open(asked ?? begunOn ?? "auto");
  } catch (error) {
    if (asked !== undefined || begunOn === undefined || !isKinoraError(error)) throw error;
    throw new KinoraError(error.code, `the run was begun on device ${begunOn}: ${error.message}`, {
      hint: "--device auto goes on with another; the last bits may then differ",
      cause: error,
    });
  }
}

function stoppedEarly(
  { step, steps, latents }: Extract<GenerateEvent, { type: "interrupted" }>,
  film: string,
  json: boolean,
  out: Output,
): number {
  const path = film.includes(" ") ? JSON.stringify(film) : film;
  if (json) out.data(JSON.stringify({ interrupted: true, step, steps, latents }));
  else if (latents)
    out.note(`stopped after step ${step} of ${steps}; go on with: kinora generate --resume --out ${path}`);
  else
    out.note(
      step === 0 ? "stopped before the first step" : `stopped after step ${step} of ${steps}; nothing was saved`,
    );
  return 130;
}

function finish(event: Extract<GenerateEvent, { type: "finished" }>, json: boolean, out: Output): void {
  const { type: _type, ...result } = event;
  if (json) out.data(JSON.stringify(result));
  else {
    const { path, frames, bytes, seconds, peakBytes } = result;
    out.data(
      `${path}: ${frames} frames, ${formatBytes(bytes)}, ${formatSeconds(seconds)}, peak memory ${formatBytes(peakBytes)}`,
    );
    if (result.latents) out.data(result.latents);
  }
}

export const generateCommand = command({
  name: "generate",
  summary: "make a video from a prompt, and from a picture where the model takes one",
  usage: "--task TASK --prompt TEXT [--ckpt_dir DIR] [--image FILE] [--lora FILE] [--out FILE.mp4]",
  details,
  options,
  run,
});
