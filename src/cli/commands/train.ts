// kinora train CONFIG.toml: trains, shows how it goes, stops and goes on.
import { join } from "node:path";
import { KinoraError } from "../../base/errors.ts";
import { formatBytes, formatCount, formatSeconds, plural } from "../../base/units.ts";
import type { EventOf, ResultOf } from "../../jobs/table.ts";
import { command } from "../command.ts";
import { follow, perform, STOPPED } from "../follow.ts";
import { parseWholeNumber } from "../parse.ts";
import { tellProbing, timeLeft } from "../progress.ts";
import type { Printer } from "../terminal.ts";

type Event = EventOf<"train">;

export const trainCommand = command({
  name: "train",
  usage: "CONFIG.toml | --init [CONFIG.toml]",
  options: {
    init: { type: "boolean", help: "write a commented starter configuration (run.toml) for the data next to it" },
    explain: {
      type: "boolean",
      help: "print every setting, where it comes from and what it implies, without training",
    },
    set: {
      type: "string",
      value: "KEY=VALUE",
      multiple: true,
      help: "override a setting, e.g. optimizer.learning_rate=2e-4",
    },
    from: {
      type: "string",
      value: "STEP",
      help: "resume from the state saved after this step, discarding later ones",
    },
  },
  details: `
A minimal configuration; docs/training.md lists every key:

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

Ctrl-C saves the state after the current step and stops; a second Ctrl-C stops immediately. The same command resumes
from the last state, bit for bit as if uninterrupted. The run folder holds the LoRA files, log.jsonl,
tensorboard/ and a report page, index.html.`,
  async run(values, positionals, out) {
    if (values.init) {
      const written = await perform(out, "init-run", {
        file: positionals.length === 0 ? "run.toml" : onlyFile(positionals),
      });
      out.answer(written, () => begun(written));
      return 0;
    }
    const request = { config: onlyFile(positionals), set: values.set.map(parseOverride) };
    if (values.explain) {
      const explained = await follow(out, "explain-run", request, {
        show: (event) => (event.type === "note" ? out.say(`note: ${event.text}`) : tellProbing(event.event, out)),
        until: () => "this file",
        stopped: () => ({ value: { end: "stopped" }, text: "stopped" }),
      });
      if (!explained) return STOPPED;
      out.answer(explained, () => explanation(explained));
      return 0;
    }
    const narrator = new Narrator(out);
    const from = values.from === undefined ? {} : { from: parseWholeNumber("--from", values.from) };
    const result = await follow(
      out,
      "train",
      { ...request, ...from },
      {
        show: narrator.show,
        until: narrator.until,
        stopped: narrator.closing,
      },
    );
    if (!result) return STOPPED;
    out.answer(result, () => finished(result));
    return 0;
  },
});

export function onlyFile(positionals: readonly string[]): string {
  const [file, ...rest] = positionals;
  if (file !== undefined && rest.length === 0) return file;
  throw new KinoraError("cli.bad-arguments", "no configuration file was given", {
    hint: "kinora train CONFIG.toml; kinora train --init writes one",
  });
}

export function parseOverride(text: string): { key: string; value: string } {
  const at = text.indexOf("=");
  if (at > 0) return { key: text.slice(0, at).trim(), value: text.slice(at + 1).trim() };
  throw new KinoraError("cli.bad-value", "--set is invalid", {
    expected: "KEY=VALUE",
    actual: text,
    hint: "e.g. --set optimizer.learning_rate=2e-4",
  });
}

function begun({ file, dataset, kind, model }: ResultOf<"init-run">): string {
  const data = kind === undefined ? `replace with your data folder: ${dataset}` : `trains ${model} on ${dataset}`;
  return `wrote ${file}: ${data}\nnext: kinora train ${file} --explain`;
}

function explanation({ settings, implied, dropped, warnings }: ResultOf<"explain-run">): string {
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
    "what they imply",
    ...implied.map((line) => `  ${line}`),
    ...(dropped.length > 0
      ? ["", "files that yield fewer items than requested", ...dropped.map((line) => `  ${line}`)]
      : []),
    ...(warnings.length > 0 ? ["", "worth a thought", ...warnings.map((line) => `  ${line}`)] : []),
  ].join("\n");
}

function finished({ steps, output, files, page, peakBytes }: ResultOf<"train">): string {
  const written = files.map((file) => `  ${join(output, file)}`).join("\n");
  const memory = peakBytes > 0 ? `, peak memory ${formatBytes(peakBytes)}` : "";
  return `finished ${plural(steps, "step")}${memory}\n${written}\n  ${join(output, page)}`;
}

/** A step count that seems off has its reason here. */
function lostLines({ files, first }: Extract<Event, { type: "ready" }>["lost"]): string[] {
  if (files === 0) return [];
  const more = files - first.length;
  return [
    `note: ${plural(files, "file")} of the dataset yielded fewer items than requested`,
    ...first.map(({ name, reason }) => `  ${name}: ${reason}`),
    ...(more > 0 ? [`  and ${more} more; --explain lists them`] : []),
  ];
}

/** Turns events into lines and a progress line. */
export class Narrator {
  readonly #out: Pick<Printer, "say" | "progress">;
  #experts = false;
  #since = Date.now();
  #made = 0;
  /** What is under way. */
  #piece = "this file";
  #stopped: Extract<Event, { type: "stopped" }> | undefined;

  constructor(out: Pick<Printer, "say" | "progress">) {
    this.#out = out;
  }

  readonly until = (): string => this.#piece;

  /** What is said of a run that was stopped. */
  readonly closing = (atOnce: boolean): { value: unknown; text: string } => {
    const { step, steps, output } = this.#stopped ?? {};
    const goOn = "run the same command again to continue";
    if (step !== undefined)
      return {
        value: { end: "stopped", step, steps, output },
        text: `stopped after step ${step} of ${steps}; ${goOn}`,
      };
    const kept = atOnce ? "stopped; saved work is kept" : "stopped; cached and saved work is kept";
    return { value: { end: "stopped" }, text: `${kept}, and ${goOn}` };
  };

  #of(expert: string): string {
    return this.#experts ? ` (${expert}-noise expert)` : "";
  }

  readonly show = (event: Event): void => {
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
        const { items, heldOut, steps, batchesPerEpoch, resumed } = event;
        this.#experts = event.experts;
        this.#piece = "this step";
        const held = heldOut > 0 ? `, ${heldOut} held out` : "";
        const batches = plural(batchesPerEpoch, "batch", "batches");
        out.say(`${plural(items, "item")}${held}, ${batches} per epoch, ${plural(steps, "step")}`);
        for (const line of lostLines(event.lost)) out.say(line);
        for (const warning of event.warnings) out.say(`note: ${warning}`);
        if (resumed > 0) out.say(resumed === steps ? "all steps are already done" : `resuming from step ${resumed}`);
        return;
      }
      case "loading":
        this.#piece = "loading the model";
        out.progress(`loading the transformer${this.#of(event.expert)}`);
        return;
      case "loaded":
        this.#piece = "this step";
        out.say(
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
        out.progress(`validating on ${event.items} held-out items`);
        return;
      case "validation": {
        const bands = event.line.bands.map(({ sigma, loss }) => `σ ${sigma.toFixed(2)}: ${loss.toFixed(4)}`).join("  ");
        out.say(
          `step ${event.line.step}: held-out loss ${event.line.loss.toFixed(5)}${this.#of(event.line.expert)}  ${bands}`,
        );
        return;
      }
      case "previewing":
        out.progress(`making ${plural(event.prompts, "preview")}: step ${event.done} of ${event.of}`);
        return;
      case "preview":
        out.say(`step ${event.line.step}: preview ${event.line.file}`);
        return;
      case "saved":
        out.say(`step ${event.step}: saved ${event.files.join(", ")}`);
        return;
      case "state":
        return;
      case "stopped":
        this.#stopped = event;
        return;
      case "note":
        out.say(`note: ${event.text}`);
    }
  };

  #cache(event: Extract<Event, { type: "cache" }>["event"]): void {
    if (event.type === "cut") {
      this.#out.say(`note: ${event.warning}`);
      return;
    }
    this.#piece = event.kind === "latents" ? "this clip" : "this text";
    const what = event.kind === "latents" ? "latents" : "text embeddings";
    if (event.type === "damaged") {
      this.#out.say(`note: the cached ${what} of ${event.name} were damaged and will be rebuilt`);
      return;
    }
    if (event.type === "looked") {
      this.#out.progress(`looking for cached ${what}: ${event.done} of ${event.of}`);
      return;
    }
    if (event.done === 0) {
      this.#since = Date.now();
      this.#made = event.of;
      if (event.reused > 0) this.#out.say(`${event.reused} ${what} reused from the cache, ${event.of} to encode`);
      return;
    }
    const left = timeLeft(this.#since, event.done, this.#made);
    this.#out.progress(`caching ${what}: ${event.done} of ${event.of}${left}`);
  }
}
