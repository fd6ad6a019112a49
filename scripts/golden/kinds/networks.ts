// Fixtures of whole networks: the transformer in its variants, with adapters, and the text encoder.
import { dirname, join } from "node:path";
import type { Device } from "../../../src/device/device.ts";
import type { RowRuns } from "../../../src/device/kernels.ts";
import type { AdapterValues } from "../../../src/lora/adapters/table.ts";
import { attachLora } from "../../../src/lora/attach.ts";
import { readLora } from "../../../src/lora/read.ts";
import { modulationParts } from "../../../src/models/wan/dit/block.ts";
import { WanDit } from "../../../src/models/wan/dit/dit.ts";
import type { DitConfig } from "../../../src/models/wan/params.ts";
import { relativePositionBucket, TextEncoder } from "../../../src/models/wan/text-encoder.ts";
import { WeightLoader, type WeightReader } from "../../../src/nn/weights.ts";
import { cast, layerNorm, reshape } from "../../../src/tensor/ops/index.ts";
import { openScope } from "../../../src/tensor/scope.ts";
import { fromValues, type Tensor } from "../../../src/tensor/tensor.ts";
import { Fixture } from "../fixture.ts";

export type Precision = "f32" | "bf16";

// biome-ignore lint/suspicious/noExplicitAny: the upstream configuration, as recorded
export function ditConfig(config: any): DitConfig {
  return {
    patchSize: config.patch_size,
    textLength: config.text_len,
    inputChannels: config.in_dim,
    outputChannels: config.out_dim,
    dim: config.dim,
    ffnDim: config.ffn_dim,
    frequencyDim: config.freq_dim,
    textDim: config.text_dim,
    heads: config.num_heads,
    layers: config.num_layers,
    eps: config.eps,
  };
}

export function loadDit(device: Device, reader: WeightReader, config: DitConfig, dtype: Precision): WanDit {
  return new WanDit(new WeightLoader(device, reader), config, { dtype });
}

/** [C, F, H, W] inputs as a batch of one, the I2V condition joined behind them. */
function latentsOf(fixture: Fixture, device: Device): Tensor {
  const x = fixture.values("inputs.x");
  const [channels, ...volume] = fixture.shape("inputs.x") as [number, number, number, number];
  if (!fixture.has("inputs.y")) return fixture.tensor(device, "inputs.x", [1, channels, ...volume]);
  const y = fixture.values("inputs.y");
  const joined = new Float32Array(x.length + y.length);
  joined.set(x);
  joined.set(y, x.length);
  return fromValues(device, joined, [1, channels + fixture.shape("inputs.y")[0]!, ...volume]);
}

export async function dit(fixture: Fixture, device: Device, dtype: Precision): Promise<void> {
  using model = loadDit(device, fixture.weights(), ditConfig(fixture.config), dtype);
  using _scope = openScope(device);
  const latents = latentsOf(fixture, device);
  const perToken = fixture.shape("inputs.t").length === 2;
  for (const suffix of fixture.has("inputs.t_b") ? ["", "_b"] : [""]) {
    const t = fixture.values(`inputs.t${suffix}`);
    const timestep = perToken ? t : t[0]!;
    const text = fixture.tensor(device, `inputs.context${suffix}`);
    await fixture.compareTensor(`out${suffix}`, model.forward({ latents, timesteps: [timestep], texts: [text] }));
    if (suffix === "") await inside(fixture, model, latents, timestep, text);
  }
}

/** The parts of the forward pass that a fixture records. */
async function inside(
  fixture: Fixture,
  model: WanDit,
  latents: Tensor,
  timestep: number | Float32Array,
  context: Tensor,
): Promise<void> {
  const expects = (name: string) => fixture.has(`outputs.${name}`);
  const { tokens, grid } = model.patchify(latents);
  await fixture.compareTensor("patch", tokens);
  const time = model.embedTime([timestep], grid[0] * grid[1] * grid[2]);
  if (expects("time")) await fixture.compareTensor("time", await perToken(fixture, time.embedding, time.runs));
  if (expects("time_proj")) await fixture.compareTensor("time_proj", time.projection);
  const text = model.embedText([context]);
  if (expects("context")) await fixture.compareTensor("context", text);

  const block = model.blocks[0]!;
  const { runs } = time;
  const blockContext = { timeProjection: time.projection, runs, rotation: model.rotation(grid), text };
  const stream = cast(tokens, "f32");
  await fixture.compareTensor("block0", block.forward(stream, blockContext));
  if (!expects("block0_self_attn")) return;
  const { eps } = model.config;
  const [shift1, scale1, gate1, shift2, scale2] = modulationParts(block.modulation.value, time.projection);
  const modulated = (x: Tensor, scale: Tensor, shift: Tensor) =>
    layerNorm(x, { eps, modulation: { scale, shift, runs }, dtype: model.dtype });
  const normed = modulated(stream, scale1!, shift1!);
  await fixture.compareTensor("block0_self_attn", block.attendSelf(normed, blockContext));
  const attended = block.attendSelf(normed, blockContext, { gate: { table: gate1!, runs }, residual: stream });
  await fixture.compareTensor("block0_cross_attn", block.attendText(attended, blockContext));
  const informed = block.attendText(attended, blockContext, { residual: attended });
  await fixture.compareTensor("block0_ffn", block.feedForward(modulated(informed, scale2!, shift2!)));
}

/** A table's rows spread over the tokens that use them, where the fixture records every token. */
async function perToken(fixture: Fixture, table: Tensor, runs: RowRuns): Promise<Tensor> {
  const expected = fixture.shape("outputs.time");
  if (expected.length === 1) return table;
  const values = await table.read();
  const width = table.shape[1]!;
  const spread = new Float32Array(expected[0]! * width);
  for (const { start, count, row } of runs) {
    for (let i = start; i < start + count; i++) spread.set(values.subarray(row * width, (row + 1) * width), i * width);
  }
  return fromValues(table.device, spread, expected);
}

export async function loraApply(fixture: Fixture, device: Device, dtype: Precision): Promise<void> {
  const { config } = fixture;
  const file = (name: string) => join(dirname(fixture.path), config[name]);
  using base = new Fixture(file("base"));
  using model = loadDit(device, base.weights(), ditConfig(config.dit), dtype);
  using _scope = openScope(device);
  const [channels, ...volume] = fixture.shape("inputs.x");
  const input = {
    latents: fixture.tensor(device, "inputs.x", [1, channels!, ...volume]),
    timesteps: [fixture.values("inputs.t")[0]!],
    texts: [fixture.tensor(device, "inputs.context")],
  };
  const withAdapters = async (output: string, ...adapters: [file: string, strength: number][]) => {
    const attached = adapters.map(([name, strength]) => attachLora(model, readLora(file(name)), strength));
    await fixture.compareTensor(output, model.forward(input));
    for (const lora of attached) lora[Symbol.dispose]();
  };
  const { strength, both_strengths: both } = config as { strength: number; both_strengths: [number, number] };
  await withAdapters("base");
  await withAdapters("kohya", ["kohya", strength]);
  await withAdapters("peft", ["peft", strength]);
  await withAdapters("both", ["kohya", both[0]], ["peft", both[1]]);
}

/** Adapters of every kind and name, as ComfyUI applies them: outputs, and the parameters as they come out. */
export async function loraApplyWild(fixture: Fixture, device: Device, dtype: Precision): Promise<void> {
  using model = loadDit(device, fixture.weights(), ditConfig(fixture.config.dit), dtype);
  using _scope = openScope(device);
  const { files, strengths, renamed, ...stacks } = fixture.config as {
    files: Record<string, string>;
    strengths: number[];
    renamed: string[];
  } & Record<string, unknown>;
  const [channels, ...volume] = fixture.shape("inputs.x");
  const input = {
    latents: fixture.tensor(device, "inputs.x", [1, channels!, ...volume]),
    timesteps: [fixture.values("inputs.t")[0]!],
    texts: [fixture.tensor(device, "inputs.context")],
  };
  const adaptersOf = (name: string) => readLora(join(dirname(fixture.path), files[name]!));
  const modulation = (values: AdapterValues) => values.kind === "difference" && values.parameter.endsWith("modulation");

  await fixture.compareTensor("base", model.forward(input));
  const compare = async (prefix: string, stack: [values: AdapterValues[], strength: number][], own: boolean) => {
    const attached = stack.map(([values, strength]) => attachLora(model, values, strength));
    await fixture.compareTensor(`${prefix}.out`, model.forward(input));
    const head = `outputs.${prefix}.`;
    for (const name of own ? fixture.names(head).map((full) => full.slice(head.length)) : []) {
      const seam = model.parameters().get(name) ?? model.linears().get(name.replace(/\.weight$/, ""));
      if (!seam) continue;
      const changed = "merged" in seam ? seam.merged() : seam.value;
      await fixture.compareTensor(`${prefix}.${name}`, reshape(changed, fixture.shape(head + name)));
    }
    for (const lora of attached.reverse()) lora[Symbol.dispose]();
  };
  for (const strength of strengths) {
    const at = String(strength);
    for (const name of Object.keys(files)) {
      const values = adaptersOf(name);
      // ComfyUI passes over diff_m, LightX2V applies it: both are recorded.
      const known = values.filter((each) => name !== "diff_m_ignored" || !modulation(each));
      const output = renamed.includes(name) ? "renamed" : name;
      await compare(`${output}.${at}`, [[known, strength]], !renamed.includes(name));
      if (known.length < values.length) await compare(`diff_m_applied.${at}`, [[values, strength]], false);
    }
  }
  for (const [name, stack] of Object.entries(stacks)) {
    if (!name.startsWith("stack")) continue;
    const parts = (stack as [file: string, strength: number][]).map(([file, strength]): [AdapterValues[], number] => [
      adaptersOf(file),
      strength,
    ]);
    await compare(name, parts, false);
  }
}

export async function umt5(fixture: Fixture, device: Device, dtype: Precision): Promise<void> {
  const { config } = fixture;
  const encoderConfig = {
    vocabulary: config.vocab,
    dim: config.dim,
    attentionDim: config.dim_attn,
    ffnDim: config.dim_ffn,
    heads: config.num_heads,
    layers: config.num_layers,
    buckets: config.num_buckets,
    maxDistance: config.max_dist,
    eps: 1e-6,
  };
  using encoder = new TextEncoder(new WeightLoader(device, fixture.weights()), encoderConfig, { dtype });
  using _scope = openScope(device);
  const lengths = config.lengths as number[];
  const length = config.text_len as number;
  const ids = Int32Array.from(fixture.values("inputs.ids"));
  const rows = lengths.map((_, i) => ids.subarray(i * length, (i + 1) * length));
  const full = encoder.forward(rows, lengths);
  await fixture.compareTensor("full", full);
  for (const [i, count] of lengths.entries()) {
    await fixture.compareTensor(`trimmed_${i}`, encoder.encode(rows[i]!.slice(0, count)));
  }
  const distances = fixture.integers("inputs.distance");
  fixture.compare(
    "bucket",
    distances.map((distance) => relativePositionBucket(distance, encoderConfig.buckets, encoderConfig.maxDistance)),
  );
  const window = fixture.shape("outputs.bias_block1")[1]!;
  await fixture.compareTensor("bias_block1", encoder.blocks[1]!.positionBias(encoder.distanceBuckets(window)));
}
