// What the comparisons with other projects are about: tiny random networks under official names, inputs, and LoRA files in
// each of our forms. Written once into a folder that the peers read; drawn from fixed seeds, so that every run is the same.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fromFloat32 } from "../../src/base/float-formats.ts";
import { elementCount } from "../../src/base/shape.ts";
import { writeSafetensors } from "../../src/io/safetensors-writer.ts";
import type { AdapterValues } from "../../src/lora/adapters/table.ts";
import { defaultTargets } from "../../src/lora/attach.ts";
import { layersOf } from "../../src/lora/fit.ts";
import { keyFormats } from "../../src/lora/key-formats.ts";
import { writeLora } from "../../src/lora/write.ts";
import type { DitConfig, TextEncoderConfig } from "../../src/models/wan/params.ts";
import { vaeConfigFrom } from "../../src/models/wan/vae/config.ts";
import { ditShapes, type Shapes, textEncoderShapes, vaeShapes } from "../../src/models/wan/weight-shapes.ts";
import { loraKeys } from "../../src/protocol/train-config.ts";
import { parseNoise } from "../../src/sample/noise/index.ts";
import { createScheduler } from "../../src/sample/schedulers/index.ts";

const dit: DitConfig = {
  patchSize: [1, 2, 2],
  textLength: 24,
  inputChannels: 16,
  outputChannels: 16,
  dim: 256,
  ffnDim: 384,
  frequencyDim: 64,
  textDim: 96,
  heads: 2,
  layers: 2,
  eps: 1e-6,
};

/** Heads 128 wide, as all Wan transformers have them. */
export const dits = {
  t2v: dit,
  i2v: { ...dit, inputChannels: 36 },
  ti2v: { ...dit, inputChannels: 48, outputChannels: 48 },
} as const;
export type DitName = keyof typeof dits;

const stages = { dim_mult: [1, 2, 4, 4], num_res_blocks: 1, temperal_downsample: [false, true, true] };

export const vaes = {
  vae21: vaeConfigFrom({ dim: 8, z_dim: 16, ...stages }, "vae21"),
  vae22: vaeConfigFrom({ dim: 8, dec_dim: 8, z_dim: 48, ...stages }, "vae22"),
} as const;
export type VaeName = keyof typeof vaes;

export const textEncoder: TextEncoderConfig = {
  vocabulary: 500,
  dim: 64,
  attentionDim: 64,
  ffnDim: 96,
  heads: 4,
  layers: 2,
  buckets: 32,
  maxDistance: 128,
  eps: 1e-6,
};

export const STRENGTH = 0.7;
export const TIMESTEP = 421;
export const SIGMA = 0.35;
/** Of the samplers' toy runs. */
export const STEPS = 8;
export const SHIFT = 5;
export const NOISE_SEED = 1234567;
/** Padded to 20 tokens, of which 13 count. */
export const TEXT = { padded: 20, length: 13 } as const;

const shapes = {
  "x.t2v": [16, 3, 8, 12],
  "x.i2v": [36, 2, 8, 8],
  "x.ti2v": [48, 3, 8, 8],
  context: [11, dit.textDim],
  clean: [16, 2, 8, 8],
  noise: [16, 2, 8, 8],
  "video.vae21": [3, 9, 32, 48],
  "video.vae22": [3, 9, 64, 64],
  "z.vae21": [16, 3, 4, 6],
  "z.vae22": [48, 3, 4, 4],
  x0: [16, 2, 6, 6],
} as const;
export type InputName = keyof typeof shapes;

/** Normal values of a stream of their own, the same everywhere. */
export const normals = (shape: readonly number[], stream: number): Float32Array =>
  parseNoise("kinora")(BigInt(stream), elementCount(shape));

const names = Object.keys(shapes) as InputName[];

export const inputs = Object.fromEntries(
  names.map((name, i) => {
    // Pixels stay within −1…1.
    const values = normals(shapes[name], 1 + i).map((value) => (name.startsWith("video") ? Math.tanh(value) : value));
    return [name, { shape: shapes[name], values }] as const;
  }),
) as unknown as Readonly<Record<InputName, { shape: readonly number[]; values: Float32Array }>>;

/** Token ids of one text, the padding behind it. */
export const ids = Int32Array.from({ length: TEXT.padded }, (_, i) =>
  i < TEXT.length ? 3 + ((i * 37) % (textEncoder.vocabulary - 3)) : 0,
);

/** Matrices with a spread that keeps activations in range; gains near one, biases and tables near zero. */
async function writeNetwork(path: string, network: Shapes, seed: number): Promise<void> {
  const tensors = [...network].map(([name, shape], i) => {
    const gain = /gamma$|norm[^.]*\.weight$/.test(name);
    const spread = shape.length > 1 ? 1 / Math.sqrt(Math.max(1, elementCount(shape.slice(1)))) : 0.1;
    const values = () => normals(shape, seed * 10_000 + i).map((value) => (gain ? 1 : 0) + spread * value);
    return { name, dtype: "f32" as const, shape, bytes: () => fromFloat32(values(), "f32") };
  });
  await writeSafetensors(path, tensors);
}

const RANK = 4;
const ALPHA = 10;

/** Of every Linear that is trained by default, with an alpha that is not the rank. */
function plainLora(): AdapterValues[] {
  const layers = [...layersOf(ditShapes(dit))].filter(([name]) => defaultTargets.test(name));
  return layers.map(([module, { inputs: columns, outputs }], i) => ({
    kind: "lora",
    module,
    rank: RANK,
    inputs: columns,
    outputs,
    alpha: ALPHA,
    down: normals([RANK, columns], 50_000 + 2 * i).map((value) => value * 0.06),
    up: normals([outputs, RANK], 50_001 + 2 * i).map((value) => value * 0.06),
  }));
}

/** Every other kind, each on modules of its own. In musubi's names ComfyUI finds weights and biases, no modulations. */
function otherKinds(keys: "musubi" | "comfy"): AdapterValues[] {
  const { dim, ffnDim } = dit;
  let stream = 60_000;
  const draw = (shape: readonly number[], size: number) => normals(shape, stream++).map((value) => value * size);
  const square = { rank: RANK, inputs: dim, outputs: dim, alpha: ALPHA };
  const pair = (module: string) =>
    ({ kind: "lora", module, ...square, down: draw([RANK, dim], 0.06), up: draw([dim, RANK], 0.06) }) as const;
  const change = (parameter: string, shape: number[], replaces = false): AdapterValues => ({
    kind: "difference",
    parameter,
    shape,
    values: draw(shape, 0.05).map((value) => (replaces ? 1 : 0) + value),
    scale: 1,
    replaces,
  });
  return [
    {
      kind: "loha",
      module: "blocks.0.self_attn.q",
      ...square,
      factors: {
        w1_a: draw([dim, RANK], 0.3),
        w1_b: draw([RANK, dim], 0.3),
        w2_a: draw([dim, RANK], 0.3),
        w2_b: draw([RANK, dim], 0.3),
      },
    },
    {
      kind: "lokr",
      module: "blocks.0.ffn.0",
      rank: RANK,
      alpha: ALPHA,
      inputs: dim,
      outputs: ffnDim,
      w1: [{ shape: [8, 8], values: draw([8, 8], 0.1) }],
      w2: [
        { shape: [ffnDim / 8, RANK], values: draw([ffnDim / 8, RANK], 0.3) },
        { shape: [RANK, dim / 8], values: draw([RANK, dim / 8], 0.3) },
      ],
    },
    {
      kind: "dora",
      inner: pair("blocks.1.self_attn.v"),
      rule: "rows",
      magnitude: draw([dim], 0.1).map((value) => 1 + value),
      shape: [dim, 1],
    },
    {
      kind: "dora",
      inner: pair("blocks.1.cross_attn.o"),
      rule: "columns",
      magnitude: draw([dim], 0.1).map((value) => 1 + value),
      shape: [1, dim],
    },
    change("blocks.0.norm3.weight", [dim]),
    change("blocks.0.norm3.bias", [dim]),
    change("blocks.1.self_attn.norm_k.weight", [dim]),
    change("blocks.1.ffn.2.bias", [dim]),
    ...(keys === "comfy" ? [change("blocks.0.modulation", [1, 6, dim])] : []),
    change("head.head.weight", [64, dim]),
    change("blocks.1.norm3.weight", [dim], true),
  ];
}

export const weightsOf = (folder: string, name: string): string => join(folder, "weights", `${name}.safetensors`);
export const loraOf = (folder: string, name: string): string => join(folder, "lora", `${name}.safetensors`);

/** Writes everything; what is there is replaced. */
export async function writeSubject(folder: string): Promise<void> {
  for (const name of ["weights", "lora"]) mkdirSync(join(folder, name), { recursive: true });
  for (const [i, [name, config]] of Object.entries(dits).entries())
    await writeNetwork(weightsOf(folder, name), ditShapes(config), 1 + i);
  for (const [i, [name, config]] of Object.entries(vaes).entries())
    await writeNetwork(weightsOf(folder, name), vaeShapes(config), 5 + i);
  await writeNetwork(weightsOf(folder, "text-encoder"), textEncoderShapes(textEncoder), 8);
  const lora = plainLora();
  for (const keys of loraKeys)
    await writeLora(loraOf(folder, keys), lora, { format: keyFormats[keys], dtype: "f32", expert: "low" });
  for (const keys of ["musubi", "comfy"] as const)
    await writeLora(loraOf(folder, `kinds-${keys}`), otherKinds(keys), { format: keyFormats[keys], dtype: "f32" });
  await writeSafetensors(join(folder, "inputs.safetensors"), [
    ...Object.entries(inputs).map(([name, { shape, values }]) => ({
      name,
      dtype: "f32" as const,
      shape,
      bytes: fromFloat32(values, "f32"),
    })),
    { name: "ids", dtype: "i32", shape: [ids.length], bytes: new Uint8Array(ids.buffer) },
  ]);
  const { sigmas, timesteps } = createScheduler("euler", { steps: STEPS, shift: SHIFT });
  const settings = {
    ...{ sigmas: Array.from(sigmas), timesteps },
    ...{ dits, vaes, textEncoder, strength: STRENGTH, timestep: TIMESTEP, sigma: SIGMA },
    ...{ steps: STEPS, shift: SHIFT, noiseSeed: NOISE_SEED, textLength: TEXT.length, boundaryTokens: 16 },
  };
  writeFileSync(join(folder, "settings.json"), JSON.stringify(settings, null, 1));
}
