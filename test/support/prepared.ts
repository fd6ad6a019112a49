// Running a preparation in a test and reading what it left.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import {
  type PrepareEvent,
  type PrepareRequest,
  type PrepareSummary,
  prepareDataset,
} from "../../src/dataset/prepare/prepare.ts";
import { type DatasetManifest, datasetManifestSchema, type ManifestItem } from "../../src/protocol/dataset-manifest.ts";
import type { PrepareConfigInput } from "../../src/protocol/prepare-config.ts";

/** Small and quick: about 200×112 at 16 frames a second. */
export const quick = {
  model: "t2v-A14B",
  resolution: [208, 112],
  clips: { shortest: 1, longest: 10 },
  video: { preset: "ultrafast" },
} satisfies PrepareConfigInput;

export interface Prepared {
  summary: PrepareSummary;
  manifest: DatasetManifest;
  problems: Extract<PrepareEvent, { type: "problem" }>[];
  items: Map<string, ManifestItem>;
}

export async function prepare(
  sources: readonly string[],
  out: string,
  config: PrepareConfigInput = quick,
  more: Partial<PrepareRequest> = {},
): Promise<Prepared> {
  const problems: Prepared["problems"] = [];
  let summary: PrepareSummary | undefined;
  for await (const event of prepareDataset({ sources, out, config, ...more })) {
    if (event.type === "problem") problems.push(event);
    if (event.type === "finished") summary = event.summary;
  }
  const manifest = readManifestFile(out);
  return { summary: summary!, manifest, problems, items: new Map(manifest.items.map((item) => [item.id, item])) };
}

export function readManifestFile(out: string): DatasetManifest {
  return datasetManifestSchema.parse(JSON.parse(readFileSync(join(out, "manifest.json"), "utf8")));
}

/** Content hashes of all files under a folder, by path; hidden folders left out. */
export function contents(folder: string): Record<string, string> {
  const found: Record<string, string> = {};
  const walk = (place: string) => {
    for (const name of readdirSync(place).sort()) {
      const path = join(place, name);
      if (name.startsWith(".")) continue;
      if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) walk(path);
      else found[relative(folder, path)] = createHash("sha256").update(readFileSync(path)).digest("hex");
    }
  };
  walk(folder);
  return found;
}
