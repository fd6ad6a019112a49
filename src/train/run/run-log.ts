// A run's log on disk: log.jsonl, TensorBoard events, and all lines so far for the run page.
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { isKinoraError, KinoraError } from "../../base/errors.ts";
import { makeFolder, writeError, writeFileAtomic } from "../../io/atomic.ts";
import { readPlainFileSync } from "../../io/files.ts";
import { insideFolder } from "../../io/inside.ts";
import { readBackText } from "../../io/read-back.ts";
import { EventWriter } from "../../io/tensorboard.ts";
import { type LogLine, logLineSchema } from "../../protocol/train-log.ts";

export const logName = "log.jsonl";

/** The largest log that is read: nearly a million steps. */
const MOST_BYTES = 2 ** 28;

/**
 * The lines of a log; the last one is passed over where a kill cut it off.
 * @throws KinoraError `train.bad-log` naming a line that is none, or that names a file outside the folder; `io.*`.
 */
export function readLog(output: string): LogLine[] {
  const path = join(output, logName);
  const bad = (what: string, hint: string, actual?: string) =>
    new KinoraError("train.bad-log", `${path} ${what}`, { hint, ...(actual === undefined ? {} : { actual }) });
  let lines: string[];
  try {
    lines = readPlainFileSync(path, MOST_BYTES).toString("utf8").split("\n");
  } catch (error) {
    if (isKinoraError(error, "io.not-found")) return [];
    const what = isKinoraError(error, "io.not-a-file") ? "is not a regular file" : undefined;
    if (what === undefined && !isKinoraError(error, "io.too-large")) throw error;
    throw bad(what ?? "is far too large", "move it away: training does not depend on it");
  }
  const hint = "remove that line: training does not depend on it";
  const last = lines.findLastIndex((line) => line !== "");
  return lines.flatMap((text, i) => {
    if (text === "") return [];
    const read = readBackText(text, logLineSchema);
    if (read.state !== "read") {
      if (i === last) return [];
      throw bad(`is damaged in line ${i + 1}: ${text.slice(0, 60)}`, hint, "why" in read ? read.why : undefined);
    }
    const line = read.value;
    const files = line.kind === "saved" ? line.files : line.kind === "preview" ? [line.file] : [];
    for (const file of files) {
      insideFolder(output, file, { code: "train.bad-log", file: `${path}, line ${i + 1},`, hint });
    }
    return [line];
  });
}

export class RunLog implements Disposable {
  readonly lines: LogLine[];
  readonly #path: string;
  readonly #events: EventWriter;
  readonly #experts: boolean;

  private constructor(path: string, lines: LogLine[], events: EventWriter, experts: boolean) {
    this.#path = path;
    this.lines = lines;
    this.#events = events;
    this.#experts = experts;
  }

  /**
   * @param step steps done: what a run that is gone on from wrote beyond them is dropped, since it will come again;
   *   `keep` decides about the lines of that very step
   * @param experts whether there are two, whose curves are then told apart
   */
  static async open(output: string, step: number, keep: (line: LogLine) => boolean, experts: boolean): Promise<RunLog> {
    const folder = join(output, "tensorboard");
    await makeFolder(folder);
    const isKept = (line: LogLine) => line.step < step || (line.step === step && keep(line));
    // A run that begins has no use for an older log, whatever is in it.
    const lines = step === 0 ? [] : readLog(output).filter(isKept);
    const path = join(output, logName);
    await writeFileAtomic(path, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
    return new RunLog(path, lines, new EventWriter(folder, step + 1), experts);
  }

  add(line: LogLine): void {
    this.lines.push(line);
    try {
      appendFileSync(this.#path, `${JSON.stringify(line)}\n`);
    } catch (error) {
      throw writeError(error, this.#path);
    }
    const scalars = scalarsOf(line, this.#experts);
    if (Object.keys(scalars).length > 0) this.#events.scalars(line.step, scalars);
  }

  [Symbol.dispose](): void {
    this.#events[Symbol.dispose]();
  }
}

/** The names that kohya's tools use, so that runs of both can be laid over each other. */
function scalarsOf(line: LogLine, experts: boolean): Record<string, number> {
  switch (line.kind) {
    case "step":
      return {
        "loss/current": line.loss,
        // Each expert has its own level: one average of both would only tell which of them trains.
        ...(experts
          ? { [`loss/${line.expert}`]: line.loss, [`loss/average_${line.expert}`]: line.smoothed }
          : { "loss/average": line.smoothed }),
        "lr/unet": line.learningRate,
        "norm/gradient": line.gradientNorm,
        "time/seconds_per_step": line.seconds,
        "memory/peak_bytes": line.peakBytes,
      };
    case "validation": {
      const name = experts ? `validation/${line.expert}` : "validation/loss";
      const bands = line.bands.map(({ sigma, loss }) => [`${name}/sigma_${sigma.toFixed(3)}`, loss]);
      return Object.fromEntries([[name, line.loss], ...bands]);
    }
    default:
      return {};
  }
}
