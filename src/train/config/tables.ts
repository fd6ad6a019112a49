// Each table of a training configuration, settled: defaults that hang on the model and on each other, and what has no
// effect in a combination. The file as a whole: config.ts.
import { KinoraError } from "../../base/errors.ts";
import { SEED_MAX } from "../../base/rng/seed.ts";
import { formatPercent, plural } from "../../base/units.ts";
import { type TrainableKindName, trainableKinds } from "../../lora/adapters/table.ts";
import { countTargets } from "../../lora/targets.ts";
import type { WanModel } from "../../models/wan/params.ts";
import type { BlockMemory } from "../../nn/residency.ts";
import { DEFAULT_SAMPLER, guidanceSchema } from "../../protocol/recipe.ts";
import type { TrainConfig } from "../../protocol/train-config.ts";
import type { EmaSettings } from "../optimizers/ema.ts";
import type { OptimizerRow } from "../optimizers/optimizer.ts";
import type { Objective } from "../step/losses.ts";
import { expertRange, shareOf, type TimeDistribution } from "../step/timesteps.ts";
import { choosing, settleChoice } from "./choices.ts";
import { nameOf, previewSize } from "./preview-size.ts";
import { type PromptFile, readPromptFile, type SamplePrompt } from "./prompt-file.ts";
import type { LoraSettings, TrainSettings } from "./settings.ts";
import type { Settler } from "./settler.ts";

export function settleTime(s: Settler, given: NonNullable<TrainConfig["time"]>, model: WanModel): TimeDistribution {
  const { choice } = settleChoice(s, choosing.time, given, { defaults: (row) => row.defaults?.(model) });
  if (given.min === undefined && given.max === undefined) {
    s.take("time.keep_shape", given.keep_shape, true, { idle: "only with time.min or time.max" });
    return choice;
  }
  const min = s.take("time.min", given.min, 0);
  const max = s.take("time.max", given.max, 1);
  if (min >= max) {
    throw new KinoraError("train-config.invalid", "time.min is not below time.max", {
      actual: `${min} and ${max}`,
      hint: "they are noise levels: 0 is a clean clip, 1 is noise; musubi's timesteps are a thousand times these",
    });
  }
  const keepShape = s.take("time.keep_shape", given.keep_shape, true, {
    note: (value) => (value ? "levels outside min…max are redrawn" : "the whole distribution is squeezed into min…max"),
  });
  return { ...choice, limits: { min, max, keepShape } };
}

export function settleObjective(s: Settler, given: NonNullable<TrainConfig["loss"]>): Objective {
  return {
    loss: settleChoice(s, choosing.loss, given).choice,
    weighting: settleChoice(s, choosing.weighting, given).choice,
  };
}

/** Throws `train-config.invalid` where nothing can be swapped. */
export function settleBlocks(
  s: Settler,
  given: number | undefined,
  { full, recompute, model }: { full: boolean; recompute: boolean; model: WanModel },
): BlockMemory | undefined {
  const { layers } = model.dit;
  const swapped = s.take("model.blocks_to_swap", given, 0, {
    note: (count) =>
      count === 0
        ? undefined
        : `${layers - count} of ${layers} blocks in memory; the others are read from disk when needed`,
  });
  if (swapped === 0) return undefined;
  const refuse = (why: string, hint: string): never => {
    throw new KinoraError("train-config.invalid", `model.blocks_to_swap ${why}`, { actual: `${swapped}`, hint });
  };
  if (full) refuse("is for frozen weights; a full fine-tune trains them", 'leave it out, or use train = "lora"');
  if (!recompute) refuse("needs model.recompute: the backward pass reads each block again", "leave model.recompute on");
  if (swapped >= layers) refuse(`is too many: ${model.name} has ${layers} blocks`, `at most ${layers - 1}`);
  return { swapped };
}

export function settleExperts(
  s: Settler,
  given: NonNullable<TrainConfig["experts"]>,
  { model, boundary }: Pick<TrainSettings, "model" | "boundary">,
  time: TimeDistribution,
): TrainSettings["experts"] {
  if (boundary === undefined) {
    const idle = `${model.name} has one transformer`;
    if (given.train !== undefined) s.take("experts.train", given.train, "both", { idle });
    if (given.switch_every !== undefined) s.take("experts.switch_every", given.switch_every, 1, { idle });
    if (given.high_share !== undefined) s.take("experts.high_share", given.high_share, 0, { idle });
    return { train: ["low"], switchEvery: 1, highShare: 0 };
  }
  const drawn = shareOf(time, expertRange("high", boundary));
  const which = s.take("experts.train", given.train, "both", {
    note: `the high-noise expert has σ ≥ ${boundary}, the low-noise one σ < ${boundary}${boundary === model.boundary ? "" : ": the checkpoint's own boundary"}`,
  });
  const idle = which !== "both" && "only with both experts";
  return {
    train: which === "both" ? ["high", "low"] : [which],
    switchEvery: s.take("experts.switch_every", given.switch_every, 100, {
      idle,
      note: "steps of a cycle, in which the expert changes once; the idle one is not loaded",
    }),
    highShare: s.take("experts.high_share", given.high_share, Math.min(0.95, Math.max(0.05, drawn)), {
      idle,
      from: "model",
      note: (value) =>
        `${formatPercent(value)} of the steps train the high-noise expert; the time sampling alone gives it ${formatPercent(drawn)}`,
    }),
  };
}

export function settleConditioning(
  s: Settler,
  given: NonNullable<TrainConfig["conditioning"]>,
  model: WanModel,
): { captionDropout: number; firstFrame: number } {
  const takesFirst = model.image === "first-frame";
  return {
    captionDropout: s.take("conditioning.caption_dropout", given.caption_dropout, 0),
    firstFrame: takesFirst
      ? s.take("conditioning.first_frame", given.first_frame, 0, { note: "share of clips whose first frame is given" })
      : s.take("conditioning.first_frame", given.first_frame, 0, {
          idle: `${model.name} does not take a first frame this way`,
        }) * 0,
  };
}

export function settleLora(
  s: Settler,
  given: NonNullable<TrainConfig["lora"]>,
  full: boolean,
  model: WanModel,
): TrainSettings["lora"] {
  const idle = full ? 'only with train = "lora"' : undefined;
  const rank = trainableKinds.lora.settings.shape.rank.parse(given.rank);
  const { choice } = settleChoice(s, choosing.adapter, given, {
    idle,
    defaults: () => ({ alpha: rank }),
    from: "default",
    notes: {
      alpha: (value) => {
        const scale = (value as number) / (given.rslora === true ? Math.sqrt(rank) : rank);
        return `the scale ${given.rslora === true ? "alpha/√rank" : "alpha/rank"} is ${Number(scale.toPrecision(6))}`;
      },
    },
  });
  const targets = typeof given.targets === "string" ? [given.targets] : given.targets;
  for (const pattern of targets ?? []) {
    try {
      new RegExp(pattern);
    } catch (cause) {
      throw new KinoraError("train-config.invalid", `lora.targets: ${JSON.stringify(pattern)} is not a valid pattern`, {
        hint: "a regular expression of official names; a plain part of a name such as self_attn does",
        cause,
      });
    }
  }
  const { each, all, fullRank } = full
    ? { each: [], all: 0, fullRank: Number.POSITIVE_INFINITY }
    : countTargets(model, targets);
  if (rank > fullRank) {
    throw new KinoraError("train-config.invalid", `lora.rank is above what any layer of ${model.name} can have`, {
      expected: `at most ${fullRank}`,
      actual: `${rank}`,
      hint: "16 to 64 is usual",
    });
  }
  const counts = each.length > 1 ? ` (${each.map(({ pattern, layers }) => `${pattern}: ${layers}`).join(", ")})` : "";
  s.take("lora.targets", targets, ["the blocks' attention and feed-forward"], {
    idle,
    ...(full ? {} : { note: `${plural(all, "layer")}${counts}` }),
  });
  const own = choice.settings as Omit<LoraSettings, "kind" | "targets">;
  const alpha = own.rslora ? own.alpha * Math.sqrt(own.rank) : own.alpha;
  return { kind: choice.kind as TrainableKindName, ...own, alpha, targets };
}

/** With the reason why [schedule] does nothing, where there is one. */
export function settleOptimizer(
  s: Settler,
  given: NonNullable<TrainConfig["optimizer"]>,
  full: boolean,
  plusRatio: number,
): { optimizer: TrainSettings["optimizer"]; ownSchedule: string | undefined } {
  const kind = given.kind ?? choosing.optimizer.fallback;
  const { oneRate } = choosing.optimizer.rows[kind] as OptimizerRow;
  if (oneRate !== undefined && plusRatio !== 1) {
    throw new KinoraError("train-config.invalid", `lora.plus_ratio cannot be used with optimizer.kind ${kind}`, {
      expected: "1",
      actual: `${plusRatio}`,
      hint: oneRate,
    });
  }
  const { row, choice } = settleChoice(s, choosing.optimizer, given);
  const optimizer = {
    ...choice,
    learningRate: s.take("optimizer.learning_rate", given.learning_rate, row.learningRate[full ? "full" : "lora"]),
    clip: s.take("optimizer.clip", given.clip, 1, {
      note: (value) => (value === 0 ? "gradients are not clipped" : undefined),
    }),
    accumulation: s.take("optimizer.accumulation", given.accumulation, 1),
  };
  const { ownSchedule } = row as OptimizerRow;
  return {
    optimizer,
    ownSchedule: typeof ownSchedule === "function" ? ownSchedule(choice.settings) : ownSchedule,
  };
}

/** Undefined where no average is asked for. */
export function settleEma(s: Settler, given: TrainConfig["ema"]): EmaSettings | undefined {
  if (!given) return undefined;
  return {
    decay: s.take("ema.decay", given.decay, 0.99, { note: "the average is validated, previewed and written" }),
    rising: s.take("ema.rising", given.rising, true, {
      note: (value) => (value ? "at step k the past counts at most (1 + k)/(10 + k)" : undefined),
    }),
  };
}

export function settleSchedule(
  s: Settler,
  given: NonNullable<TrainConfig["schedule"]>,
  idle: string | undefined,
): TrainSettings["schedule"] {
  const { choice } = settleChoice(s, choosing.schedule, given, { idle });
  const warmup = s.take("schedule.warmup", given.warmup, 0, { idle });
  const share =
    typeof warmup === "string" ? Number.parseFloat(warmup) / 100 : warmup > 0 && warmup < 1 ? warmup : undefined;
  if (share !== undefined ? share >= 1 : !Number.isInteger(warmup)) {
    throw new KinoraError("train-config.invalid", "schedule.warmup is wrong", {
      expected: 'a whole number of steps, a share below 1, or a percentage below 100 such as "5%"',
      actual: String(warmup),
      hint: "0.05 is one step in twenty, as a share of the whole run",
    });
  }
  if (idle !== undefined) return { kind: "constant", settings: {}, warmup: { steps: 0 } };
  return { ...choice, warmup: share === undefined ? { steps: warmup as number } : { share } };
}

export function settleValidation(
  s: Settler,
  given: NonNullable<TrainConfig["validation"]>,
): TrainSettings["validation"] {
  const holdOut = s.take("validation.hold_out", given.hold_out, 0, {
    note: (value) =>
      value === 0 ? "no validation: every file trains" : "files that never train, judged with fixed noise at fixed σ",
  });
  if (holdOut >= 1 && !Number.isInteger(holdOut)) {
    throw new KinoraError("train-config.invalid", "validation.hold_out is wrong", {
      expected: "a whole number of files, or a share below 1",
      actual: String(holdOut),
      hint: "2 holds out two files, 0.1 one in ten",
    });
  }
  const idle = holdOut === 0 && "nothing is held out";
  return {
    holdOut,
    everySteps: s.take("validation.every_steps", given.every_steps, 100, { idle }),
    sigmas: s.take("validation.sigmas", given.sigmas, 4, { idle }),
  };
}

const MOST_PREVIEWS = 1000;

export async function settlePreview(
  s: Settler,
  given: TrainConfig["preview"],
  find: (path: string) => Promise<string>,
  model: WanModel,
  notes: string[],
): Promise<TrainSettings["preview"]> {
  if (!given) return undefined;
  const path = s.take("preview.prompts", await find(given.prompts), "");
  const read: PromptFile = await readPromptFile(path);
  notes.push(...read.notes);
  const sampler = s.take("preview.sampler", given.sampler, DEFAULT_SAMPLER, { note: "of prompts without --ss" });
  if (read.prompts.length > MOST_PREVIEWS) {
    throw new KinoraError("train-config.invalid", `${path} contains too many prompts`, {
      expected: `at most ${MOST_PREVIEWS}`,
      actual: `${read.prompts.length}`,
      hint: "every round of previews generates a video for each",
    });
  }
  const prompts: SamplePrompt[] = [];
  for (const prompt of read.prompts) prompts.push(await checkPrompt({ sampler, ...prompt }, model, notes));
  const everyEpochs = given.every_epochs;
  const fallback = everyEpochs === undefined ? 250 : undefined;
  return {
    prompts,
    everySteps: s.take("preview.every_steps", given.every_steps, fallback),
    everyEpochs: s.take("preview.every_epochs", everyEpochs, undefined),
    atStart: s.take("preview.at_start", given.at_start, false),
  };
}

/** What would stop a preview in the middle of a run is told before it. Throws `train-config.invalid`, `size.*`. */
async function checkPrompt(prompt: SamplePrompt, model: WanModel, notes: string[]): Promise<SamplePrompt> {
  const what = nameOf(prompt);
  const { image, ...rest } = prompt;
  const { shift, guidance, seed } = prompt;
  if (shift !== undefined && !(shift > 0 && Number.isFinite(shift))) {
    throw new KinoraError("train-config.invalid", `${what} has an invalid flow shift`, {
      expected: "--fs with a number above 0",
      actual: `${shift}`,
      hint: `leave --fs out for the model's own, ${model.defaults.shift}`,
    });
  }
  if (guidance !== undefined && !guidanceSchema.safeParse(guidance).success) {
    throw new KinoraError("train-config.invalid", `${what} has a CFG scale that is out of range`, {
      actual: `${guidance}`,
      hint: "leave --l out for the model's own",
    });
  }
  if (seed !== undefined && seed > SEED_MAX) {
    throw new KinoraError("train-config.invalid", `${what} has a seed that is too large`, {
      expected: "--d with a whole number below 2^64",
      actual: `${seed}`,
      hint: "leave --d out for the run's own seed",
    });
  }
  if (model.image === "channels" && image === undefined) {
    throw new KinoraError("train-config.invalid", `${what} has no picture to begin with`, {
      hint: `${model.name} needs --i FILE behind each prompt`,
    });
  }
  if (image !== undefined && model.image === "none") {
    notes.push(`${model.name} does not take a picture: --i of ${what} has no effect`);
    return checkPrompt(rest, model, notes);
  }
  await previewSize(prompt, model);
  return prompt;
}

export function settleSave(s: Settler, given: NonNullable<TrainConfig["save"]>, full: boolean): TrainSettings["save"] {
  const { title, author, description, license, tags, comment } = given;
  const regular = given.every_steps === undefined && given.every_epochs === undefined;
  const settings = {
    everySteps: s.take("save.every_steps", given.every_steps, undefined),
    everyEpochs: s.take("save.every_epochs", given.every_epochs, undefined),
    keepLast: s.take("save.keep_last", given.keep_last, undefined, {
      idle: regular && "only the last file is written",
    }),
    stateEverySteps: s.take("save.state_every_steps", given.state_every_steps, 100, {
      note: "after an interruption the run resumes from the last state with identical results",
    }),
    keepStates: s.take("save.keep_states", given.keep_states, full ? 1 : 2, {
      note: (value) =>
        value === 1
          ? "if the state is damaged, there is no earlier one to resume from"
          : `${value} states on disk, ${value + 1} while one is written; \`from\` resumes from an earlier one`,
    }),
    keys: s.take("save.keys", given.keys, "musubi", {
      idle: full && 'only with train = "lora"',
      note: (value) =>
        value === "diffusers" || value === "diffsynth"
          ? "ComfyUI does not read these keys"
          : "ComfyUI reads these keys",
    }),
    dtype: s.take("save.dtype", given.dtype, full ? "f32" : "bf16"),
  };
  for (const [key, value] of Object.entries({ title, author, description, license, tags, comment }))
    if (value !== undefined) s.take(`save.${key}`, value, "");
  return { ...settings, title, author, description, license, tags, comment };
}
