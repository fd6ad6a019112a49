// Which files of steps and epochs stay. Only files that this run itself wrote and listed are ever removed.
import { rm } from "node:fs/promises";
import { insideFolder } from "../../io/inside.ts";

/** Removes the oldest saves beyond `keepLast`, in the list and on disk. */
export async function prune(output: string, saves: string[][], keepLast: number | undefined): Promise<void> {
  if (keepLast === undefined) return;
  const place = (file: string) => insideFolder(output, file, { code: "train.bad-state", file: "state.json" });
  const written = new Set(saves.slice(-keepLast).flat());
  for (const files of saves.splice(0, Math.max(0, saves.length - keepLast))) {
    for (const file of files) if (!written.has(file)) await rm(place(file), { force: true });
  }
}
