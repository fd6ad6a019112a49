// Runs every golden fixture of a folder by its kind and reports how close we come. Knows no fixture by name.
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { isKinoraError, KinoraError } from "../../src/base/errors.ts";
import type { Device } from "../../src/device/device.ts";
import { type Check, Fixture, passes } from "./fixture.ts";
import { tae, vae21, vae22, vaeTiling, vaeTrain } from "./kinds/autoencoders.ts";
import { stepCache } from "./kinds/caches.ts";
import { ema } from "./kinds/ema.ts";
import { geometry, textClean, tokenizer, torchZip } from "./kinds/files.ts";
import { gguf } from "./kinds/gguf.ts";
import { guidance } from "./kinds/guidance.ts";
import {
  attentionGrad,
  conv3dGrad,
  geluTanhGrad,
  layerNormModulateGrad,
  rmsNormGrad,
  ropeGrad,
} from "./kinds/kernels.ts";
import { dit, loraApply, loraApplyWild, type Precision, umt5 } from "./kinds/networks.ts";
import { lossKind, timeSamplingMusubi } from "./kinds/objective.ts";
import { optimizerKinds } from "./kinds/optimizers.ts";
import { i2vMoe, t2vMoe, ti2v } from "./kinds/pipelines.ts";
import { quantComfy } from "./kinds/quantized.ts";
import { sampler } from "./kinds/samplers.ts";
import { scheduler } from "./kinds/schedulers.ts";
import { lrSchedule } from "./kinds/schedules.ts";
import { fullTrain, loraTrain } from "./kinds/training.ts";

export interface GoldenResult {
  file: string;
  kind: string;
  /** "skipped" in half precision, for kinds that pin float32 arithmetic. */
  status: "passed" | "failed" | "skipped";
  checks: Check[];
  problem?: string;
  seconds: number;
}

interface TensorKind {
  run(fixture: Fixture, device: Device, dtype: Precision): Promise<void>;
  /** Has a meaning in half precision. */
  half?: boolean;
}

const tensorKinds: Readonly<Record<string, TensorKind>> = {
  "attention-grad": { run: attentionGrad },
  "conv3d-grad": { run: conv3dGrad },
  "gelu-tanh-grad": { run: geluTanhGrad },
  "layernorm-modulate-grad": { run: layerNormModulateGrad },
  "rmsnorm-grad": { run: rmsNormGrad },
  "rope-grad": { run: ropeGrad },
  "dit-t2v": { run: dit, half: true },
  "dit-i2v": { run: dit, half: true },
  "dit-ti2v": { run: dit, half: true },
  "lora-apply": { run: loraApply, half: true },
  "lora-apply-wild": { run: loraApplyWild },
  umt5: { run: umt5, half: true },
  vae21: { run: vae21 },
  vae22: { run: vae22 },
  "vae-tiling": { run: vaeTiling },
  tae: { run: tae },
  "vae-train": { run: vaeTrain },
  "lora-train": { run: loraTrain },
  "full-train": { run: fullTrain },
  "scheduler-unipc": { run: scheduler("unipc") },
  "scheduler-dpmpp": { run: scheduler("dpm++") },
  "pipeline-t2v-moe": { run: t2vMoe, half: true },
  "pipeline-i2v-moe": { run: i2vMoe, half: true },
  "pipeline-ti2v-i2v": { run: ti2v, half: true },
  gguf: { run: gguf },
  "quant-comfy": { run: quantComfy },
  guidance: { run: guidance },
  sampler: { run: sampler },
  "step-cache": { run: stepCache },
  ...optimizerKinds,
  "lr-schedule": { run: lrSchedule },
  ema: { run: ema },
  loss: { run: lossKind },
  "time-sampling-musubi": { run: timeSamplingMusubi },
};

const jsonKinds: Readonly<Record<string, (path: string) => Promise<Check[]>>> = {
  geometry,
  "torch-zip": torchZip,
  "text-clean": textClean,
  tokenizer,
};

/** Half-precision products: the tolerance of every output. */
const HALF_TOLERANCE = 3e-2;

interface Entry {
  file: string;
  kind: string;
  /** Other files of the folder that this one names. */
  companions: string[];
}

/** What a file is; undefined for one that says nothing about itself. */
function describe(folder: string, file: string): Entry | undefined {
  const path = join(folder, file);
  if (file.endsWith(".safetensors")) {
    using fixture = new Fixture(path);
    const companions = Object.values(fixture.config).filter((value): value is string => typeof value === "string");
    return fixture.kind ? { file, kind: fixture.kind, companions } : undefined;
  }
  if (!file.endsWith(".json")) return undefined;
  const content = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
  if (typeof content.kind !== "string") return undefined;
  return { file, kind: content.kind, companions: Object.values(content).filter((value) => typeof value === "string") };
}

/** Every fixture of a folder, one result each; a file no fixture explains is a failure. */
export async function* runGolden(
  folder: string,
  device: Device,
  options: { dtype: Precision; only?: (file: string) => boolean },
): AsyncGenerator<GoldenResult> {
  const files = readdirSync(folder)
    .filter((file) => /\.(safetensors|json|pth|model)$/.test(file))
    .sort();
  const entries = files.flatMap((file) => describe(folder, file) ?? []);
  const named = new Set(entries.flatMap(({ file, companions }) => [file, ...companions]));
  // An input of a fixture may also begin with its name.
  const stems = entries.map(({ file }) => `${file.slice(0, file.lastIndexOf("."))}.`);
  const explained = (file: string) => named.has(file) || stems.some((stem) => file.startsWith(stem));
  for (const file of files) {
    if (!options.only?.(file) && options.only) continue;
    const entry = entries.find((candidate) => candidate.file === file);
    if (entry) yield await runEntry(folder, entry, device, options.dtype);
    else if (!explained(file)) {
      yield { file, kind: "?", status: "failed", checks: [], problem: "no kind, and no fixture names it", seconds: 0 };
    }
  }
}

async function runEntry(
  folder: string,
  { file, kind }: Entry,
  device: Device,
  dtype: Precision,
): Promise<GoldenResult> {
  const started = performance.now();
  const path = join(folder, file);
  const result = (status: GoldenResult["status"], checks: Check[], problem?: string): GoldenResult => ({
    file,
    kind,
    status,
    checks,
    ...(problem ? { problem } : {}),
    seconds: (performance.now() - started) / 1000,
  });
  try {
    const judge = (checks: Check[]) => result(checks.length > 0 && checks.every(passes) ? "passed" : "failed", checks);
    if (jsonKinds[kind]) return dtype === "bf16" ? result("skipped", []) : judge(await jsonKinds[kind](path));
    const known = tensorKinds[kind];
    if (!known) return result("failed", [], "unknown kind");
    if (dtype === "bf16" && !known.half) return result("skipped", []);
    using fixture = new Fixture(path, dtype === "bf16" ? HALF_TOLERANCE : undefined);
    const live = device.memory().live;
    await known.run(fixture, device, dtype);
    const checks = fixture.finish();
    const leaked = device.memory().live - live;
    if (leaked !== 0) throw new KinoraError("golden.leak", `${leaked} bytes are still in use afterwards`);
    return judge(checks);
  } catch (error) {
    const text = isKinoraError(error) ? `${error.code}: ${error.message}` : String((error as Error).stack ?? error);
    return result("failed", [], text);
  }
}

/** The largest error in units of its own tolerance. */
export function worst(checks: readonly Check[]): Check | undefined {
  const ratio = ({ error, tolerance }: Check) =>
    tolerance > 0 ? error / tolerance : error > 0 ? Number.POSITIVE_INFINITY : 0;
  return [...checks].sort((a, b) => ratio(b) - ratio(a))[0];
}

/** `file  kind  worst output error / tolerance  pass`: one line. */
export function line(result: GoldenResult): string {
  const { file, kind, status, checks, problem, seconds } = result;
  const head = `${status === "passed" ? "pass" : status === "failed" ? "FAIL" : "skip"}  ${basename(file).padEnd(40)} ${kind.padEnd(24)}`;
  if (problem) return `${head} ${problem}`;
  const far = worst(checks);
  if (!far) return `${head} pins float32 arithmetic`;
  const failed = checks.filter((check) => !passes(check));
  const more = failed.length > 1 ? ` and ${failed.length - 1} more` : "";
  return `${head} ${far.error.toExponential(1)} of ${far.tolerance.toExponential(0)} (${far.output}${more}, ${checks.length} outputs, ${seconds.toFixed(1)} s)`;
}
