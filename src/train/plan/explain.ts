// What a configuration comes to, before anything is loaded: its settings, and what they imply for this dataset.
import { formatPercent, plural } from "../../base/units.ts";
import { cutTexts } from "../../cache/texts.ts";
import { bucketsOf } from "../../dataset/batches.ts";
import type { DatasetPlan } from "../../dataset/dataset-plan.ts";
import { searchCheckpoint } from "../../models/wan/checkpoint-files.ts";
import { openTokenizer, tokenizerFile } from "../../models/wan/prompt.ts";
import type { ExplainedSetting, TrainSettings } from "../config/settings.ts";
import { learningRateAt, scheduleOf, warmupWarning } from "../optimizers/schedules/index.ts";
import { type DataEvent, planItems, type SplitItems } from "../run/data.ts";
import { stepsOf } from "../run/epochs.ts";
import { expertCounts } from "../run/expert-order.ts";
import { captionTexts, previewTexts } from "../run/texts.ts";
import { cutWarning, datasetWarnings } from "../run/warnings.ts";
import { expertRange, shareOf } from "../step/timesteps.ts";
import { rolesOf } from "./readiness.ts";

/** Every setting of a run, and what follows from them. */
export interface ExplainedRun {
  settings: ExplainedSetting[];
  /** A line each. */
  implied: string[];
  /** Files that give less than they were asked for, and why. */
  dropped: string[];
  /** What may not be meant, a line each. */
  warnings: string[];
}

/** Looks at the dataset's files. Throws as planning does. */
export async function* explainRun(
  settings: TrainSettings,
  explained: readonly ExplainedSetting[],
): AsyncGenerator<DataEvent, ExplainedRun> {
  const { plan, items } = yield* planItems(settings);
  return {
    settings: [...explained],
    implied: [...fileLines(settings), ...datasetLines(settings), ...impliedLines(settings, plan, items)],
    dropped: plan.drops.map(({ name, reason, items: lost }) => `${name}: ${reason}${lost > 0 ? ` (−${lost})` : ""}`),
    warnings: [...datasetWarnings(plan), ...(await textWarnings(settings, items)), ...warmupWarnings(settings, items)],
  };
}

/** Which texts the model will not read to their end; nothing where there is no tokenizer to count with. */
async function textWarnings(settings: TrainSettings, { train, heldOut }: SplitItems): Promise<string[]> {
  const { tokenizer } = searchCheckpoint(settings.model, settings.files).paths;
  if (tokenizer === undefined) return [];
  const texts = [...captionTexts(settings, [...train, ...heldOut]), ...previewTexts(settings)];
  const length = settings.model.dit.textLength;
  const cut = await cutTexts(texts, async () => openTokenizer(await tokenizerFile(tokenizer)), length);
  return cut.length > 0 ? [cutWarning(cut, length)] : [];
}

function warmupWarnings(settings: TrainSettings, { train }: SplitItems): string[] {
  const warning = warmupWarning(scheduleOf(settings, stepsOf(settings, train).steps));
  return warning === undefined ? [] : [warning];
}

/** Which files were found for the run. */
function fileLines(settings: TrainSettings): string[] {
  const files = searchCheckpoint(settings.model, settings.files);
  const roles = rolesOf(settings, { previews: settings.preview !== undefined });
  return roles.map((role) => `${files.nameOf(role).replace(/^the /, "")}: ${files.paths[role] ?? "NOT FOUND"}`);
}

/** The datasets of a configuration of their own; a folder's settings are among the run's. */
function datasetLines({ dataset }: TrainSettings): string[] {
  if (dataset.file === undefined) return [];
  return dataset.datasets.map((section) => {
    const { video, media, resolution, batchSize, repeats, trigger } = section;
    const windows =
      video.extraction === "full"
        ? `whole clips of at most ${video.maxFrames ?? "the model's"} frames`
        : `${video.extraction} of ${video.lengths.join(", ")} frames`;
    const parts = [
      resolution ? resolution.join("x") : "as it was prepared",
      section.enableBucket ? `buckets${section.bucketNoUpscale ? " without enlarging" : ""}` : "one size",
      ...(media.videos ? [windows] : []),
      `batches of ${batchSize}`,
      `repeated ${plural(repeats, "time")}`,
      ...(trigger === undefined ? [] : [`captions begin with ${JSON.stringify(trigger)}`]),
    ];
    return `dataset ${section.index + 1}, ${section.path}: ${parts.join("; ")}`;
  });
}

const rate = (value: number): string => value.toExponential(2);

function impliedLines(settings: TrainSettings, plan: DatasetPlan, { train, heldOut }: SplitItems): string[] {
  const { boundary, optimizer, lora, kind, experts, time } = settings;
  const { steps, batchesPerEpoch } = stepsOf(settings, train);
  const stepsPerEpoch = batchesPerEpoch / optimizer.accumulation;
  const lines: string[] = [];
  if (kind === "lora")
    lines.push(
      `adapters act at alpha/rank = ${lora.alpha}/${lora.rank} = ${Number((lora.alpha / lora.rank).toPrecision(6))}`,
    );
  const files = new Set(train.map(({ file }) => file)).size;
  const repeated = train.reduce((sum, { repeats }) => sum + repeats, 0);
  lines.push(
    `${plural(files, "file")} give ${plural(train.length, "item")}, ${repeated} per epoch with repeats, in ${plural(batchesPerEpoch, "batch", "batches")}`,
  );
  for (const { dataset, bucket, items } of bucketsOf(train)) {
    const size = plan.datasets[dataset]!.section.batchSize;
    const name = plan.datasets.length > 1 ? `dataset ${dataset + 1}, ` : "";
    lines.push(
      `  ${name}${bucket.width}x${bucket.height}x${bucket.frames}: ${plural(items.length, "item")} in ${plural(Math.ceil(items.length / size), "batch", "batches")} of up to ${size}`,
    );
  }
  if (heldOut.length > 0) {
    const names = [...new Set(heldOut.map(({ name }) => name))];
    lines.push(
      `held out: ${plural(names.length, "file")}, ${plural(heldOut.length, "item")} (${names.slice(0, 5).join(", ")}${names.length > 5 ? ", …" : ""})`,
    );
  }
  lines.push(
    `${steps} steps; ${Number(stepsPerEpoch.toFixed(2))} steps per epoch; ${Number((steps / stepsPerEpoch).toFixed(2))} epochs`,
  );
  if (boundary !== undefined) {
    const share = shareOf(time, expertRange("high", boundary));
    lines.push(
      `the time sampling alone would give the high-noise expert (σ ≥ ${boundary}) ${formatPercent(share)} of the draws`,
    );
    const counts = expertCounts(experts, steps);
    lines.push(
      experts.train.length > 1
        ? `${counts.high} steps (${formatPercent(counts.high / steps)}) train the high-noise expert, ${counts.low} (${formatPercent(counts.low / steps)}) the low-noise one, with ${plural(counts.switches, "change")} between them`
        : `all ${steps} steps train the ${experts.train[0]}-noise expert`,
    );
  }
  const schedule = scheduleOf(settings, steps);
  const at = [0, schedule.warmup, Math.floor(steps / 2), steps - 1];
  const rates = [...new Set(at)]
    .filter((step) => step < steps)
    .sort((a, b) => a - b)
    .map((step) => `${rate(learningRateAt(schedule, step, optimizer.learningRate))} at step ${step + 1}`);
  lines.push(`learning rate: ${rates.join(", ")}`);
  return lines;
}
