// Publishes a LoRA: a checkpoint of a training run with everything its folder tells, or files from elsewhere with what
// their metadata says.
import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { defined } from "../../base/defined.ts";
import { isKinoraError, KinoraError } from "../../base/errors.ts";
import { fileOrFolder } from "../../io/files.ts";
import { describeLora, type LoraDescription } from "../../lora/describe.ts";
import { registryPublishContract } from "../../protocol/jobs/registry.ts";
import type { RegistryVersion } from "../../protocol/registry.ts";
import type { LogLine, SavedLine, ValidationLine } from "../../protocol/train-log.ts";
import { formatAddress, parseAddress } from "../../registry/address.ts";
import type { PublishedFile, Registry, VersionFacts } from "../../registry/registry.ts";
import { logName, readLog } from "../../train/run/run-log.ts";
import { readRunFacts } from "../../train/run/state.ts";
import { quickJob } from "../job.ts";
import { metadataFacts, runFacts } from "./facts.ts";
import { openStore } from "./open.ts";

type Facts = RegistryVersion["hyperparameters"];
type Checkpoint = "best" | "last" | number;

/** What is to be published, gathered before anything is stored. */
interface Gathered {
  files: PublishedFile[];
  facts: VersionFacts;
  notes: string[];
}

/** The most previews of a checkpoint that go along. */
const MOST_PREVIEWS = 12;

export const registryPublishJob = quickJob(registryPublishContract, async (request, { env, emit }) => {
  const { registry, store } = await openStore(request.store, env);
  const address = parseAddress(request.address);
  const gathered = await gather(request.files, request.checkpoint);
  const { triggerWords, strength, description, licence, tags } = request;
  const facts: VersionFacts = {
    ...gathered.facts,
    ...defined({ triggerWords, strength, description, licence, tags }),
  };
  await checkModel(registry, address, facts.model);
  const { version, manifest } = await registry.publish(address, gathered.files, facts, {
    why: request.why,
    stored: (done, of) => emit({ type: "stored", done, of }),
  });
  return { store, address: formatAddress(address), version, manifest, notes: gathered.notes };
});

async function gather(paths: readonly string[], checkpoint: Checkpoint | undefined): Promise<Gathered> {
  const [first, ...more] = paths;
  if (fileOrFolder(first!).kind === "folder" && existsSync(join(first!, logName))) {
    if (more.length > 0) {
      throw new KinoraError("registry.one-run", "only one run can be published at a time", {
        hint: "publish each separately",
      });
    }
    return gatherRun(first!, checkpoint);
  }
  if (checkpoint !== undefined) {
    throw new KinoraError("registry.no-run", "a checkpoint can only be chosen from a training run", {
      actual: `${first} has no ${logName}`,
      hint: "give the run's folder, or leave out the checkpoint",
    });
  }
  return gatherFiles(paths);
}

/** LoRA files from anywhere. Throws `lora.*`, `io.*`, `registry.two-loras`. */
function gatherFiles(paths: readonly string[]): Gathered {
  const notes: string[] = [];
  const described = paths.map((path) => ({ path, lora: describeLora(path) }));
  const files = described.map(({ path, lora }) => loraFile(path, lora, notes));
  const experts = files.map(({ expert }) => expert ?? "both");
  if (files.length > 1 && (files.length > 2 || new Set(experts).size < 2 || experts.includes("both"))) {
    throw new KinoraError("registry.two-loras", "these files are not the two experts of one LoRA", {
      expected: "one file, or one for the high-noise and one for the low-noise expert",
      actual: files.map(({ path }, i) => `${path} (${experts[i] === "both" ? "no expert" : experts[i]})`).join(", "),
      hint: "publish them under different names",
    });
  }
  return { files, facts: metadataFacts(described[0]!.lora), notes };
}

function loraFile(path: string, lora: LoraDescription, notes: string[]): PublishedFile {
  const { recognized, broken, idle, notes: told } = lora;
  if (broken.length > 0) {
    throw new KinoraError("registry.broken-lora", `${path} has NaN or infinite values`, {
      actual: broken.slice(0, 5).join(", "),
      hint: "kinora lora inspect FILE lists them",
    });
  }
  if (idle === recognized.modules.length) notes.push(`${path} has no effect: all of its changes are zero`);
  notes.push(...told);
  const expert = recognized.bothExperts ? "both" : recognized.expert;
  return { source: path, path: basename(path), role: "lora", ...(expert ? { expert } : {}) };
}

/** A checkpoint of a run, with its log, its previews and what its record says. Throws `registry.no-checkpoint`. */
async function gatherRun(run: string, checkpoint: Checkpoint = "last"): Promise<Gathered> {
  const log = readLog(run);
  const { saved, loss } = choose(run, log, checkpoint);
  const { files, facts, notes } = gatherFiles(saved.files.map((file) => join(run, file)));
  const previews = log
    .filter((line) => line.kind === "preview" && line.step === saved.step)
    .flatMap((line) => (line.kind === "preview" && existsSync(join(run, line.file)) ? [line.file] : []))
    .slice(0, MOST_PREVIEWS);
  const record = await readRunFacts(run);
  const last = log.findLast((line) => line.kind === "step" && line.step <= saved.step);
  const results: Facts = {
    step: saved.step,
    ...(loss === undefined ? {} : { "held-out loss": loss }),
    ...(last?.kind === "step" ? { "smoothed loss": last.smoothed, "seconds per step": last.seconds } : {}),
  };
  return {
    files: [
      ...files,
      ...previews.map((file): PublishedFile => ({ source: join(run, file), path: basename(file), role: "preview" })),
      { source: join(run, logName), path: logName, role: "run-log" },
    ],
    facts: { ...facts, ...runFacts(facts, record), results },
    notes,
  };
}

/** A save of the run whose files are still there. */
function choose(
  run: string,
  log: readonly LogLine[],
  checkpoint: Checkpoint,
): { saved: SavedLine; loss: number | undefined } {
  const there = new Map<number, SavedLine>();
  for (const line of log) {
    if (line.kind === "saved" && line.files.every((file) => existsSync(join(run, file)))) there.set(line.step, line);
  }
  const steps = [...there.keys()];
  const none = (message: string, hint: string) =>
    new KinoraError("registry.no-checkpoint", message, {
      expected: steps.length > 0 ? `one of the steps ${steps.join(", ")}` : "saved LoRA files",
      hint,
    });
  const lastStep = steps.at(-1);
  if (lastStep === undefined)
    throw none(`${run} has no saved LoRA`, "set [save] every_steps so that the run saves one");
  const step = checkpoint === "last" ? lastStep : checkpoint === "best" ? bestStep(log, steps) : checkpoint;
  if (step === undefined)
    throw none(`${run} has no held-out losses to choose by`, "set [validation] hold_out, or give a step");
  const saved = there.get(step);
  if (!saved) throw none(`${run} has no files of step ${step}`, "files of other steps are not kept");
  return { saved, loss: lossAt(log, step) };
}

/** Mean over the experts of the last validation up to a step. */
function lossAt(log: readonly LogLine[], step: number): number | undefined {
  const latest = new Map<string, ValidationLine>();
  for (const line of log) if (line.kind === "validation" && line.step <= step) latest.set(line.expert, line);
  if (latest.size === 0) return undefined;
  return [...latest.values()].reduce((sum, { loss }) => sum + loss, 0) / latest.size;
}

function bestStep(log: readonly LogLine[], steps: readonly number[]): number | undefined {
  let best: { step: number; loss: number } | undefined;
  for (const step of steps) {
    const loss = lossAt(log, step);
    if (loss !== undefined && (best === undefined || loss < best.loss)) best = { step, loss };
  }
  return best?.step;
}

/** A name's versions are for one model. Throws `registry.other-model`. */
async function checkModel(registry: Registry, address: ReturnType<typeof parseAddress>, model: string | undefined) {
  if (model === undefined) return;
  let before: string | undefined;
  try {
    const state = await registry.state(address);
    before = (await registry.version(address, [...state.versions.keys()].at(-1)!, state)).model;
  } catch (error) {
    if (isKinoraError(error) && error.code === "registry.unknown-name") return;
    throw error;
  }
  if (before === undefined || before === model) return;
  throw new KinoraError("registry.other-model", `${formatAddress(address)} is a LoRA for ${before}`, {
    expected: before,
    actual: model,
    hint: "publish it under another name",
  });
}
