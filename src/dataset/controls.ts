// The control picture or clip of each picture or clip: found by name in a folder, or asked for where one is missing.
import { basename } from "node:path";
import { KinoraError } from "../base/errors.ts";
import { spellingKey } from "../io/disk-names.ts";
import type { SourceEntry } from "./listing.ts";
import { byCodePoint, type FolderEntry, listFolder, mediaKind, withoutExtension } from "./media-files.ts";

/**
 * Finds each entry's control in `folder`: for a clip the same name, a folder of that stem, or the stem with another
 * extension; for a picture the stem, or the stem with the lowest number (`name_0.png`). Longer names choose first, so
 * `a_1` is not taken for the second control of `a`.
 */
export async function addControls(entries: readonly SourceEntry[], folder: string): Promise<void> {
  // By keys: a name's two spellings are one.
  const free = new Map<string, FolderEntry>(
    (await listFolder(folder)).map((entry) => [spellingKey(basename(entry.path)), entry]),
  );
  const longestFirst = [...entries].sort((a, b) => basename(b.file).length - basename(a.file).length);
  for (const entry of longestFirst) {
    const stem = spellingKey(withoutExtension(basename(entry.file)));
    if (entry.kind === "video") {
      const names = [...free.keys()].filter((name) => mediaKind(name) === "video" && withoutExtension(name) === stem);
      const name = [spellingKey(basename(entry.file)), stem, ...names.sort(byCodePoint)].find((candidate) => {
        const found = free.get(candidate);
        return found !== undefined && (candidate !== stem || found.folder);
      });
      if (name !== undefined) entry.control = free.get(name)!.path;
      continue;
    }
    const numbered = [...free.keys()].flatMap((name) => {
      if (mediaKind(name) !== "image" || !name.startsWith(stem)) return [];
      const rest = withoutExtension(name).slice(stem.length);
      const number = rest === "" ? -1 : Number(/^_(\d+)$/.exec(rest)?.[1] ?? Number.NaN);
      return Number.isNaN(number) ? [] : [{ name, number }];
    });
    numbered.sort((a, b) => a.number - b.number || byCodePoint(a.name, b.name));
    if (numbered[0]) entry.control = free.get(numbered[0].name)!.path;
    for (const { name } of numbered) free.delete(name);
  }
  requireControls(entries, folder);
}

/** @throws KinoraError `dataset.no-control` where some have none. */
export function requireControls(entries: readonly SourceEntry[], place: string): void {
  const missing = entries.filter((entry) => entry.control === undefined);
  if (missing.length === 0) return;
  const names = missing.slice(0, 5).map((entry) => basename(entry.file));
  throw new KinoraError(
    "dataset.no-control",
    `${missing.length} of ${entries.length} files have no control in ${JSON.stringify(place)}: ${names.join(", ")}${missing.length > 5 ? " …" : ""}`,
    { hint: "a control has the same name as its picture or clip (any extension), or a control_path in the JSONL" },
  );
}
