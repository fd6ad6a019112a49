// Lays out a dataset's epoch without training: reads its configuration and looks into its files.
import { stat } from "node:fs/promises";
import { folderConfig, readDatasetConfig } from "../dataset/config.ts";
import { planDataset } from "../dataset/dataset-plan.ts";
import { inspectionPage } from "../dataset/html-report.ts";
import { inspection } from "../dataset/inspection.ts";
import { probeMedia } from "../dataset/probe.ts";
import { planWarnings } from "../dataset/warnings.ts";
import { writeFileAtomic } from "../io/atomic.ts";
import { cleanText } from "../io/text-clean/index.ts";
import { loadTokenizer } from "../io/tokenizer/load.ts";
import { inspectDatasetContract } from "../protocol/jobs/inspect-dataset.ts";
import { job, type Work } from "./job.ts";

export const inspectDatasetJob = job(inspectDatasetContract, async function* (request, { signal }): Work<
  typeof inspectDatasetContract
> {
  const { config: path, model, html } = request;
  const isFolder = await stat(path).then(
    (info) => info.isDirectory(),
    () => false,
  );
  const config = isFolder ? folderConfig(path) : await readDatasetConfig(path);
  const tokenizer = request.tokenizer === undefined ? undefined : await loadTokenizer(request.tokenizer);
  const plan = yield* planDataset(config, probeMedia, { signal, ...(model === undefined ? {} : { model }) });
  const warnings = planWarnings(
    plan,
    // As the text encoder gets them: cleaned first.
    tokenizer ? { countTokens: (text) => tokenizer.encode(cleanText(text)).length } : {},
  );
  const data = inspection(plan, warnings);
  if (html !== undefined) await writeFileAtomic(html, inspectionPage(data));
  return data;
});
