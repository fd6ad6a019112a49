// The log of one LoRA: numbered events, each naming the hash of the one before. An event is made only where its number is
// free, so that of two people at once neither is lost. Nothing in it is ever changed.
import { createHash, randomBytes } from "node:crypto";
import { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import {
  type Happening,
  headSchema,
  type RegistryEvent,
  registryEventSchema,
  registryFormat,
} from "../protocol/registry.ts";
import type { Storage } from "./storage/storage.ts";

export const sha256 = (data: Uint8Array | string): string => createHash("sha256").update(data).digest("hex");

/** What is said of an event beside what happened. */
export interface Saying {
  who: string;
  role?: string | undefined;
  why?: string | undefined;
}

export interface ReadLog {
  events: readonly RegistryEvent[];
  /** Hash of the last event; null for an empty log. */
  last: string | null;
}

const eventKey = (folder: string, number: number): string => `${folder}/events/${String(number).padStart(8, "0")}.json`;
const headKey = (folder: string): string => `${folder}/head.json`;

/** Others may append at once; each try that fails has seen another's event come in. */
const MOST_TRIES = 200;

/** Throws `registry.damaged-event` naming the file. */
export function parseEvent(data: Uint8Array, key: string): RegistryEvent {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data));
  } catch (cause) {
    throw damagedEvent(key, "it is not valid JSON", cause);
  }
  const format = (value as { format?: unknown } | null)?.format;
  if (typeof format === "number" && format > registryFormat) throw newer(key, format);
  const parsed = registryEventSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw damagedEvent(key, z.prettifyError(parsed.error).replaceAll("\n", " "));
}

export function damagedEvent(key: string, why: string, cause?: unknown): KinoraError {
  return new KinoraError("registry.damaged-event", `${key} cannot be trusted: ${why}`, {
    hint: "kinora registry verify lists every problem; restore the file from a backup",
    cause,
  });
}

export function newer(what: string, format: number): KinoraError {
  return new KinoraError("registry.newer", `${what} was written by a newer Kinora`, {
    expected: `format ${registryFormat}`,
    actual: `${format}`,
    hint: "update Kinora",
  });
}

/**
 * All events in order, each checked against the one before. `reread` of a log that has been read goes on from there.
 * @throws KinoraError `registry.damaged-event`, `registry.newer`, and the storage's.
 */
export async function readLog(storage: Storage, folder: string, before?: ReadLog): Promise<ReadLog> {
  const events = [...(before?.events ?? [])];
  let last = before?.last ?? null;
  for (let number = events.length + 1; ; number++) {
    const key = eventKey(folder, number);
    const data = await storage.read(key);
    if (data === undefined) return { events, last };
    const event = parseEvent(data, key);
    if (event.number !== number) throw damagedEvent(key, `it says it is number ${event.number}`);
    if (event.previous !== last) throw damagedEvent(key, "the event before it was changed");
    events.push(event);
    last = sha256(data);
  }
}

/**
 * Appends what `decide` makes of the log as it then is; asked again where another's event came in between.
 * `decide` throws what speaks against it, or returns nothing to append nothing.
 */
export async function append(
  storage: Storage,
  folder: string,
  saying: Saying,
  decide: (log: ReadLog) => Promise<Happening | undefined> | Happening | undefined,
  now: () => Date = () => new Date(),
): Promise<RegistryEvent | undefined> {
  let log = await readLog(storage, folder);
  for (let attempt = 0; attempt < MOST_TRIES; attempt++) {
    const what = await decide(log);
    if (what === undefined) return undefined;
    const { who, role, why } = saying;
    const event: RegistryEvent = registryEventSchema.parse({
      kind: "kinora.registry.event",
      format: registryFormat,
      number: log.events.length + 1,
      id: randomBytes(8).toString("hex"),
      previous: log.last,
      at: timeAfter(log, now()),
      who,
      ...(role === undefined ? {} : { role }),
      ...(why === undefined || why.trim() === "" ? {} : { why }),
      what,
    });
    const data = new TextEncoder().encode(`${JSON.stringify(event)}\n`);
    if (await storage.create(eventKey(folder, event.number), data)) {
      await storage.replace(headKey(folder), headOf(event.number, data));
      return event;
    }
    log = await readLog(storage, folder, log);
  }
  throw new KinoraError("registry.busy", `${folder} is being changed by others too quickly`, { hint: "try again" });
}

/** A clock that is behind does not turn time back. */
function timeAfter({ events }: ReadLog, now: Date): string {
  const before = events.at(-1)?.at;
  const time = now.toISOString();
  return before !== undefined && before > time ? before : time;
}

function headOf(number: number, data: Uint8Array): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify({ number, sha256: sha256(data) })}\n`);
}

/**
 * What is wrong with a log, in words: events that were changed, are missing or do not follow each other. The head tells
 * of events that were cut off at the end; a head that is behind is what a killed process leaves, and no fault.
 */
export async function checkLog(storage: Storage, folder: string): Promise<string[]> {
  const problems: string[] = [];
  const found = new Map<number, string>();
  for await (const { key } of storage.list(`${folder}/events/`)) {
    const number = Number(/\/(\d{8})\.json$/.exec(key)?.[1] ?? Number.NaN);
    if (Number.isNaN(number)) problems.push(`${key}: a file that is not an event`);
    else found.set(number, key);
  }
  const count = Math.max(0, ...found.keys());
  let last: string | null = null;
  for (let number = 1; number <= count; number++) {
    const key = eventKey(folder, number);
    const data = await storage.read(key);
    if (data === undefined) {
      problems.push(`${key}: missing`);
      last = null;
      continue;
    }
    try {
      const event = parseEvent(data, key);
      if (event.number !== number) problems.push(`${key}: says it is number ${event.number}`);
      if (event.previous !== last)
        problems.push(`${key}: does not follow the event before it; one of them was changed`);
    } catch (error) {
      problems.push((error as Error).message);
    }
    last = sha256(data);
  }
  problems.push(...(await checkHead(storage, folder, count)));
  return problems;
}

async function checkHead(storage: Storage, folder: string, count: number): Promise<string[]> {
  const data = await storage.read(headKey(folder));
  if (data === undefined) return count > 1 ? [`${headKey(folder)}: missing`] : [];
  let head: z.infer<typeof headSchema>;
  try {
    head = headSchema.parse(JSON.parse(new TextDecoder().decode(data)));
  } catch {
    return [`${headKey(folder)}: damaged`];
  }
  if (head.number > count) return [`${folder}: events ${count + 1} to ${head.number} are missing`];
  const named = await storage.read(eventKey(folder, head.number));
  return named !== undefined && sha256(named) !== head.sha256
    ? [`${eventKey(folder, head.number)}: changed since it was written`]
    : [];
}
