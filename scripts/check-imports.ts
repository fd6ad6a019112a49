// Checks that imports point down the tree: a folder may import only folders that stand below it (see docs/architecture.md).
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../src/", import.meta.url));

/** Tables of pure arithmetic inside a higher folder; they stand low, so that protocol/ takes its names from them. */
const tables = ["sample/schedulers", "sample/noise", "sample/guidance", "sample/caches"];

/** What each folder of src/ may import, beside itself and folders inside those it names. */
const below: Readonly<Record<string, readonly string[]>> = {
  base: [],
  ...Object.fromEntries(tables.map((table) => [table, ["base"]])),
  "sample/caches": ["base", "sample/guidance"],
  protocol: ["base", ...tables],
  ffi: ["base"],
  device: ["base", "protocol", "ffi"],
  tensor: ["base", "ffi", "device"],
  nn: ["base", "ffi", "device", "tensor"],
  io: ["base", "protocol", "ffi"],
  models: ["base", "protocol", "ffi", "io", "device", "tensor", "nn"],
  dataset: ["base", "protocol", "io"],
  lora: ["base", "protocol", "io", "device", "tensor", "nn", "models"],
  cache: ["base", "protocol", "io", "device", "tensor", "nn", "models", "dataset"],
  train: ["base", "protocol", "ffi", "io", "device", "tensor", "nn", "models", "dataset", "cache", "lora"],
  sample: ["base", "protocol", "ffi", "io", "device", "tensor", "nn", "models", "lora"],
  registry: ["base", "protocol", "io"],
  judge: ["base", "protocol", "io", "dataset"],
  // Composes them: previews of training are made by sampling, which training itself knows nothing of.
  jobs: [
    ...["base", "protocol", "ffi", "io", "device", "tensor", "nn", "models"],
    ...["dataset", "cache", "lora", "train", "sample", "registry", "judge"],
  ],
  server: ["base", "protocol", "io", "dataset", "cache", "lora", "train", "sample", "registry", "jobs"],
  cli: [
    "base",
    "protocol",
    "ffi",
    "io",
    "device",
    "tensor",
    "nn",
    "models",
    "dataset",
    "cache",
    "lora",
    "train",
    "sample",
    "registry",
    "jobs",
    "server",
  ],
};

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sources(path);
    return path.endsWith(".ts") ? [path] : [];
  });
}

/** The innermost folder of the list that a file is in, else its outermost. */
function room(path: string): string {
  const parts = relative(root, path).split(/[\\/]/);
  const folders = parts.map((_, i) => parts.slice(0, i + 1).join("/"));
  return folders.findLast((folder) => folder in below) ?? folders[0]!;
}

const within = (folder: string, target: string): boolean => target === folder || target.startsWith(`${folder}/`);

/** What packages import: they may look into every room. */
const doors = ["index.ts", "engine.ts"];

const problems: string[] = [];
for (const file of sources(root)) {
  const from = room(file);
  if (doors.includes(from)) continue;
  const allowed = below[from];
  if (!allowed) {
    problems.push(`src/${from}/ is not in the tree of scripts/check-imports.ts`);
    continue;
  }
  for (const [, specifier] of readFileSync(file, "utf8").matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]*)"/g)) {
    const target = room(resolve(dirname(file), specifier!));
    if ([from, ...allowed].some((folder) => within(folder, target))) continue;
    problems.push(`${relative(root, file)} imports ${target}/, which does not stand below ${from}/`);
  }
}
for (const problem of new Set(problems)) console.error(problem);
if (problems.length > 0) process.exitCode = 1;
else console.log("imports point down");
