// What users of musubi-tuner, kohya's scripts and diffusion-pipe write in their configurations: the setting here, or why
// there is none. musubi's: https://github.com/kohya-ss/musubi-tuner/blob/30c658c/src/musubi_tuner/training/parser_common.py
import type { ForeignNames } from "../../io/config/keys.ts";

/** Their key → the setting here, and a word where it is not the same. */
const here: Readonly<Record<string, string | readonly [setting: string, word: string]>> = {
  // The run.
  dataset_config: "dataset",
  train_data_dir: "dataset",
  output_dir: "output",
  output_name: "name",
  max_train_steps: "steps",
  max_steps: "steps",
  max_train_epochs: "epochs",
  max_epochs: "epochs",
  num_train_epochs: "epochs",
  // The model and its files.
  task: "model.name",
  ckpt_path: "model.checkpoint",
  pretrained_model_name_or_path: "model.checkpoint",
  dit: "model.dit",
  dit_high_noise: ["model.dit_high", "the low-noise model is model.dit_low"],
  transformer_path: "model.dit",
  t5: "model.text_encoder",
  llm_path: "model.text_encoder",
  fp8_base: ["model.base", 'write model.base = "fp8"'],
  fp8_scaled: ["model.base", 'write model.base = "fp8", which is scaled'],
  mixed_precision: "model.base",
  full_bf16: ["model.base", 'write model.base = "bf16"'],
  transformer_dtype: "model.base",
  checkpointing: "model.recompute",
  gradient_checkpointing: "model.recompute",
  activation_checkpointing: "model.recompute",
  // The LoRA.
  network_dim: "lora.rank",
  network_rank: "lora.rank",
  network_alpha: "lora.alpha",
  network_dropout: "lora.dropout",
  network_args: [
    "lora.targets",
    "include_patterns and exclude_patterns become one list of patterns for what is trained",
  ],
  include_patterns: "lora.targets",
  loraplus_lr_ratio: "lora.plus_ratio",
  use_rslora: "lora.rslora",
  // Noise levels.
  timestep_sampling: "time.sampling",
  timestep_sample_method: "time.sampling",
  discrete_flow_shift: "time.shift",
  flow_shift: "time.shift",
  sigmoid_scale: "time.scale",
  logit_mean: ["time.mean", 'with time.sampling = "logit_normal"'],
  logit_std: ["time.std", 'with time.sampling = "logit_normal"'],
  weighting_scheme: "loss.weighting",
  min_timestep: ["time.min", "a noise level, a thousandth of the timestep; each expert keeps to its own levels anyway"],
  max_timestep: ["time.max", "a noise level, a thousandth of the timestep; each expert keeps to its own levels anyway"],
  preserve_distribution_shape: ["time.keep_shape", "on by default"],
  mode_scale: ["time.mode_scale", 'with time.sampling = "sigma" and time.density = "mode"'],
  timestep_boundary: ["experts.train", "the boundary is the model's own, or its checkpoint's"],
  // The optimizer.
  learning_rate: "optimizer.learning_rate",
  lr: "optimizer.learning_rate",
  unet_lr: "optimizer.learning_rate",
  optimizer_type: "optimizer.kind",
  optimizer_args: ["optimizer", "betas, eps and weight_decay are settings of [optimizer]"],
  use_8bit_adam: ["optimizer.kind", 'write optimizer.kind = "adamw8bit"'],
  max_grad_norm: "optimizer.clip",
  gradient_clipping: "optimizer.clip",
  gradient_accumulation_steps: "optimizer.accumulation",
  train_batch_size: "dataset.batch_size",
  micro_batch_size_per_gpu: "dataset.batch_size",
  lr_scheduler: "schedule.kind",
  lr_scheduler_type: "schedule.kind",
  lr_scheduler_num_cycles: "schedule.cycles",
  lr_scheduler_power: "schedule.power",
  lr_warmup_steps: "schedule.warmup",
  warmup_steps: "schedule.warmup",
  lr_decay_steps: ["schedule.decay", 'with schedule.kind = "warmup_stable_decay"'],
  lr_scheduler_timescale: ["schedule.timescale", 'with schedule.kind = "inverse_sqrt"'],
  lr_scheduler_args: ["schedule", "each schedule's settings stand in [schedule]"],
  caption_dropout_rate: "conditioning.caption_dropout",
  // Previews, validation, saving.
  sample_prompts: "preview.prompts",
  sample_every_n_steps: "preview.every_steps",
  sample_every_n_epochs: "preview.every_epochs",
  sample_at_first: "preview.at_start",
  eval_every_n_steps: "validation.every_steps",
  save_every_n_steps: "save.every_steps",
  save_every_n_epochs: "save.every_epochs",
  save_last_n_steps: "save.keep_last",
  save_last_n_epochs: ["save.keep_last", "a number of files"],
  save_precision: "save.dtype",
  save_dtype: "save.dtype",
  save_state: ["save.state_every_steps", "the state is always saved"],
  save_last_n_steps_state: ["save.keep_states", "a number of states"],
  save_last_n_epochs_state: ["save.keep_states", "a number of states"],
  training_comment: "save.comment",
  metadata_title: "save.title",
  metadata_author: "save.author",
  metadata_description: "save.description",
  metadata_license: "save.license",
  metadata_tags: "save.tags",
};

const sdpa = "attention is the device's own, and exact: there is nothing to choose";
const compile = "nothing is compiled: leave it out";
const swap = "use model.blocks_to_swap";
const upload = "Kinora uploads nothing: leave it out";
const goesOn =
  "a run resumes by itself: run the same command again with the same output (`from` resumes from an earlier state)";
const logs = "log.jsonl, TensorBoard events and a page are always written into the run's folder";
const shapes = "noise levels are drawn over the whole range of each expert";

/** Their key → why there is no such setting. */
const none: Readonly<Record<string, string>> = {
  network_weights: "training cannot start from an existing LoRA; run the same command again to resume a Kinora run",
  dim_from_weights: "training cannot start from an existing LoRA: give the rank as lora.rank",
  base_weights: "LoRAs are not merged into the model before training: merge them first, and name the result in [model]",
  base_weights_multiplier:
    "LoRAs are not merged into the model before training: merge them first, and name the result in [model]",
  network_module: "the LoRA fits the model by itself: lora.kind chooses another adapter",
  scale_weight_norms: "weights are not rescaled while they train: lower optimizer.learning_rate or optimizer.clip",
  resume: goesOn,
  resume_from_checkpoint: goesOn,
  save_state_on_train_end: "the final state is always saved",
  checkpoint_every_n_minutes: "save.state_every_steps says how often the state is kept",
  no_metadata: "LoRA files always say what they were trained on",
  block_swap_h2d_only: swap,
  block_swap_ring_size: swap,
  use_pinned_memory_for_block_swap: swap,
  offload_inactive_dit: "the idle expert is never in memory: experts.switch_every sets how often they change",
  gradient_checkpointing_cpu_offload: "recomputation keeps its inputs on the device: use model.recompute",
  img_in_txt_in_offloading: "Wan has no such layers",
  full_fp16: 'float16 does not train here: model.base = "bf16"',
  num_timestep_buckets: shapes,
  show_timesteps: "kinora train FILE --explain says what is drawn",
  guidance_scale: "Wan takes no embedded guidance",
  fp8_t5: "the text encoder is in memory only while captions are encoded: model.text_dtype",
  ema_config: "it is a table: [ema] with decay",
  clip: "CLIP features are not trained with: i2v-A14B needs none",
  vae_cache_cpu: "the autoencoder works in tiles where memory is short",
  vae_dtype: "it belongs in [model]",
  one_frame: "one-frame training is FramePack's",
  force_v2_1_time_embedding: "the time embedding is the checkpoint's own",
  text_encoder_lr: "the text encoder does not train",
  network_train_unet_only: "the text encoder never trains: leave it out",
  cache_latents: "latents are always cached",
  cache_text_encoder_outputs: "text embeddings are always cached",
  max_data_loader_n_workers: "data comes from the cache: there are no data loader workers",
  persistent_data_loader_workers: "data comes from the cache: there are no data loader workers",
  pipeline_stages: "one process trains",
  ddp_timeout: "one process trains",
  sdpa,
  xformers: sdpa,
  flash_attn: sdpa,
  flash3: sdpa,
  sage_attn: sdpa,
  split_attn: sdpa,
  compile,
  compile_mode: compile,
  compile_backend: compile,
  dynamo_backend: compile,
  dynamo_mode: compile,
  logging_dir: logs,
  log_with: logs,
  log_prefix: logs,
  wandb_run_name: logs,
  wandb_api_key: logs,
  huggingface_repo_id: upload,
  huggingface_token: upload,
  async_upload: upload,
  config_file: "this is the configuration file: leave it out",
  // Other files of Kinora, and other programs' tables.
  datasets: 'this is a dataset configuration: name it in a training file, dataset = "FILE"',
  general: 'this is a dataset configuration: name it in a training file, dataset = "FILE"',
  adapter: "the table is [lora]",
  network: "the table is [lora]",
  sample: "the table is [preview]",
};

export const foreignSettings = here;

export const foreignNames: ForeignNames = {
  ...Object.fromEntries(
    Object.entries(here).map(([key, to]) => {
      const [setting, word] = typeof to === "string" ? [to] : to;
      return [key, `here it is ${setting}${word ? `: ${word}` : ""}`];
    }),
  ),
  ...none,
};
