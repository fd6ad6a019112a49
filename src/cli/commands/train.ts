// kinora train CONFIG.toml: trains, shows how it goes, stops and goes on.
import { join } from "node:path";
import { KinoraError } from "../../base/errors.ts";
import { finished } from "../../base/generators.ts";
import { formatBytes, formatCount, formatSeconds, plural } from "../../base/units.ts";
import type { DatasetPlan } from "../../dataset/dataset-plan.ts";
import { openDevice } from "../../device/open-device.ts";
import { cacheFolder, HashCache } from "../../io/content-hash.ts";
import { makeFilms } from "../../sample/films.ts";
import { type Override, readTrainConfig, type SettledConfig } from "../../train/config/read.ts";
import { type ExplainedRun, explainRun } from "../../train/plan/explain.ts";
import type { TrainEvent, TrainResult } from "../../train/run/events.ts";
import { train } from "../../train/run/loop.ts";
import { pageName } from "../../train/run/run-page.ts";
import { cutWarning, datasetWarnings } from "../../train/run/warnings.ts";
import { command, noteOn, type Output } from "../command.ts";
import { Interrupt } from "../interrupt.ts";
import { tellProbing, timeLeft } from "../progress.ts";

export const trainCommand = command({
  name: "train",
  summary: "train a LoRA, or a whole model, from one configuration file; the same command goes on after a stop",
  usage: "CONFIG.toml",
  options: {
    explain: {
      type: "boolean",
      help: "print every effective setting, where it came from and what it implies; train nothing",
    },
    set: {
      type: "string",
      value: "KEY=VALUE",
      multiple: true,
      help: "a setting that comes before the file's, e.g. optimizer.learning_rate=2e-4",
    },
  },
  details: `
A small configuration; docs/training.md has every key:

  dataset = "clips"            # a prepared folder, clips with .txt captions, or a (musubi) dataset TOML
  steps = 1000                 # or epochs = 10

  [model]
  name = "t2v-A14B"
  checkpoint = "Wan2.2-T2V-A14B"
  base = "fp8"                 # f32, bf16, fp8

  [lora]
  rank = 32                    # alpha = rank unless given

  [validation]
  hold_out = 2                 # files that never train

  [preview]
  prompts = "prompts.txt"      # musubi's prompt file

Ctrl-C ends the run after the step under way and saves its state; once more ends it at once. It is heard between the
batches of a step. The same command goes on from the last state, with the same numbers as an unbroken run. The run's
folder holds the LoRA files, log.jsonl, tensorboard/ and ${pageName}.`,
  async run(values, positionals, out) {
    const config = await readTrainConfig(onlyFile(positionals), values.set.map(parseOverride));
    for (const note of config.notes) noteOn(out, values.json)(`note: ${note}`);
    if (values.explain) {
      const explained = await explain(config, out);
      out.data(values.json ? JSON.stringify(explained, null, 2) : explanation(explained));
      return 0;
    }
    return runTraining(config, values.json, out);
  },
});

export function onlyFile(positionals: readonly string[]): string {
  const [file, ...rest] = positionals;
  if (file !== undefined && rest.length === 0) return file;
  throw new KinoraError("cli.bad-arguments", "one configuration file is needed", { hint: "kinora train CONFIG.toml" });
}

export function parseOverride(text: string): Override {
  const at = text.indexOf("=");
  if (at > 0) return { key: text.slice(0, at).trim(), value: text.slice(at + 1).trim() };
  throw new KinoraError("cli.bad-value", "--set is wrong", {
    expected: "KEY=VALUE",
    actual: text,
    hint: "e.g. --set optimizer.learning_rate=2e-4",
  });
}

async function explain({ settings, explained }: SettledConfig, out: Output): Promise<ExplainedRun> {
  return finished(explainRun(settings, explained), (event) => {
    if (event.type === "dataset") tellProbing(event.event, out);
  });
}

function explanation({ settings, implied, dropped, warnings }: ExplainedRun): string {
  const width = Math.max(...settings.map(({ key }) => key.length));
  const value = Math.min(40, Math.max(...settings.map((row) => row.value.length)));
  const lines = settings.map(({ key, value: text, from, note, idle }) => {
    const words = [idle && `NO EFFECT: ${idle}`, note].filter(Boolean).join("; ");
    return `  ${key.padEnd(width)}  ${text.padEnd(value)}  ${from.padEnd(7)}${words ? `  ${words}` : ""}`.trimEnd();
  });
  return [
    "settings",
    ...lines,
    "",
    "what follows from them",
    ...implied.map((line) => `  ${line}`),
    ...(dropped.length > 0
      ? ["", "files that give less than they were asked for", ...dropped.map((line) => `  ${line}`)]
      : []),
    ...(warnings.length > 0 ? ["", "worth a thought", ...warnings.map((line) => `  ${line}`)] : []),
  ].join("\n");
}

async function runTraining({ settings, device: choice }: SettledConfig, json: boolean, out: Output): Promise<number> {
  const opened = await openDevice(choice);
  const note = noteOn(out, json);
  if (opened.note) note(`note: ${opened.note}`);
  using device = opened.device;
  using interrupt = new Interrupt(() => note("stopping after this step; once more ends at once"));
  try {
    const hashes = new HashCache(cacheFolder(process.env));
    const run = train(settings, { device, hashes, signal: interrupt.signal, preview: makeFilms });
    const show = json
      ? (event: TrainEvent) => out.note(JSON.stringify(jsonEvent(event)))
      : new Narrator(out, settings.model.boundary !== undefined).show;
    const result = await finished(run, show);
    out.data(json ? JSON.stringify(result) : closing(result));
    return result.end === "stopped" ? 130 : 0;
  } catch (error) {
    if (interrupt.signal.aborted && (error as Error).name === "AbortError") {
      note("stopped; what was cached and saved stays, and the same command goes on");
      return 130;
    }
    throw error;
  }
}

/** The plan of a dataset is long; machines ask `kinora dataset inspect` for it. */
function jsonEvent(event: TrainEvent): unknown {
  if (event.type !== "ready") return event;
  const { type, plan, steps, batchesPerEpoch, resumed, items } = event;
  return {
    type,
    steps,
    batchesPerEpoch,
    resumed,
    items: items.train.length,
    heldOut: items.heldOut.length,
    warnings: datasetWarnings(plan),
  };
}

function closing({ end, step, steps, output, files, peakBytes }: TrainResult): string {
  if (end === "stopped") return `stopped after step ${step} of ${steps}; the same command goes on`;
  const written = files.map((file) => `  ${join(output, file)}`).join("\n");
  const memory = peakBytes > 0 ? `, peak memory ${formatBytes(peakBytes)}` : "";
  return `finished ${plural(steps, "step")}${memory}\n${written}\n  ${join(output, pageName)}`;
}

/** Files that give less than they were asked for: a step count that seems off has its reason here. */
function lost(plan: DatasetPlan): string[] {
  const drops = plan.drops.filter(({ items }) => items > 0);
  if (drops.length === 0) return [];
  const files = new Set(drops.map(({ file }) => file)).size;
  const shown = drops.slice(0, 5).map(({ name, reason }) => `  ${name}: ${reason}`);
  return [
    `note: ${plural(files, "file")} of the dataset give less than they were asked for`,
    ...shown,
    ...(drops.length > shown.length ? [`  and ${drops.length - shown.length} more; --explain lists them`] : []),
  ];
}

/** Turns events into lines and a progress line. */
export class Narrator {
  readonly #out: Output;
  readonly #experts: boolean;
  #since = Date.now();
  #made = 0;

  /** `experts`: the model has two, which are then told apart. */
  constructor(out: Output, experts: boolean) {
    this.#out = out;
    this.#experts = experts;
  }

  #of(expert: string): string {
    return this.#experts ? ` (${expert}-noise expert)` : "";
  }

  readonly show = (event: TrainEvent): void => {
    const out = this.#out;
    switch (event.type) {
      case "dataset":
        tellProbing(event.event, out);
        return;
      case "hashing":
        out.progress(`hashing ${event.path}: ${Math.floor((100 * event.bytesDone) / event.bytesTotal)} %`);
        return;
      case "cache":
        this.#cache(event.event);
        return;
      case "ready": {
        const { plan, items, steps, batchesPerEpoch, resumed } = event;
        const held = items.heldOut.length > 0 ? `, ${items.heldOut.length} held out` : "";
        const batches = plural(batchesPerEpoch, "batch", "batches");
        out.note(`${plural(items.train.length, "item")}${held}, ${batches} an epoch, ${plural(steps, "step")}`);
        for (const line of lost(plan)) out.note(line);
        for (const warning of datasetWarnings(plan)) out.note(`note: ${warning}`);
        if (resumed > 0) out.note(resumed === steps ? "all steps are done" : `going on from step ${resumed}`);
        return;
      }
      case "loading":
        out.progress(`loading the transformer${this.#of(event.expert)}`);
        return;
      case "loaded":
        out.note(
          `${formatCount(event.parameters)} parameters train in ${event.tensors} tensors${this.#of(event.expert)}`,
        );
        return;
      case "step": {
        const { line, steps, left } = event;
        const parts = [
          `step ${line.step}/${steps}`,
          `loss ${line.loss.toFixed(4)} (${line.smoothed.toFixed(4)})`,
          `lr ${line.learningRate.toExponential(2)}`,
          `norm ${line.gradientNorm.toPrecision(3)}`,
          `${line.seconds.toPrecision(3)} s/step`,
          `${formatSeconds(left)} left`,
          formatBytes(line.peakBytes),
        ];
        out.progress(parts.join("  "));
        return;
      }
      case "validating":
        out.progress(`judging ${event.items} held-out items`);
        return;
      case "validation": {
        const bands = event.line.bands.map(({ sigma, loss }) => `σ ${sigma.toFixed(2)}: ${loss.toFixed(4)}`).join("  ");
        out.note(
          `step ${event.line.step}: held-out loss ${event.line.loss.toFixed(5)}${this.#of(event.line.expert)}  ${bands}`,
        );
        return;
      }
      case "previewing":
        out.progress(`preview ${event.index + 1} of ${event.prompts}: step ${event.done} of ${event.of}`);
        return;
      case "preview":
        out.note(`step ${event.line.step}: preview ${event.line.file}`);
        return;
      case "saved":
        out.note(`step ${event.step}: saved ${event.files.join(", ")}`);
        return;
      case "state":
        return;
      case "note":
        out.note(`note: ${event.text}`);
    }
  };

  #cache(event: Extract<TrainEvent, { type: "cache" }>["event"]): void {
    if (event.type === "cut") {
      this.#out.note(`note: ${cutWarning(event.texts, event.length)}`);
      return;
    }
    const what = event.kind === "latents" ? "latents" : "text embeddings";
    if (event.type === "looked") {
      this.#out.progress(`looking for cached ${what}: ${event.done} of ${event.of}`);
      return;
    }
    if (event.done === 0) {
      this.#since = Date.now();
      this.#made = event.of;
      if (event.reused > 0) this.#out.note(`${event.reused} ${what} reused from the cache, ${event.of} to make`);
      return;
    }
    const left = timeLeft(this.#since, event.done, this.#made);
    this.#out.progress(`caching ${what}: ${event.done} of ${event.of}${left}`);
  }
}
