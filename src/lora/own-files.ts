// Kinora's own files among those that people ask about: states of runs, cache entries, saved latents, and the JSON files
// beside them. Told from their metadata; what they are for, and whether they are what was written.
import { closeSync, openSync, readSync, statSync } from "node:fs";
import { isKinoraError } from "../base/errors.ts";
import { shapeText } from "../base/shape.ts";
import { verifyChecksum } from "../io/checksum.ts";
import type { TensorSource } from "../io/named-tensors.ts";
import { SafetensorsFile } from "../io/safetensors.ts";
import { parseRecipe, RECIPE_KEY } from "../protocol/recipe.ts";

export interface OwnFile {
  /** In a line. */
  readonly what: string;
  /** What there is to know, and which command reads it. */
  readonly facts: readonly (readonly [label: string, text: string])[];
}

type Describe = (source: TensorSource) => OwnFile;

const shapesOf = (source: TensorSource): string =>
  source.names.map((name) => `${name} ${shapeText(source.info(name).shape)}`).join(", ");

function soundness(source: TensorSource): OwnFile["facts"] {
  if (!(source instanceof SafetensorsFile)) return [];
  const found = verifyChecksum(source);
  if (found === "absent") return [];
  return [["checksum", found === "right" ? "OK" : "MISMATCH: the file has changed since it was written"]];
}

/** Of the metadata `kind`. */
const kinds: Readonly<Record<string, Describe>> = {
  "kinora.train-expert"(source) {
    const trained = source.names.filter((name) => name.startsWith("parameter/"));
    // A model with one transformer trains what is called the low-noise expert.
    const whose = source.metadata.expert === "high" ? " of the high-noise expert" : "";
    return {
      what: `the state${whose} of a training run: ${trained.length} trained tensors and what its optimizer keeps`,
      facts: [
        ["use", "kinora train resumes from it; the LoRA or transformer for generating is next to the state folder"],
      ],
    };
  },
  "kinora.latents": (source) => ({
    what: `a clip's cached latents: ${shapesOf(source)}`,
    facts: [...cacheFacts(source), ...soundness(source)],
  }),
  "kinora.texts": (source) => ({
    what: `a text's cached embedding: ${shapesOf(source)}`,
    facts: [...cacheFacts(source), ...soundness(source)],
  }),
};

/** The source and the sizes, of all that decided a cache entry. */
function cacheFacts({ metadata }: TensorSource): OwnFile["facts"] {
  return [
    ["made from", metadata.facts ?? "unknown"],
    ["use", "kinora train reads it from its cache, and rebuilds it if it is missing"],
  ];
}

function savedLatents(source: TensorSource): OwnFile {
  const shape = source.has("latents") ? shapeText(source.info("latents").shape) : "missing";
  const facts: (readonly [string, string])[] = [];
  try {
    const recipe = parseRecipe(source.metadata[RECIPE_KEY]!, source.path);
    facts.push(["task", recipe.task], ["prompt", recipe.prompt], ["seed", recipe.seed]);
  } catch (error) {
    if (!isKinoraError(error)) throw error;
    facts.push(["problem", error.message]);
  }
  facts.push([
    "use",
    "kinora show FILE prints all of its recipe; kinora generate --resume continues it, --from repeats it",
  ]);
  return { what: `latents ${shape} of a generation, with its recipe`, facts: [...facts, ...soundness(source)] };
}

/** What a weight file is where Kinora wrote it for itself; undefined for all others. */
export function ownFile(source: TensorSource): OwnFile | undefined {
  const describe = kinds[source.metadata.kind ?? ""];
  if (describe) return describe(source);
  return source.metadata[RECIPE_KEY] === undefined ? undefined : savedLatents(source);
}

/** JSON files by their `kind`. */
const jsonKinds: Readonly<Record<string, readonly [what: string, use: string]>> = {
  "kinora.train-state": ["the progress of a training run", "kinora train CONFIG resumes from it"],
  "kinora.dataset": ["the manifest of a prepared set", "kinora dataset inspect DIR reads it"],
  "kinora.recipe": ["the recipe of a generation", "kinora generate --from takes the video or latents that contain it"],
  "kinora.registry": ["a registry", "kinora registry reads its folder"],
};

/** Enough of a JSON file to find its kind in; our files have it first. */
const HEAD = 4096;

/** What a JSON file is where Kinora wrote it; undefined for any other file. */
export function ownJson(path: string): OwnFile | undefined {
  if (!/\.json$/i.test(path) || !statSync(path, { throwIfNoEntry: false })?.isFile()) return undefined;
  const file = openSync(path, "r");
  try {
    const buffer = Buffer.alloc(HEAD);
    const text = buffer.subarray(0, readSync(file, buffer, 0, HEAD, 0)).toString("utf8");
    const kind = /"kind"\s*:\s*"(kinora\.[\w.-]+)"/.exec(text)?.[1];
    const [what, use] = (kind && jsonKinds[kind]) || [];
    return what && use ? { what: `${what}, no weights`, facts: [["use", use]] } : undefined;
  } finally {
    closeSync(file);
  }
}
