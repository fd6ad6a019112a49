// Settings of a preparation: read from a file, checked, joined with the model's own wishes.
import { KinoraError } from "../../base/errors.ts";
import type { Row } from "../../base/rows.ts";
import { checkKeys, keyTree } from "../../io/config/keys.ts";
import { type ConfigKind, readConfigFile } from "../../io/config/read.ts";
import { invalidValues } from "../../io/config/values.ts";
import { findModel, type ModelName, mediaOf, modelNames } from "../../protocol/model-media.ts";
import { wanModels } from "../../protocol/models.ts";
import { type PrepareConfig, type PrepareConfigInput, prepareConfigSchema } from "../../protocol/prepare-config.ts";

/** Everything decided: the file's settings with defaults, and what the model fixes. */
export interface PrepareSettings extends PrepareConfig {
  model: ModelName;
  resolution: [number, number];
  fps: number;
  sizeMultiple: number;
}

const prepareConfig: ConfigKind = {
  code: "prepare-config",
  name: "the settings file",
  hint: "docs/dataset.md lists every setting",
};

const invalid = (message: string, hint: string) => new KinoraError("prepare-config.invalid", message, { hint });

/**
 * Reads a settings file (.toml or .json); `notices` are for whoever wrote it.
 * @throws KinoraError `prepare-config.unreadable`, `.syntax`, `.unknown-key`, `.invalid`, `model.unknown`.
 */
export async function readPrepareConfig(file: string): Promise<{ config: PrepareConfigInput; notices: string[] }> {
  const { root, notices } = await readConfigFile(prepareConfig, file);
  check(root);
  return { config: root as PrepareConfigInput, notices };
}

/** Keys and values, each by itself. */
function check(input: Row): PrepareConfig {
  if (typeof input.model === "string") findModel(input.model);
  checkKeys(prepareConfig, input, keyTree(prepareConfigSchema));
  const parsed = prepareConfigSchema.safeParse(input);
  if (parsed.success) return parsed.data;
  throw invalidValues(prepareConfig, parsed.error.issues, input);
}

function largest(sizes: PrepareConfig["sizes"]): [number, number] | undefined {
  return sizes?.reduce((most, size) => (size[0] * size[1] > most[0] * most[1] ? size : most));
}

/**
 * Checks settings and fills in the model's.
 * @throws KinoraError `prepare-config.unknown-key` (naming the nearest), `.invalid`, `.no-model`, and `model.unknown`.
 */
export function settlePrepareConfig(input: PrepareConfigInput): PrepareSettings {
  const checked = check({ ...input });
  const { shortest, longest } = checked.clips;
  // Whoever wants short clips has said so by the longest.
  const clips =
    input.clips?.shortest === undefined ? { longest, shortest: Math.min(shortest, longest) } : checked.clips;
  const config = { ...checked, clips };
  const { model } = config;
  if (!model)
    throw new KinoraError("prepare-config.no-model", "no model was given", {
      hint: `add \`model\`, one of ${modelNames.join(", ")}`,
    });
  const media = mediaOf(wanModels[model]);
  if (config.clips.shortest > config.clips.longest)
    throw invalid(
      `clips.shortest (${config.clips.shortest} s) exceeds clips.longest (${config.clips.longest} s)`,
      "lower the first or raise the second",
    );
  if (config.in_place && config.normalize)
    throw invalid("normalize changes pixels, but in_place writes none", "choose one of the two");
  if (config.sizes && config.resolution)
    throw invalid("both sizes and resolution are given", "sizes override resolution: remove one of them");
  for (const [width, height] of [...(config.sizes ?? []), ...(config.resolution ? [config.resolution] : [])])
    if (width % media.sizeMultiple !== 0 || height % media.sizeMultiple !== 0)
      throw invalid(`${width}×${height} is not a valid size for ${model}`, `use multiples of ${media.sizeMultiple}`);
  return {
    ...config,
    model,
    // Who reads the set keeps to this area: with fixed sizes that of the largest, so that none is made smaller.
    resolution: config.resolution ?? largest(config.sizes) ?? [...media.defaultSize],
    fps: media.fps,
    sizeMultiple: media.sizeMultiple,
  };
}
