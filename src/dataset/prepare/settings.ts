// Settings of a preparation: read from a file, checked, joined with the model's own wishes.
import { readFile } from "node:fs/promises";
import { extname } from "node:path";
import { parse as parseToml, TomlError } from "smol-toml";
import { z } from "zod";
import { KinoraError } from "../../base/errors.ts";
import { nearestName } from "../../base/nearest.ts";
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

const fail = (code: string, message: string, hint?: string, cause?: unknown) =>
  new KinoraError(`prepare-config.${code}`, message, { ...(hint ? { hint } : {}), cause });

/** Reads a settings file (.toml or .json). @throws KinoraError `prepare-config.unreadable`, `.syntax`, and as `settle`. */
export async function readPrepareConfig(file: string): Promise<PrepareConfigInput> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    throw fail("unreadable", `the settings file ${JSON.stringify(file)} cannot be read: ${(error as Error).message}`);
  }
  try {
    return (extname(file).toLowerCase() === ".json" ? JSON.parse(text) : parseToml(text)) as PrepareConfigInput;
  } catch (error) {
    const where = error instanceof TomlError ? `, line ${error.line}, column ${error.column}` : "";
    const what = (error as Error).message.split("\n")[0]!;
    throw fail("syntax", `${JSON.stringify(file)}${where}: ${what}`, undefined, error);
  }
}

/** The names allowed at a place of the schema, for an error that helps. */
function keysAt(path: readonly PropertyKey[]): string[] {
  let schema: unknown = prepareConfigSchema;
  const unwrap = (value: unknown): unknown => {
    let inner = value;
    while (inner instanceof z.ZodPrefault || inner instanceof z.ZodOptional || inner instanceof z.ZodDefault)
      inner = inner.unwrap();
    if (inner instanceof z.ZodUnion) return inner.options.find((option) => option instanceof z.ZodObject);
    return inner;
  };
  for (const key of path) {
    const object = unwrap(schema);
    schema = object instanceof z.ZodObject ? (object.shape as Record<string, unknown>)[String(key)] : undefined;
  }
  const object = unwrap(schema);
  return object instanceof z.ZodObject ? Object.keys(object.shape) : [];
}

function describe(issues: readonly z.core.$ZodIssue[]): KinoraError {
  const issue = issues[0]!;
  const place = issue.path.join(".");
  if (issue.code === "invalid_union") {
    const inner = issue.errors.flat().find((entry) => entry.code === "unrecognized_keys") ?? issue.errors.flat().at(-1);
    if (inner) return describe([{ ...inner, path: [...issue.path, ...inner.path] } as z.core.$ZodIssue]);
  }
  if (issue.code === "unrecognized_keys") {
    const key = issue.keys[0]!;
    const known = keysAt(issue.path);
    const near = nearestName(key, known);
    return fail(
      "unknown-key",
      `unknown setting ${place ? `${place}.` : ""}${key}`,
      near ? `did you mean ${near}?` : `known here: ${known.join(", ")}`,
    );
  }
  return fail("invalid", `the setting ${place || "file"} is wrong: ${issue.message}`);
}

function largest(sizes: PrepareConfig["sizes"]): [number, number] | undefined {
  return sizes?.reduce((most, size) => (size[0] * size[1] > most[0] * most[1] ? size : most));
}

/**
 * Checks settings and fills in the model's.
 * @throws KinoraError `prepare-config.unknown-key` (naming the nearest), `.invalid`, `.no-model`, and `model.unknown`.
 */
export function settlePrepareConfig(input: PrepareConfigInput): PrepareSettings {
  if (typeof input.model === "string") findModel(input.model);
  const parsed = prepareConfigSchema.safeParse(input);
  if (!parsed.success) throw describe(parsed.error.issues);
  const config = parsed.data;
  const { model } = config;
  if (!model) throw fail("no-model", "no model is named", `add --model, one of ${modelNames.join(", ")}`);
  const media = mediaOf(wanModels[model]);
  if (config.clips.shortest > config.clips.longest)
    throw fail(
      "invalid",
      `clips.shortest (${config.clips.shortest} s) is over clips.longest (${config.clips.longest} s)`,
    );
  if (config.in_place && config.normalize)
    throw fail("invalid", "normalize changes pixels, in_place writes none", "choose one of the two");
  if (config.sizes && config.resolution)
    throw fail(
      "invalid",
      "sizes and resolution are both given",
      "sizes alone decide where they are given: leave one out",
    );
  for (const [width, height] of [...(config.sizes ?? []), ...(config.resolution ? [config.resolution] : [])])
    if (width % media.sizeMultiple !== 0 || height % media.sizeMultiple !== 0)
      throw fail("invalid", `${width}×${height} is no size for ${model}`, `use multiples of ${media.sizeMultiple}`);
  return {
    ...config,
    model,
    // Who reads the set keeps to this area: with fixed sizes that of the largest, so that none is made smaller.
    resolution: config.resolution ?? largest(config.sizes) ?? [...media.defaultSize],
    fps: media.fps,
    sizeMultiple: media.sizeMultiple,
  };
}
