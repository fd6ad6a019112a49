// `kinora generate`: reads generate.py's flags and Kinora's own, runs the generation, draws its progress.
import { KinoraError } from "../../base/errors.ts";
import { describeRow } from "../../base/table.ts";
import { formatBytes, formatSeconds, plural } from "../../base/units.ts";
import type { EventOf, ResultOf } from "../../jobs/table.ts";
import type { GenerateStage, Video } from "../../protocol/jobs/generate.ts";
import type { Recipe } from "../../protocol/recipe.ts";
import { describeCache } from "../../sample/caches/index.ts";
import { describeGuidance } from "../../sample/guidance/index.ts";
import { DEFAULT_NOISE } from "../../sample/noise/index.ts";
import { command } from "../command.ts";
import { follow, STOPPED } from "../follow.ts";
import { flagsOfOptions, type GivenFlags, generateFlags, readRequest, withoutEffect } from "../generate-flags.ts";
import { secondsLeft, timeLeft } from "../progress.ts";
import type { Printer } from "../terminal.ts";

type Event = EventOf<"generate">;

const details = `
The official generate.py flags for these tasks work unchanged, with --save_file for --out and --base_seed for
--seed. Its memory and multi-GPU flags are accepted but have no effect: Kinora does what they ask for, or runs on one device.
--use_prompt_extend is refused, because ignoring it would change the result.

A checkpoint is an official folder, a diffusers folder, or single files in any layout (including ComfyUI's, which hold
their tokenizer). The video contains its recipe: kinora show prints it, --from repeats it. After each step the latents
are saved next to the video (FILE.latents.safetensors): a crash loses at most one step, and --resume continues. The first
Ctrl-C stops the run after the current step, the second stops it immediately.

Examples:
  kinora generate --task tiny-t2v --prompt "a red circle moves to the right on a blue background" --out out.mp4
  kinora generate --task t2v-A14B --size 832*480 --ckpt_dir ./Wan2.2-T2V-A14B --prompt "…" --lora style_high.safetensors:0.8 --lora style_low.safetensors
  kinora generate --task ti2v-5B --ckpt_dir ./Wan2.2-TI2V-5B --image cat.jpg --prompt "…"
  kinora generate --task ti2v-5B --ckpt_dir ./Wan2.2-TI2V-5B --prompt "…" --profile comfy --sample_solver uni_pc --cache easycache
  kinora generate --task t2v-14B --ckpt_dir ./Wan2.1-T2V-14B --prompt "…" --guidance cfg-zero --guidance "slg:blocks=[9]"
  kinora generate --from out.mp4 --seed 7 --out other.mp4
  kinora generate --resume --out out.mp4`;

/** What the first Ctrl-C waits for. */
const endsOf: Readonly<Record<GenerateStage, string>> = {
  check: "the file check",
  hash: "this file",
  text: "encoding the texts",
  image: "encoding the picture",
  load: "loading the model",
  sample: "this step",
  decode: "these frames",
};

/** Prints what happens, and remembers where the run is. */
class Narrator {
  readonly #out: Printer;
  #stage: GenerateStage = "check";
  #since = Date.now();
  #experts = false;
  /** Of the film at hand. */
  path: string | undefined;
  stopped: Extract<Event, { type: "stopped" }> | undefined;

  constructor(out: Printer) {
    this.#out = out;
  }

  readonly until = (): string => endsOf[this.#stage];

  readonly show = (event: Event): void => {
    const out = this.#out;
    switch (event.type) {
      case "video":
        this.path = event.path;
        if (event.n > 1) out.say(`film ${event.index + 1} of ${event.n}: ${event.path}`);
        break;
      case "note":
        out.say(event.text);
        break;
      case "stage":
        this.#stage = event.stage;
        this.#since = Date.now();
        out.progress(event.detail);
        break;
      case "progress":
        this.#progress(event);
        break;
      case "step": {
        const { step, steps, expert, secondsPerStep, etaSeconds } = event;
        const which = this.#experts ? ` (${expert} noise)` : "";
        out.progress(
          `step ${step} of ${steps}${which}, ${secondsPerStep.toFixed(2)} s a step${secondsLeft(etaSeconds)}`,
        );
        break;
      }
      case "recipe":
        this.#experts = event.recipe.weights.high !== undefined;
        out.say(headline(event.recipe));
        break;
      case "stopped":
        this.stopped = event;
        break;
      case "preview":
      case "finished":
        break;
    }
  };

  #progress({ stage, done, total, unit }: Extract<Event, { type: "progress" }>): void {
    const what = { hash: "hashing", load: "loading", decode: "decoding" }[stage as string] ?? stage;
    const said = (value: number) => (unit === "frames" ? `${value}` : formatBytes(value));
    const of = total === undefined ? "" : ` of ${said(total)}${timeLeft(this.#since, done, total)}`;
    this.#out.progress(`${what}: ${unit === "frames" ? "frame " : ""}${said(done)}${of}`);
  }
}

function headline(recipe: Recipe): string {
  const { task, video, frames, fps, steps, shift, seed, noise, dtype, device } = recipe;
  const [low, high] = [describeGuidance(recipe.guidance.low), describeGuidance(recipe.guidance.high)];
  const guidance = low === high ? low : `${low} low, ${high} high`;
  const { schedule, cache } = recipe;
  const levels = schedule === undefined ? "" : ` (${describeRow(schedule, recipe.scheduleOptions)} schedule)`;
  const sampler = `${describeRow(recipe.sampler, recipe.samplerOptions)}${levels}`;
  const cached = cache === undefined ? "" : `, cache ${describeCache(cache)}`;
  return `${task}: ${video.width}×${video.height}, ${plural(frames, "frame")} at ${fps} fps, ${plural(steps, "step")} of ${sampler} at shift ${shift}, guidance ${guidance}${cached}, seed ${seed}${noise === DEFAULT_NOISE ? "" : ` (${noise})`}, ${dtype} on ${device}`;
}

async function run(given: GivenFlags, positionals: string[], out: Printer): Promise<number> {
  const [second, ...more] = positionals;
  // generate.py's two-expert scales may come as two words.
  if (
    more.length > 0 ||
    (second !== undefined && (given.sample_guide_scale === undefined || !/^[\d.]+$/.test(second)))
  ) {
    throw new KinoraError("cli.bad-arguments", `unexpected argument ${JSON.stringify(more[0] ?? second)}`, {
      hint: `put the prompt in quotes: --prompt "…"`,
    });
  }
  if (given.use_prompt_extend) {
    throw new KinoraError("generate.no-prompt-extension", "prompt extension is not available yet", {
      hint: "leave out --use_prompt_extend and write the long prompt yourself",
    });
  }
  const request = readRequest(given, second);
  if (request.resume && request.out === undefined) {
    throw new KinoraError("cli.missing-option", "--resume needs the run's output", { hint: "give its --out" });
  }
  const ignored = withoutEffect.filter((name) => given[name] !== undefined && given[name] !== false);
  if (ignored.length > 0) out.note(`no effect in Kinora: ${ignored.map((name) => `--${name}`).join(", ")}`);
  const narrator = new Narrator(out);
  const result = await follow(out, "generate", request, {
    show: narrator.show,
    until: narrator.until,
    stopped: (atOnce) => stoppedEarly(narrator, atOnce),
  });
  if (!result) return STOPPED;
  out.answer(result.videos.length > 1 ? result : result.video, () => made(result));
  return 0;
}

function stoppedEarly({ stopped, path: film }: Narrator, atOnce: boolean): { value: unknown; text: string } {
  const { step, steps, latents } = stopped ?? {};
  const named = film?.includes(" ") ? JSON.stringify(film) : film;
  const goOn = `kinora generate --resume --out ${named}`;
  const value = { interrupted: true, step, steps, latents };
  if (atOnce) return { value, text: `stopped; if a step was saved, resume with: ${goOn}` };
  if (latents !== undefined) return { value, text: `stopped after step ${step} of ${steps}; resume with: ${goOn}` };
  return {
    value,
    text: step ? `stopped after step ${step} of ${steps}; nothing was saved` : "stopped before the first step",
  };
}

function made({ videos }: ResultOf<"generate">): string {
  const line = ({ path, frames, bytes, seconds, peakBytes }: Video) =>
    `${path}: ${frames} frames, ${formatBytes(bytes)}, ${formatSeconds(seconds)}, peak memory ${formatBytes(peakBytes)}`;
  return videos.flatMap((video) => [line(video), ...(video.latents ? [video.latents] : [])]).join("\n");
}

export const generateCommand = command({
  name: "generate",
  usage: "--task TASK --prompt TEXT [--ckpt_dir DIR] [--image FILE] [--lora FILE] [--out FILE.mp4]",
  details,
  options: generateFlags,
  flags: flagsOfOptions,
  run,
});
