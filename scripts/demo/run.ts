// The whole demo: its stages one after the other, each of which takes what is there already.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { KinoraError } from "../../src/base/errors.ts";
import { finished } from "../../src/base/generators.ts";
import { formatSeconds } from "../../src/base/units.ts";
import type { Output } from "../../src/cli/terminal.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { cacheFolder, HashCache } from "../../src/io/content-hash.ts";
import { FileLock } from "../../src/io/file-lock.ts";
import { type CheckpointFiles, findCheckpointFiles } from "../../src/models/wan/checkpoint-files.ts";
import { tokenizerFile } from "../../src/models/wan/prompt.ts";
import { scoreTable } from "../tiny/analyser/score.ts";
import { drawClips } from "./draw.ts";
import { generateVideos } from "./generate.ts";
import { type Measures, measureVideos } from "./measure.ts";
import { writeReport } from "./report.ts";
import { type DemoSettings, demoFiles, model } from "./settings.ts";
import { type Stage, WorkLog } from "./stage.ts";
import { trainStyle } from "./train.ts";

/**
 * Runs what is not done yet, and prints the table. Another run with the same settings reuses everything.
 * Throws the signal's reason where it was stopped, `checkpoint.missing`, and what training and generating throw.
 */
export async function runDemo(
  settings: DemoSettings,
  { out, signal }: { out: Output; signal: AbortSignal },
): Promise<Measures> {
  const started = Date.now();
  const { folder, checkpoint } = settings;
  const files = findCheckpointFiles(model, { folder: checkpoint });
  await mkdir(folder, { recursive: true });
  using _lock = FileLock.take(join(folder, ".lock"), {
    code: "demo.locked",
    message: `another demo is at work in ${folder}`,
    instead: "choose another folder",
  });
  const hashes = new HashCache(cacheFolder(process.env));
  const weights = await contentOf(files, hashes);
  const opened = await openDevice("auto");
  using device = opened.device;
  if (opened.note) out.note(`note: ${opened.note}`);
  const work = new WorkLog(demoFiles(folder).work);
  const stage = (name: string): Stage => {
    out.note(name);
    return { settings, device, hashes, signal, work, out: indented(out, name) };
  };
  const clips = await drawClips(stage("1/5 drawing the clips"));
  const training = await trainStyle(stage("2/5 training the LoRA"), clips, weights);
  const pairs = await generateVideos(stage("3/5 generating with and without it"), training.loras);
  const measures = await measureVideos(stage("4/5 measuring"), pairs);
  stage("5/5 the report");
  await writeReport({ settings, clips, training, measures, work, device: device.name });
  out.data(
    scoreTable({
      "without the LoRA": measures.pairs.map(({ scores }) => scores.without),
      "with the LoRA": measures.pairs.map(({ scores }) => scores.with),
    }),
  );
  out.note(`done in ${formatSeconds((Date.now() - started) / 1000)}: ${demoFiles(folder).report}`);
  return measures;
}

/** The content hash of every network, by role: other weights ask for other training. */
async function contentOf(files: CheckpointFiles, hashes: HashCache): Promise<Record<string, string>> {
  const { high, low, vae, textEncoder } = files;
  const roles = { high, low, vae, textEncoder, tokenizer: await tokenizerFile(files.tokenizer) };
  const weights: Record<string, string> = {};
  for (const [role, path] of Object.entries(roles)) if (path) weights[role] = await finished(hashes.hash(path));
  return weights;
}

/** Throws `demo.missed` naming every goal that the figures miss. */
export function checkGoals({ goals }: Pick<Measures, "goals">): void {
  const missed = goals.filter(({ met }) => !met);
  if (missed.length === 0) return;
  throw new KinoraError("demo.missed", "the LoRA was trained, but the figures miss their goals", {
    actual: missed.map(({ what, got, wanted }) => `${what}: ${got} (wanted ${wanted})`).join("; "),
    hint: "the report shows every video; more steps may help (--steps)",
  });
}

/** A stage's words under its heading, its progress behind its name. */
const indented = (out: Output, name: string): Output => ({
  data: out.data,
  note: (text) => out.note(`    ${text}`),
  progress: (text) => out.progress(`${name}: ${text}`),
});
