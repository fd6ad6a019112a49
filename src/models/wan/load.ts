// Models from the files users have, in any layout, recognised by what is in them. The file stays mapped while they live.
import { KinoraError } from "../../base/errors.ts";
import type { Device } from "../../device/device.ts";
import { openTensorSource, type TensorSource } from "../../io/tensor-source.ts";
import { type LoadOptions, WeightLoader, type WeightReader } from "../../nn/weights.ts";
import { type DitOptions, isBlockWeight, WanDit } from "./dit/dit.ts";
import type { DitConfig } from "./params.ts";
import { type Recognized, recognize } from "./recognize.ts";
import { TextEncoder } from "./text-encoder.ts";
import { statisticsOf } from "./vae/statistics.ts";
import type { ClipDecoder } from "./vae/streams.ts";
import { TinyVae } from "./vae/tiny-vae.ts";
import { WanVae } from "./vae/vae.ts";
import { findComponents } from "./weight-names.ts";
import { mapWeights, readWeights } from "./weights.ts";

export interface LoadedNetwork {
  recognized: Recognized;
  /** Closes the file too. */
  reader: WeightReader;
}

type Kind = Recognized["kind"];

/** Opens the one network of `kinds` in a file or folder. Throws `weights.*` naming what is there instead. */
export function openNetwork(path: string, kinds: readonly Kind[]): LoadedNetwork {
  const source = openTensorSource(path);
  try {
    const components = findComponents(source.names);
    const component = components.find(({ kind }) => kinds.includes(kind));
    if (!component) {
      throw new KinoraError("weights.other-model", `${path} is not a ${kinds.join(" or ")}`, {
        actual: components.length > 0 ? components.map(({ kind }) => kind).join(", ") : "no Wan network",
        hint: "kinora models inspect FILE shows what a file is",
      });
    }
    const recognized = withStatistics(recognize(mapWeights(source, component), path), source);
    const reader = readWeights(source, component, recognized.expected);
    const close = () => {
      reader[Symbol.dispose]();
      source[Symbol.dispose]();
    };
    return { recognized, reader: { names: reader.names, find: reader.find, [Symbol.dispose]: close } };
  } catch (error) {
    source[Symbol.dispose]();
    throw error;
  }
}

/** An autoencoder with the statistics that its files give its latents. */
function withStatistics(recognized: Recognized, source: TensorSource): Recognized {
  if (recognized.kind !== "vae21" && recognized.kind !== "vae22") return recognized;
  const { statistics, notes } = statisticsOf(source, recognized.config);
  return { ...recognized, config: { ...recognized.config, statistics }, notes: [...recognized.notes, ...notes] };
}

/** Builds a model over an opened network; where that fails, the file is closed and what was loaded freed. */
function build<T>(device: Device, reader: WeightReader, options: LoadOptions, make: (weights: WeightLoader) => T): T {
  const weights = new WeightLoader(device, reader, options);
  try {
    return make(weights);
  } catch (error) {
    weights[Symbol.dispose]();
    throw error;
  }
}

export interface ModelOptions extends LoadOptions {
  dtype: "f32" | "bf16";
}

/** How a transformer is loaded: what its products run in, and how many blocks are in memory. */
export type DitLoadOptions = ModelOptions & Pick<DitOptions, "blocks">;

/** A transformer over weights that `reader` reads, which it then owns. */
export function buildDit(
  device: Device,
  reader: WeightReader,
  config: DitConfig,
  options: DitLoadOptions,
): { dit: WanDit; weights: WeightLoader } {
  return build(device, reader, options.blocks ? { ...options, stream: isBlockWeight } : options, (weights) => ({
    dit: new WanDit(weights, config, options),
    weights,
  }));
}

/** A transformer of any variant. */
export function loadDit(device: Device, path: string, options: DitLoadOptions): WanDit {
  const network = openNetwork(path, ["dit"]);
  const { recognized } = network;
  if (recognized.kind !== "dit") throw unreachable(recognized);
  return buildDit(device, network.reader, recognized.config, options).dit;
}

/** The autoencoder in a file, in any layout; `half` builds only one half. @throws KinoraError `weights.*`. */
export function loadVae(
  device: Device,
  path: string,
  options: ModelOptions & { half?: "encoder" | "decoder" },
): WanVae {
  const network = openNetwork(path, ["vae21", "vae22"]);
  const { recognized } = network;
  if (recognized.kind !== "vae21" && recognized.kind !== "vae22") throw unreachable(recognized);
  return build(device, network.reader, options, (weights) => new WanVae(weights, recognized.config, options));
}

/**
 * What decodes latents: Wan's own autoencoder, or a tiny one, whichever the file holds. @throws KinoraError `weights.*`.
 */
export function loadDecoder(device: Device, path: string, options: ModelOptions): ClipDecoder {
  const network = openNetwork(path, ["vae21", "vae22", "tae"]);
  const { recognized, reader } = network;
  if (recognized.kind === "tae")
    return build(device, reader, options, (weights) => new TinyVae(weights, recognized.config, { half: "decoder" }));
  if (recognized.kind !== "vae21" && recognized.kind !== "vae22") throw unreachable(recognized);
  return build(
    device,
    reader,
    options,
    (weights) => new WanVae(weights, recognized.config, { ...options, half: "decoder" }),
  );
}

/**
 * The text encoder in a file or folder, in any layout. Quantised weights stay so: each is used once or twice before the
 * encoder goes. @throws KinoraError `weights.*`.
 */
export function loadTextEncoder(device: Device, path: string, options: ModelOptions): TextEncoder {
  const network = openNetwork(path, ["text-encoder"]);
  const { recognized } = network;
  if (recognized.kind !== "text-encoder") throw unreachable(recognized);
  const kept = { keepQuantized: true, ...options };
  return build(device, network.reader, kept, (weights) => new TextEncoder(weights, recognized.config, options));
}

function unreachable({ kind }: Recognized): KinoraError {
  return new KinoraError("weights.other-model", `this is a ${kind}, not the network that is needed`, {
    hint: "kinora models inspect FILE says what it is",
  });
}
