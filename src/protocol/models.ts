// Every model as a row: the sizes its layers need, how it takes a picture, and the defaults its pipeline runs with.
// It stands this low because data sets and configurations ask it too; the engine takes it through models/wan/params.ts.
// Adding one: docs/extending.md. Source: wan/configs/*.py of Wan2.2 (42bf4cf) and Wan2.1 (9737cba).

/** What the transformer's layers need to know. Field by field the arguments of the official WanModel. */
export interface DitConfig {
  /** [t, h, w] latent pixels of one token. */
  patchSize: readonly [number, number, number];
  textLength: number;
  inputChannels: number;
  outputChannels: number;
  dim: number;
  ffnDim: number;
  /** Width of the timestep sinusoid. */
  frequencyDim: number;
  textDim: number;
  heads: number;
  layers: number;
  eps: number;
  /** 2.1 image-to-video: CLIP features beside the text in cross-attention. */
  imageBranch?: {
    featureDim: number;
    /** FLF2V: features of two pictures, with a learned position. */
    firstLast: boolean;
  };
}

export interface VaeReference {
  kind: "vae21" | "vae22";
  /** Pixels per latent pixel: [t, h, w]. */
  stride: readonly [number, number, number];
  channels: number;
}

export const vae21: VaeReference = { kind: "vae21", stride: [4, 8, 8], channels: 16 };
export const vae22: VaeReference = { kind: "vae22", stride: [4, 16, 16], channels: 48 };

/** How a picture enters: not at all, beside the latents as channels, with CLIP too, both ends, or as latent frame 0. */
export type ImageInput = "none" | "channels" | "channels+clip" | "first-last+clip" | "first-frame";

/** A row of the table of models. */
export interface WanModel {
  name: string;
  family: "2.1" | "2.2";
  dit: DitConfig;
  vae: VaeReference;
  image: ImageInput;
  /** Two experts: the high-noise one runs while t ≥ boundary·1000. */
  boundary?: number;
  /** Ships with Kinora (kinora-tiny); the others are published by Wan-AI and of full size. */
  bundled?: true;
  /** What Kinora has yet to learn before this model generates or trains. Its files are recognised all the same. */
  lacking?: string;
  /** Width and height of its usual training clips, where these are not those of `defaults`. */
  clipSize?: readonly [width: number, height: number];
  defaults: {
    steps: number;
    shift: number;
    /** Guidance scale; for two experts [low, high]. */
    guidance: number | readonly [low: number, high: number];
    frames: number;
    fps: number;
    width: number;
    height: number;
  };
}

/** Heads of the published width, 128, so that sizes are told from shapes as for the large models. */
const tiny = {
  patchSize: [1, 2, 2],
  textLength: 32,
  frequencyDim: 64,
  textDim: 128,
  eps: 1e-6,
  dim: 256,
  ffnDim: 768,
  heads: 2,
  layers: 3,
} as const;

const common = { patchSize: [1, 2, 2], textLength: 512, frequencyDim: 256, textDim: 4096, eps: 1e-6 } as const;
const dit14b = { ...common, dim: 5120, ffnDim: 13824, heads: 40, layers: 40, outputChannels: 16 } as const;

/** Every model by its name: architecture, autoencoder, defaults of a generation. */
export const wanModels = {
  "t2v-A14B": {
    name: "t2v-A14B",
    family: "2.2",
    dit: { ...dit14b, inputChannels: 16 },
    vae: vae21,
    image: "none",
    boundary: 0.875,
    clipSize: [832, 480],
    defaults: { steps: 40, shift: 12, guidance: [3, 4], frames: 81, fps: 16, width: 1280, height: 720 },
  },
  "i2v-A14B": {
    name: "i2v-A14B",
    family: "2.2",
    dit: { ...dit14b, inputChannels: 36 },
    vae: vae21,
    image: "channels",
    boundary: 0.9,
    clipSize: [832, 480],
    defaults: { steps: 40, shift: 5, guidance: [3.5, 3.5], frames: 81, fps: 16, width: 1280, height: 720 },
  },
  "ti2v-5B": {
    name: "ti2v-5B",
    family: "2.2",
    dit: { ...common, dim: 3072, ffnDim: 14336, heads: 24, layers: 30, inputChannels: 48, outputChannels: 48 },
    vae: vae22,
    image: "first-frame",
    defaults: { steps: 50, shift: 5, guidance: 5, frames: 121, fps: 24, width: 1280, height: 704 },
  },
  "t2v-1.3B": {
    name: "t2v-1.3B",
    family: "2.1",
    dit: { ...common, dim: 1536, ffnDim: 8960, heads: 12, layers: 30, inputChannels: 16, outputChannels: 16 },
    vae: vae21,
    image: "none",
    defaults: { steps: 50, shift: 5, guidance: 5, frames: 81, fps: 16, width: 832, height: 480 },
  },
  "t2v-14B": {
    name: "t2v-14B",
    family: "2.1",
    dit: { ...dit14b, inputChannels: 16 },
    vae: vae21,
    image: "none",
    clipSize: [832, 480],
    defaults: { steps: 50, shift: 5, guidance: 5, frames: 81, fps: 16, width: 1280, height: 720 },
  },
  "i2v-14B": {
    name: "i2v-14B",
    family: "2.1",
    dit: { ...dit14b, inputChannels: 36, imageBranch: { featureDim: 1280, firstLast: false } },
    vae: vae21,
    image: "channels+clip",
    lacking: "CLIP features of the picture",
    clipSize: [832, 480],
    defaults: { steps: 40, shift: 5, guidance: 5, frames: 81, fps: 16, width: 1280, height: 720 },
  },
  "flf2v-14B": {
    name: "flf2v-14B",
    family: "2.1",
    dit: { ...dit14b, inputChannels: 36, imageBranch: { featureDim: 1280, firstLast: true } },
    vae: vae21,
    image: "first-last+clip",
    lacking: "CLIP features of the picture",
    clipSize: [832, 480],
    defaults: { steps: 50, shift: 16, guidance: 5, frames: 81, fps: 16, width: 1280, height: 720 },
  },
  /** kinora-tiny: the architecture of t2v-A14B, small enough to ship (models/README.md). */
  "tiny-t2v": {
    name: "tiny-t2v",
    family: "2.2",
    bundled: true,
    dit: { ...tiny, inputChannels: 16, outputChannels: 16 },
    vae: vae21,
    image: "none",
    boundary: 0.875,
    defaults: { steps: 12, shift: 5, guidance: [3, 3], frames: 9, fps: 16, width: 64, height: 64 },
  },
  /** The architecture of ti2v-5B. */
  "tiny-ti2v": {
    name: "tiny-ti2v",
    family: "2.2",
    bundled: true,
    dit: { ...tiny, layers: 4, ffnDim: 1152, inputChannels: 48, outputChannels: 48 },
    vae: vae22,
    image: "first-frame",
    defaults: { steps: 12, shift: 5, guidance: 3, frames: 9, fps: 24, width: 128, height: 128 },
  },
} as const satisfies Record<string, WanModel>;

/** The name of a model, e.g. `t2v-A14B`. */
export type ModelName = keyof typeof wanModels;
