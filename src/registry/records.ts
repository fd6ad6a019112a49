// How generations with the versions of a store went: one small value each, created and never changed, by month. They are no
// part of the log: losing one loses a figure of a statistic.
import { randomBytes } from "node:crypto";
import { type UseRecord, useRecordSchema } from "../protocol/registry.ts";
import type { Storage } from "./storage/storage.ts";

/** `2026-11`. */
export const monthOf = (time: string | Date): string => new Date(time).toISOString().slice(0, "2026-11".length);

/** Throws what the storage throws. */
export async function addRecord(storage: Storage, record: UseRecord): Promise<void> {
  const time = record.at.replaceAll(/[^0-9]/g, "").slice(0, 17);
  const key = `records/${monthOf(record.at)}/${time}-${randomBytes(6).toString("hex")}.json`;
  await storage.create(key, new TextEncoder().encode(`${JSON.stringify(record)}\n`));
}

/** The records of a month, in order of time; without a month, of all. What is not a record is left out. */
export async function* readRecords(storage: Storage, month?: string): AsyncGenerator<UseRecord> {
  for await (const { key } of storage.list(month === undefined ? "records/" : `records/${month}/`)) {
    const data = await storage.read(key);
    const record = data && recordOf(data);
    if (record) yield record;
  }
}

function recordOf(data: Uint8Array): UseRecord | undefined {
  try {
    return useRecordSchema.safeParse(JSON.parse(new TextDecoder().decode(data))).data;
  } catch {
    return undefined;
  }
}
