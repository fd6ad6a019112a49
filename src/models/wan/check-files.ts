// That a file holds the network a model needs: told from names and shapes, before anything long begins.
import { KinoraError } from "../../base/errors.ts";
import { type LoadedNetwork, openNetwork } from "./load.ts";
import type { WanModel } from "./params.ts";
import type { Recognized, RecognizedDit } from "./recognize.ts";
import { type VaeConfig, vaeConfigs } from "./vae/config.ts";
import { type TinyVaeConfig, tinyStride } from "./vae/tiny-vae.ts";
import { ditShapes, type Shapes } from "./weight-shapes.ts";

function wrongModel(path: string, model: WanModel, expected: string, found: Recognized): KinoraError {
  const other = found.kind === "dit" ? found.models[0] : undefined;
  return new KinoraError("checkpoint.wrong-model", `${path} is not suitable for ${model.name}`, {
    expected,
    actual: found.label,
    hint: other
      ? `choose ${other} (\`model\`; [model] name of a configuration), or another file`
      : "kinora models inspect FILE shows more",
  });
}

function sameShapes(a: Shapes, b: Shapes): boolean {
  return a.size === b.size && [...a].every(([name, shape]) => String(b.get(name)) === String(shape));
}

/** Opens a file, hands on what `look` finds, and closes it unless it is `kept`. */
function recognized<T>(
  path: string,
  kinds: Parameters<typeof openNetwork>[1],
  look: (network: LoadedNetwork) => T,
  { kept = false } = {},
): T {
  const network = openNetwork(path, kinds);
  let fits = false;
  try {
    const result = look(network);
    fits = true;
    return result;
  } finally {
    if (!kept || !fits) network.reader[Symbol.dispose]();
  }
}

export interface OpenTransformer extends LoadedNetwork {
  recognized: RecognizedDit;
}

function asTransformer(network: LoadedNetwork, path: string, model: WanModel): OpenTransformer {
  const { recognized: found } = network;
  if (found.kind === "dit" && sameShapes(found.expected, ditShapes(model.dit)))
    return { ...network, recognized: found };
  throw wrongModel(path, model, `the transformer of ${model.name}`, found);
}

/** Opens a transformer of `model`; the caller closes it. Throws `checkpoint.wrong-model`, `weights.*`, `io.*`. */
export function openTransformer(path: string, model: WanModel): OpenTransformer {
  return recognized(path, ["dit"], (network) => asTransformer(network, path, model), { kept: true });
}

/** Throws `checkpoint.wrong-model`, `weights.*`, `io.*`. */
export function checkTransformer(path: string, model: WanModel): RecognizedDit {
  return recognized(path, ["dit"], (network) => asTransformer(network, path, model).recognized);
}

/**
 * `notes` are words about the file. `tiny`: a tiny autoencoder is as good, which takes the latents of the model's own, whose
 * sizes are then given. Throws `checkpoint.wrong-model`, `weights.*`, `vae.*`, `io.*`.
 */
export function checkAutoencoder(
  path: string,
  model: WanModel,
  { tiny = false } = {},
): { config: VaeConfig; tiny: boolean; notes: readonly string[] } {
  return recognized(path, tiny ? ["vae21", "vae22", "tae"] : ["vae21", "vae22"], ({ recognized: found }) => {
    if (found.kind === "tae" && fitsTiny(found.config, model)) {
      return { config: vaeConfigs[model.vae.kind], tiny: true, notes: found.notes };
    }
    if (found.kind === model.vae.kind && found.config.zDim === model.vae.channels)
      return { config: found.config, tiny: false, notes: found.notes };
    throw wrongModel(path, model, `the Wan ${model.vae.kind === "vae21" ? "2.1" : "2.2"} autoencoder`, found);
  });
}

const fitsTiny = (config: TinyVaeConfig, { vae }: WanModel): boolean =>
  config.zDim === vae.channels && String(tinyStride(config)) === String(vae.stride);

/** That a file is a tiny autoencoder for the model's latents. Throws `checkpoint.wrong-model`, `weights.*`, `io.*`. */
export function checkTiny(path: string, model: WanModel): void {
  recognized(path, ["tae"], ({ recognized: found }) => {
    if (found.kind === "tae" && fitsTiny(found.config, model)) return;
    throw wrongModel(path, model, `a tiny autoencoder for ${model.vae.channels} latent channels`, found);
  });
}

/** `notes` are words about the file. Throws `checkpoint.wrong-model`, `weights.*`, `io.*`. */
export function checkTextEncoder(path: string, model: WanModel): { notes: readonly string[] } {
  return recognized(path, ["text-encoder"], ({ recognized: found }) => {
    if (found.kind === "text-encoder" && found.config.dim === model.dit.textDim) return { notes: found.notes };
    throw wrongModel(path, model, `a UMT5 encoder of width ${model.dit.textDim}`, found);
  });
}
