// The metadata strings that kohya's tools (and what reads their files) expect of a LoRA, and its two hashes.
// Values are spelled as Python's str() spells them, so that tools which parse them back find what they know.
// musubi-tuner: training/trainer_base.py, utils/sai_model_spec.py, utils/model_utils.py (precalculate_safetensors_hashes).
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { fileError } from "../io/files.ts";
import { encodeHeader, placeTensors, type TensorSpec } from "../io/safetensors-header.ts";

/** A number that Python holds as a float, which it always writes with a point or an exponent. */
export interface PythonFloat {
  float: number;
}

export type PythonValue = string | number | bigint | boolean | null | PythonFloat;

/** Python's repr of a float: exponents from 1e16 and below 1e-4, at least two digits in them. */
export function pythonFloat(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  const magnitude = Math.abs(value);
  if (magnitude !== 0 && (magnitude < 1e-4 || magnitude >= 1e16)) {
    const [digits, exponent] = value.toExponential().split("e") as [string, string];
    return `${digits}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
  }
  const text = Object.is(value, -0) ? "-0" : value.toString();
  // JavaScript writes exponents from 1e21 only, so that what is left here has none.
  return text.includes(".") ? text : `${text}.0`;
}

export function pythonText(value: PythonValue): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "object") return pythonFloat(value.float);
  return String(value);
}

/** A value among the arguments of a call: floats, whole numbers, booleans, text, tuples. */
export function pythonArgument(value: unknown): string {
  if (Array.isArray(value)) return `(${value.map(pythonArgument).join(", ")}${value.length === 1 ? "," : ""})`;
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : pythonFloat(value);
  if (typeof value === "string") return `'${value}'`;
  return pythonText(typeof value === "boolean" ? value : null);
}

/** What training knows about a LoRA. Fields of musubi's metadata; `undefined` ones are left out. */
export interface TrainingFacts {
  sessionId?: number;
  /** Unix seconds. */
  startedAt?: number;
  finishedAt?: number;
  outputName?: string;
  learningRate?: number;
  trainItems?: number;
  batchesPerEpoch?: number;
  epochs?: number;
  gradientCheckpointing?: boolean;
  gradientAccumulationSteps?: number;
  maxTrainSteps?: number;
  warmupSteps?: number;
  scheduler?: string;
  /** Of a run that trains adapters; a whole model has none of these. */
  network?: {
    dim: number;
    alpha: number;
    /** Share of the hidden values that are dropped. */
    dropout: number;
    /** Extra arguments, written as JSON where there are any. */
    args: Readonly<Record<string, unknown>>;
  };
  mixedPrecision?: "bf16" | "fp16" | "no";
  seed?: number | bigint;
  comment?: string;
  /** As Python writes the call that makes it. */
  optimizer?: string;
  maxGradNorm?: number;
  fp8Base?: boolean;
  weightingScheme?: string;
  timestepSampling?: string;
  /** Of the time sampling, where it has them; else musubi's defaults, which then do nothing. */
  logitMean?: number;
  logitStd?: number;
  sigmoidScale?: number;
  discreteFlowShift?: number;
  /** One entry for each data set, written as JSON. */
  datasets?: readonly unknown[];
  baseModel?: FileIdentity;
  vae?: FileIdentity;
  steps?: number;
  epoch?: number;
}

/** How a model manager knows a file. */
export interface FileIdentity {
  /** Without its folder. */
  name: string;
  /** Eight digits of SHA-256 of 64 KiB from the first mebibyte on; undefined for a model of several files. */
  legacyHash?: string | undefined;
  /** SHA-256 of the file. */
  sha256?: string | undefined;
}

/** musubi's defaults of settings that Wan has no use for. */
const unused = { modeScale: 1.29, guidanceScale: 1 };

const float = (value: number | undefined): PythonFloat | undefined =>
  value === undefined ? undefined : { float: value };
const json = (value: unknown): string | undefined => (value === undefined ? undefined : JSON.stringify(value));

/** The `ss_*` strings of a training run. */
export function trainingMetadata(facts: TrainingFacts): Record<string, string> {
  const { network, baseModel, vae } = facts;
  const fields: Record<string, PythonValue | undefined> = {
    ss_session_id: facts.sessionId,
    ss_training_started_at: float(facts.startedAt),
    ss_output_name: facts.outputName,
    ss_learning_rate: float(facts.learningRate),
    ss_num_train_items: facts.trainItems,
    ss_num_batches_per_epoch: facts.batchesPerEpoch,
    ss_num_epochs: facts.epochs,
    ss_gradient_checkpointing: facts.gradientCheckpointing,
    ss_gradient_checkpointing_cpu_offload: false,
    ss_gradient_accumulation_steps: facts.gradientAccumulationSteps,
    ss_max_train_steps: facts.maxTrainSteps,
    ss_lr_warmup_steps: facts.warmupSteps,
    ss_lr_scheduler: facts.scheduler,
    ss_base_model_version: "wan",
    ...(network
      ? {
          ss_network_module: "networks.lora_wan",
          ss_network_dim: network.dim,
          ss_network_alpha: float(network.alpha),
          ss_network_dropout: network.dropout > 0 ? float(network.dropout) : null,
          ss_network_args: Object.keys(network.args).length > 0 ? json(network.args) : undefined,
        }
      : {}),
    ss_mixed_precision: facts.mixedPrecision,
    ss_seed: facts.seed,
    ss_training_comment: facts.comment ?? null,
    ss_optimizer: facts.optimizer,
    ss_max_grad_norm: float(facts.maxGradNorm),
    ss_fp8_base: facts.fp8Base ?? false,
    // Weights that train are float32 throughout.
    ss_full_fp16: false,
    ss_full_bf16: false,
    ss_weighting_scheme: facts.weightingScheme ?? "none",
    ss_logit_mean: float(facts.logitMean ?? 0),
    ss_logit_std: float(facts.logitStd ?? 1),
    ss_mode_scale: float(unused.modeScale),
    ss_guidance_scale: float(unused.guidanceScale),
    ss_timestep_sampling: facts.timestepSampling,
    ss_sigmoid_scale: float(facts.sigmoidScale ?? 1),
    ss_discrete_flow_shift: float(facts.discreteFlowShift),
    ss_datasets: json(facts.datasets),
    ss_sd_model_name: baseModel?.name,
    ss_sd_model_hash: baseModel?.legacyHash,
    ss_new_sd_model_hash: baseModel?.sha256,
    ss_vae_name: vae?.name,
    ss_vae_hash: vae?.legacyHash,
    ss_new_vae_hash: vae?.sha256,
    ss_training_finished_at: float(facts.finishedAt),
    ss_steps: facts.steps,
    ss_epoch: facts.epoch,
  };
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) result[name] = pythonText(value);
  return result;
}

/** What a person says about a LoRA. https://github.com/Stability-AI/ModelSpec */
export interface ModelSpec {
  title: string;
  /** Pixels. */
  width: number;
  height: number;
  /** When the file is made, in local time; with `utc`, in universal time, the same everywhere. */
  date: Date;
  utc?: boolean;
  /** The timesteps it was trained on, e.g. [875, 1000] for a high-noise expert. */
  timesteps?: readonly [from: number, to: number];
  author?: string;
  description?: string;
  license?: string;
  tags?: string;
  /** What a prompt says for the LoRA to act. */
  trigger?: string;
}

/** The `modelspec.*` strings of a Wan LoRA. */
export function modelSpecMetadata(spec: ModelSpec): Record<string, string> {
  const local = new Date(spec.date.getTime() - spec.date.getTimezoneOffset() * 60_000);
  const fields: Record<string, string | undefined> = {
    sai_model_spec: "1.0.0",
    architecture: "wan2.1/lora",
    implementation: "https://github.com/Wan-Video/Wan2.1",
    title: spec.title,
    resolution: `${spec.width}x${spec.height}`,
    description: spec.description,
    author: spec.author,
    date: (spec.utc ? spec.date : local).toISOString().slice(0, "2026-01-05T07:08:09".length),
    license: spec.license,
    tags: spec.tags,
    trigger_phrase: spec.trigger,
    timestep_range: spec.timesteps?.join(","),
  };
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) result[`modelspec.${name}`] = value;
  return result;
}

/** Bytes of the file that the older of the two hashes covers. */
const LEGACY_START = 0x100000;
const LEGACY_END = LEGACY_START + 0x10000;
const LEGACY_DIGITS = 8;

/** The older of the two hashes of a file on disk. Throws `io.*`. */
export async function legacyHash(path: string): Promise<string> {
  const hash = createHash("sha256");
  try {
    for await (const chunk of createReadStream(path, { start: LEGACY_START, end: LEGACY_END - 1 }))
      hash.update(chunk as Uint8Array);
  } catch (error) {
    throw fileError(error, path);
  }
  return hash.digest("hex").slice(0, LEGACY_DIGITS);
}

/**
 * The two hashes by which model managers know a LoRA: `sshs_model_hash`, SHA-256 of the file's data, and
 * `sshs_legacy_hash`, eight digits of that of 64 KiB from the file's first mebibyte on, as the file would be with its
 * `ss_*` metadata alone. Tensors are those to be written; their bytes are asked for once each.
 */
export function kohyaHashes(
  tensors: readonly (TensorSpec & { readonly bytes: () => Uint8Array })[],
  metadata: Readonly<Record<string, string>>,
): { sshs_model_hash: string; sshs_legacy_hash: string } {
  const training = Object.fromEntries(Object.entries(metadata).filter(([name]) => name.startsWith("ss_")));
  const placed = placeTensors(tensors);
  const bytes = new Map(tensors.map((tensor) => [tensor.name, tensor.bytes]));
  const whole = createHash("sha256");
  const legacy = createHash("sha256");
  let at = 0;
  const add = (part: Uint8Array) => {
    legacy.update(part.subarray(Math.max(0, LEGACY_START - at), Math.max(0, Math.min(part.length, LEGACY_END - at))));
    at += part.length;
  };
  add(encodeHeader(placed, training));
  for (const { name } of placed) {
    const part = bytes.get(name)!();
    whole.update(part);
    add(part);
  }
  return { sshs_model_hash: whole.digest("hex"), sshs_legacy_hash: legacy.digest("hex").slice(0, LEGACY_DIGITS) };
}
