// A path read from a file (a manifest, a state, a journal) may only name something inside one folder: checked here, for
// all who read such files. Not for paths that a person gives on the command line or in a configuration.
import { lstatSync, realpathSync } from "node:fs";
import { isAbsolute, join, relative, resolve, sep } from "node:path";
import { KinoraError } from "../base/errors.ts";
import { nameProblem, type Platform } from "../base/platform.ts";

/** How a refusal reads. */
export interface InsideWords {
  code: string;
  /** The file that the path was read from. */
  file: string;
  /** What to do about it, e.g. `prepare the set again`. */
  hint?: string;
}

/**
 * What is wrong with `path` as a relative path with forward slashes that goes down only; undefined where nothing is.
 * Sets and states travel between systems, so that a drive letter or a backslash is refused everywhere.
 */
export function relativePathFault(path: string, platform: Platform = process.platform): string | undefined {
  if (path === "") return "is empty";
  if (path.includes("\0")) return "contains a zero byte";
  if (path.includes("\\")) return "has a backslash";
  if (path.startsWith("/") || /^[A-Za-z]:/.test(path)) return "is not relative";
  for (const name of path.split("/")) {
    if (name === "..") return "points outside the folder";
    if (name === "" || name === ".") return "has an empty part";
    const problem = platform === "win32" ? nameProblem(name) : undefined;
    if (problem !== undefined) return `has a part that Windows does not allow: ${problem}`;
  }
  return undefined;
}

/** True for `folder` itself and what lies below it, by name alone. */
export function isInside(folder: string, path: string): boolean {
  const way = relative(resolve(folder), resolve(path));
  return way !== ".." && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}

/** Follows `path` below `folder` as far as it exists; what is wrong with a link on the way, undefined where nothing is. */
function linkFault(folder: string, path: string): string | undefined {
  let root: string;
  try {
    root = realpathSync(folder);
  } catch {
    return undefined; // A folder that is not there holds no links.
  }
  let here = root;
  for (const name of path.split("/")) {
    here = join(here, name);
    try {
      if (!lstatSync(here).isSymbolicLink()) continue;
    } catch {
      return undefined;
    }
    try {
      here = realpathSync(here);
    } catch {
      return "goes through a broken link";
    }
    if (!isInside(root, here)) return "goes through a link that points outside the folder";
  }
  return undefined;
}

/**
 * The place in `folder` that `path`, as read from `words.file`, names; it need not exist.
 * @throws KinoraError `words.code` for a path that is not relative or leads out of the folder, also by a symbolic link.
 */
export function insideFolder(folder: string, path: string, words: InsideWords): string {
  const fault = relativePathFault(path) ?? linkFault(folder, path);
  if (fault === undefined) return join(folder, path);
  throw new KinoraError(words.code, `${words.file} names ${JSON.stringify(path)}, which ${fault}`, {
    expected: `a path inside ${folder}`,
    ...(words.hint ? { hint: words.hint } : {}),
  });
}
