// The metadata strings that kohya's tools (and what reads their files) expect of a LoRA, and its two hashes.
// Values are spelled as Python's str() spells them, so that tools which parse them back find what they know.
// musubi-tuner: training/trainer_base.py, utils/sai_model_spec.py, utils/model_utils.py (precalculate_safetensors_hashes).
import { createHash } from "node:crypto";
import { encodeHeader, placeTensors, type TensorSpec } from "../io/safetensors-header.ts";

/** A number that Python holds as a float, which it always writes with a point or an exponent. */
export interface PythonFloat {
  float: number;
}

export type PythonValue = string | number | boolean | null | PythonFloat;

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
  networkDim?: number;
  networkAlpha?: number;
  /** Extra network arguments, written as JSON. */
  networkArgs?: Readonly<Record<string, unknown>>;
  mixedPrecision?: "bf16" | "fp16" | "no";
  seed?: number;
  comment?: string;
  optimizer?: string;
  maxGradNorm?: number;
  timestepSampling?: string;
  discreteFlowShift?: number;
  /** One entry for each data set, written as JSON. */
  datasets?: readonly unknown[];
  baseModelName?: string;
  vaeName?: string;
  steps?: number;
  epoch?: number;
}

const float = (value: number | undefined): PythonFloat | undefined =>
  value === undefined ? undefined : { float: value };
const json = (value: unknown): string | undefined => (value === undefined ? undefined : JSON.stringify(value));

/** The `ss_*` strings of a training run. */
export function trainingMetadata(facts: TrainingFacts): Record<string, string> {
  const fields: Record<string, PythonValue | undefined> = {
    ss_session_id: facts.sessionId,
    ss_training_started_at: float(facts.startedAt),
    ss_output_name: facts.outputName,
    ss_learning_rate: float(facts.learningRate),
    ss_num_train_items: facts.trainItems,
    ss_num_batches_per_epoch: facts.batchesPerEpoch,
    ss_num_epochs: facts.epochs,
    ss_gradient_checkpointing: facts.gradientCheckpointing,
    ss_gradient_accumulation_steps: facts.gradientAccumulationSteps,
    ss_max_train_steps: facts.maxTrainSteps,
    ss_lr_warmup_steps: facts.warmupSteps,
    ss_lr_scheduler: facts.scheduler,
    ss_base_model_version: "wan",
    ss_network_module: "networks.lora_wan",
    ss_network_dim: facts.networkDim,
    ss_network_alpha: float(facts.networkAlpha),
    ss_network_args: json(facts.networkArgs),
    ss_mixed_precision: facts.mixedPrecision,
    ss_seed: facts.seed,
    ss_training_comment: facts.comment,
    ss_optimizer: facts.optimizer,
    ss_max_grad_norm: float(facts.maxGradNorm),
    ss_timestep_sampling: facts.timestepSampling,
    ss_discrete_flow_shift: float(facts.discreteFlowShift),
    ss_datasets: json(facts.datasets),
    ss_sd_model_name: facts.baseModelName,
    ss_vae_name: facts.vaeName,
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
  /** When the file is made, in local time. */
  date: Date;
  /** The timesteps it was trained on, e.g. [875, 1000] for a high-noise expert. */
  timesteps?: readonly [from: number, to: number];
  author?: string;
  description?: string;
  license?: string;
  tags?: string;
}

/** The `modelspec.*` strings of a Wan LoRA. */
export function modelSpecMetadata(spec: ModelSpec): Record<string, string> {
  const pad = (value: number) => String(value).padStart(2, "0");
  const { date } = spec;
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  const fields: Record<string, string | undefined> = {
    sai_model_spec: "1.0.0",
    architecture: "wan2.1/lora",
    implementation: "https://github.com/Wan-Video/Wan2.1",
    title: spec.title,
    resolution: `${spec.width}x${spec.height}`,
    description: spec.description,
    author: spec.author,
    date: `${day}T${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`,
    license: spec.license,
    tags: spec.tags,
    timestep_range: spec.timesteps?.join(","),
  };
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) result[`modelspec.${name}`] = value;
  return result;
}

/** Bytes of the file that the older of the two hashes covers. */
const LEGACY_START = 0x100000;
const LEGACY_END = LEGACY_START + 0x10000;

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
  return { sshs_model_hash: whole.digest("hex"), sshs_legacy_hash: legacy.digest("hex").slice(0, 8) };
}
