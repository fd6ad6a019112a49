// Names of files as a disk spells them. One name has two spellings in Unicode, é as one letter or as e and an accent:
// macOS writes the second, most else the first, and other systems take them for two files. Here they are one name.
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/** What names are compared by. */
export const spellingKey = (name: string): string => name.normalize("NFC");

export const sameName = (a: string, b: string): boolean => spellingKey(a) === spellingKey(b);

/** Finds files by their names, listing each folder at most once. For one pass over folders, not to be kept. */
export class DiskNames {
  readonly #folders = new Map<string, Promise<ReadonlyMap<string, string> | undefined>>();

  /** The path as the disk spells it; undefined where nothing is there. The spelling given goes first. */
  async find(path: string): Promise<string | undefined> {
    const name = basename(path);
    const parent = dirname(path);
    if (name === "" || parent === path) return (await exists(path)) ? path : undefined;
    const names = await this.#list(parent);
    if (names) {
      const spelled = names.get(name) ?? names.get(spellingKey(name));
      if (spelled !== undefined) return spelled === name ? path : join(parent, spelled);
      // Some disks tell no case apart.
      return (await exists(path)) ? path : undefined;
    }
    // A folder that may be entered and not listed, one above that is spelled otherwise, or none.
    if (await exists(path)) return path;
    const folder = await this.find(parent);
    return folder === undefined || folder === parent ? undefined : this.find(join(folder, name));
  }

  /** The path as the disk spells it, or as given where nothing is there: where a new file would be. */
  async spelled(path: string): Promise<string> {
    return (await this.find(path)) ?? path;
  }

  /** Every name as it is, and under its key. */
  #list(folder: string): Promise<ReadonlyMap<string, string> | undefined> {
    const known = this.#folders.get(folder);
    if (known) return known;
    const listing = readdir(folder).then(
      (names) =>
        new Map([
          ...names.map((name) => [spellingKey(name), name] as const),
          ...names.map((name) => [name, name] as const),
        ]),
      () => undefined,
    );
    this.#folders.set(folder, listing);
    return listing;
  }
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );
