// A text-to-video transformer against diffusers (and peft): one forward pass, one LoRA step.
import { join } from "node:path";
import { relativeError } from "../../scripts/golden/fixture.ts";
import type { Device } from "../../src/device/device.ts";
import { attachLora } from "../../src/lora/attach.ts";
import { adaptersFrom } from "../../src/lora/read.ts";
import { planForward } from "../../src/models/wan/forward-cost.ts";
import { loadDit } from "../../src/models/wan/load.ts";
import { type WanModel, wanModels } from "../../src/models/wan/params.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { fromValues } from "../../src/tensor/tensor.ts";
import { createAdamW } from "../../src/train/optimizers/adamw.ts";
import { globalNorm } from "../../src/train/optimizers/optimizer.ts";
import { planLoraStep } from "../../src/train/plan/lora-step.ts";
import { gatherGradients } from "../../src/train/step/gradients.ts";
import { Peer, PeerRecord, peerFolder } from "../peer.ts";
import { compare, type Pace, type Row } from "./row.ts";

export interface TransformerBench extends Pace {
  model: "t2v-1.3B" | "tiny-t2v";
  layers: number;
  frames: number;
}

/** The sizes each model is run at: bench/peers/wan.py has the same. */
const frameSizes = { "t2v-1.3B": { width: 832, height: 480 }, "tiny-t2v": { width: 64, height: 64 } } as const;

/** A case's folder and its row of the models' table, with so many layers; what the table calls it; the peer's flags. */
function setting({ model, layers, frames, passes = 1 }: TransformerBench) {
  const row: WanModel = wanModels[model];
  const { width, height } = frameSizes[model];
  return {
    folder: peerFolder(`transformer-${model}-${layers}`),
    flags: { model, layers, frames, passes },
    model: { ...row, dit: { ...row.dit, layers } },
    clip: { width, height, frames },
    title: (what: string) => `${model} ${what}, ${width}×${height}×${frames}, bf16`,
  };
}

export async function forward(device: Device, bench: TransformerBench): Promise<Row> {
  const { folder, flags, clip, title, model: planned } = setting(bench);
  await using peer = await Peer.start("forward", folder, flags);
  using record = new PeerRecord(folder);
  using model = loadDit(device, join(folder, "model"), { dtype: "bf16", pack: true });
  using _scope = openScope(device);
  const latents = fromValues(device, record.values("x"), [1, ...record.shape("x")]);
  const text = fromValues(device, record.values("context"), record.shape("context"), "bf16");
  let output = new Float32Array();
  const ours = async () => {
    using _run = openScope(device);
    output = (await model.forward({ latents, timesteps: [500], texts: [text] }).read()) as typeof output;
  };
  const { flops } = planForward(planned, clip, { dtype: "bf16" });
  return await compare(
    title(`forward, ${bench.layers} layers`),
    bench,
    () => peer.turn(),
    ours,
    () => ({
      difference: relativeError(output, record.values("out")),
      flops: flops.forward,
    }),
  );
}

export async function loraStep(device: Device, bench: TransformerBench): Promise<Row> {
  const { folder, flags, clip, title, model: planned } = setting(bench);
  await using peer = await Peer.start("lora", folder, flags);
  using record = new PeerRecord(folder);
  using model = loadDit(device, join(folder, "model"), { dtype: "bf16" });
  const prefix = "adapter.";
  const start = adaptersFrom({
    names: record.names(prefix).map((name) => name.slice(prefix.length)),
    shape: (name) => record.shape(prefix + name),
    values: (name) => record.values(prefix + name),
  });
  using lora = attachLora(model, start);
  const parameters = lora.parameters();
  for (const parameter of parameters.values()) parameter.requireGradient();
  using optimizer = createAdamW({ device, parameters }, { betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.01 });
  using _scope = openScope(device);
  const sample = {
    clean: fromValues(device, record.values("clean"), record.shape("clean")),
    noise: fromValues(device, record.values("noise"), record.shape("clean")),
    sigma: 0.5,
    text: fromValues(device, record.values("context"), record.shape("context"), "bf16"),
  };
  const losses: number[] = [];
  const norms: number[] = [];
  const ours = async () => {
    losses.push(await gatherGradients(model, sample, { recompute: true }));
    norms.push(await globalNorm(device, parameters));
    await optimizer.update(1e-4);
  };
  const plan = await planLoraStep(planned, clip, { dtype: "bf16", rank: 32, recompute: true });
  const firstAndLast = (values: readonly number[]) => {
    const [first, last] = [values[0]!, values.at(-1)!].map((value) => value.toPrecision(5));
    return `${first} … ${last}`;
  };
  return await compare(
    title(`LoRA step, ${bench.layers} layers, rank 32`),
    bench,
    () => peer.turn(),
    ours,
    () => ({
      difference: relativeError(losses, peer.losses),
      flops: plan.flops.step,
      notes: [
        `losses of ${losses.length} steps ${firstAndLast(losses)}; peer ${firstAndLast(peer.losses)}`,
        `gradient norms ${firstAndLast(norms)}; peer ${firstAndLast(peer.gradientNorms)}`,
      ],
    }),
  );
}
