// A run's log on disk: log.jsonl, TensorBoard events, and all lines so far for the run page.
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { makeFolder, writeError, writeFileAtomic } from "../../io/atomic.ts";
import { EventWriter } from "../../io/tensorboard.ts";
import { type LogLine, logLineSchema } from "../../protocol/train-log.ts";

export const logName = "log.jsonl";

/** The lines of a log; a line that a kill cut off is passed over. */
export function readLog(output: string): LogLine[] {
  const path = join(output, logName);
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8")
    .split("\n")
    .flatMap((line) => {
      try {
        const parsed = logLineSchema.safeParse(JSON.parse(line));
        return parsed.success ? [parsed.data] : [];
      } catch {
        return [];
      }
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
    const lines = readLog(output).filter(isKept);
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
