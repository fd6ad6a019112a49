// Where Linux, macOS and Windows differ, in one place and as functions of the platform, so that what cannot be run on one
// machine can still be tested there: names of files and libraries, folders, links, signals, processes.
import { readFileSync } from "node:fs";
import path from "node:path";

export type Platform = NodeJS.Platform;

/** What decides where things lie on a machine. */
export interface Place {
  platform: Platform;
  environment: Readonly<Record<string, string | undefined>>;
  home: string;
}

const paths = (platform: Platform): path.PlatformPath => (platform === "win32" ? path.win32 : path.posix);

/** The folder for what a program can make again: KINORA_CACHE, else `kinora` in the system's usual place. */
export function cacheFolderOf({ platform, environment, home }: Place): string {
  const { join } = paths(platform);
  if (environment.KINORA_CACHE) return environment.KINORA_CACHE;
  if (environment.XDG_CACHE_HOME) return join(environment.XDG_CACHE_HOME, "kinora");
  if (platform === "win32") return join(environment.LOCALAPPDATA || join(home, "AppData", "Local"), "kinora");
  return join(home, platform === "darwin" ? "Library/Caches" : ".cache", "kinora");
}

/** File names a shared library may have, the best first: `versions` are its ABI numbers, newest first. */
export function libraryNames(platform: Platform, stem: string, versions: readonly string[]): string[] {
  if (platform === "win32") return [`${stem}.dll`];
  const ending = (version?: string): string => {
    const dotted = version === undefined ? "" : `.${version}`;
    return platform === "darwin" ? `lib${stem}${dotted}.dylib` : `lib${stem}.so${dotted}`;
  };
  return [...versions.map(ending), ending()];
}

/** Folders below a prefix (a conda environment, /usr/local) that hold shared libraries. */
export function libraryFolders(platform: Platform, prefix: string): string[] {
  const { join } = paths(platform);
  return platform === "win32" ? [join(prefix, "Library", "bin"), join(prefix, "bin")] : [join(prefix, "lib")];
}

/** How a file system without hard links (exFAT, FAT, some network shares) refuses one, or a full link count. */
const refusals: ReadonlySet<unknown> = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EISDIR", "EMLINK"]);

/** Whether an error of `link` means that this disk has no hard links, so that a copy has to do. */
export function refusesLinks(error: unknown): boolean {
  return refusals.has((error as NodeJS.ErrnoException).code);
}

/**
 * Whether a rename failed because somebody has the file open for a moment, as virus scanners and indexers do on Windows.
 * Elsewhere the same codes mean what they say.
 */
export function isBusyRename(platform: Platform, error: unknown): boolean {
  return platform === "win32" && ["EPERM", "EACCES", "EBUSY"].includes((error as NodeJS.ErrnoException).code ?? "");
}

/** The signals by which a person or the system asks a process to stop. Windows has no SIGTERM; it has Ctrl-Break. */
export function stopSignals(platform: Platform): readonly NodeJS.Signals[] {
  return platform === "win32" ? ["SIGINT", "SIGBREAK", "SIGHUP"] : ["SIGINT", "SIGTERM", "SIGHUP"];
}

/** Whether this machine runs a process of that number. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
  return !isDead(pid);
}

/** A process that ended keeps its number until its parent asks for it, which in a container may be never. */
function isDead(pid: number): boolean {
  if (process.platform !== "linux") return false;
  try {
    // Behind its name, which may hold anything, comes its state.
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return /^[ZX]/.test(stat.slice(stat.lastIndexOf(")") + 2));
  } catch {
    return false;
  }
}

/** Two names that some disk takes for one have the same key: macOS and Windows ignore case, macOS composes letters. */
export function nameKey(name: string): string {
  return name.normalize("NFC").toLowerCase();
}

const reserved = /^(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\.|$)/i;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const forbidden = /[<>:"/\\|?*\u0000-\u001f\u007f]/;

/** Why one part of a path cannot be used on every system, in words; undefined where it can. */
export function nameProblem(name: string): string | undefined {
  if (name === "" || name === "." || name === "..") return "it is empty";
  const character = forbidden.exec(name)?.[0];
  if (character !== undefined) return `it contains ${JSON.stringify(character)}`;
  if (/[. ]$/.test(name)) return "it ends in a dot or a space, which Windows drops";
  if (reserved.test(name)) return `${reserved.exec(name)![0].replace(/\.$/, "")} is a device's name on Windows`;
  if (Buffer.byteLength(name) > 255) return "it is longer than 255 bytes";
  return undefined;
}

/** A name made from `text` that every system takes: what cannot stand in one becomes `-`. Never empty. */
export function portableName(text: string, fallback = "unnamed"): string {
  const swapped = text.normalize("NFC").replace(new RegExp(forbidden, "g"), "-");
  let name = swapped.replace(/^[\s.]+|[\s.]+$/g, "");
  while (Buffer.byteLength(name) > 200) name = [...name].slice(0, -1).join("").trimEnd();
  if (name === "") return fallback;
  return reserved.test(name) ? `_${name}` : name;
}
