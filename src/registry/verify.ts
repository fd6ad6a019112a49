// Whether a store is whole: every event follows the one before it, every version's files are there and are what they were.
// And what can go: objects that nothing names.
import { randomBytes } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isKinoraError } from "../base/errors.ts";
import { type RegistryEvent, versionSchema } from "../protocol/registry.ts";
import { formatAddress } from "./address.ts";
import { checkLog, parseEvent } from "./log.ts";
import { checkObject, getValue } from "./objects.ts";
import type { Registry } from "./registry.ts";
import { demand } from "./rights.ts";

/** What {@link verifyStore} found. */
export interface VerifyReport {
  names: number;
  events: number;
  objects: number;
  bytes: number;
  /** A line each; empty for a whole store. */
  problems: string[];
}

/** An object was checked. */
export interface VerifyProgress {
  type: "verified";
  done: number;
  of: number;
}

/** An object this young may belong to a version that is just being published. */
const YOUNG_MS = 24 * 60 * 60 * 1000;

/** Reads everything. Yields after each object. */
export async function* verifyStore(registry: Registry): AsyncGenerator<VerifyProgress, VerifyReport> {
  const { storage } = registry;
  const report: VerifyReport = { names: 0, events: 0, objects: 0, bytes: 0, problems: [] };
  const { named, problems, events, names } = await namedObjects(registry, true);
  report.problems.push(...problems);
  report.events = events;
  report.names = names;
  let done = 0;
  for (const [hash, { bytes, by }] of named) {
    const scratch = join(tmpdir(), `kinora-verify-${process.pid}-${randomBytes(4).toString("hex")}`);
    const state = await checkObject(storage, hash, scratch);
    if (state !== "whole") report.problems.push(`objects/${hash.slice(0, 2)}/${hash}: ${state} (${by})`);
    report.objects++;
    report.bytes += bytes;
    yield { type: "verified", done: ++done, of: named.size };
  }
  return report;
}

interface Named {
  bytes: number;
  /** What names it, for a person. */
  by: string;
}

/** Every object that an event or a version names. */
async function namedObjects(
  registry: Registry,
  check: boolean,
): Promise<{ named: Map<string, Named>; problems: string[]; events: number; names: number }> {
  const { storage } = registry;
  const named = new Map<string, Named>();
  const problems: string[] = [];
  let events = 0;
  let names = 0;
  const name = (hash: string | undefined, bytes: number, by: string): void => {
    if (hash !== undefined) named.set(hash, { bytes, by });
  };
  for await (const address of registry.names()) {
    names++;
    const folder = `names/${formatAddress(address)}`;
    if (check) problems.push(...(await checkLog(storage, folder)));
    for await (const { key } of storage.list(`${folder}/events/`)) {
      const data = await storage.read(key);
      if (data === undefined) continue;
      let event: RegistryEvent;
      try {
        event = parseEvent(data, key);
      } catch (error) {
        // checkLog has told of it; what it names is not known, so nothing may be removed.
        if (!check) throw error;
        continue;
      }
      events++;
      const { what } = event;
      const by = `${formatAddress(address)}, event ${event.number}`;
      if (what.type === "tested") name(what.report, 0, by);
      if (what.type !== "published") continue;
      name(what.manifest, 0, by);
      try {
        const version = versionSchema.parse(
          JSON.parse(new TextDecoder().decode(await getValue(storage, what.manifest))),
        );
        for (const { sha256, bytes, path } of version.files) {
          name(sha256, bytes, `${path} of ${formatAddress(address)}@${what.version}`);
        }
      } catch (error) {
        if (!check) throw error;
        // A missing or changed manifest is told of as an object; one that is whole and unreadable is told of here.
        if (!isKinoraError(error))
          problems.push(`version.json of ${formatAddress(address)}@${what.version} cannot be read`);
      }
    }
  }
  return { named, problems, events, names };
}

/** What {@link collectGarbage} removed. */
export interface CollectReport {
  removed: number;
  bytes: number;
  /** Not named by anything, but young: a version may just be coming to be. */
  kept: number;
}

/**
 * Removes objects that nothing names, as killed publications leave them; those younger than a day stay.
 * Throws `registry.no-rights`, and what reading a damaged log throws: nothing is removed then.
 */
export async function collectGarbage(
  registry: Registry,
  { dryRun = false, now = Date.now() }: { dryRun?: boolean; now?: number } = {},
): Promise<CollectReport> {
  demand(registry.person, "manage");
  const { storage } = registry;
  const loose: { key: string; bytes: number; modified: number }[] = [];
  for await (const entry of storage.list("objects/")) loose.push(entry);
  // Logs are read after the objects were listed: what is published meanwhile is named by then.
  const { named } = await namedObjects(registry, false);
  const report: CollectReport = { removed: 0, bytes: 0, kept: 0 };
  for (const { key, bytes, modified } of loose) {
    if (named.has(key.slice(key.lastIndexOf("/") + 1))) continue;
    if (!(now - modified > YOUNG_MS)) {
      report.kept++;
      continue;
    }
    if (!dryRun) await storage.remove(key);
    report.removed++;
    report.bytes += bytes;
  }
  return report;
}
