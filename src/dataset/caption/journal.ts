// A line for everything captioning did in a folder: which text came from which model and instruction, and what an
// interrupted rewrite had done already. Text only, never a key. Not needed to train.
import { createHash } from "node:crypto";
import { appendFileSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { z } from "zod";
import { isKinoraError } from "../../base/errors.ts";
import { writeError } from "../../io/atomic.ts";
import { readPlainFile, readPlainFileSync } from "../../io/files.ts";
import { insideFolder } from "../../io/inside.ts";
import { workFolderName } from "../manifest.ts";

const recordSchema = z.discriminatedUnion("event", [
  z.object({
    event: z.literal("begin"),
    run: z.string(),
    at: z.string(),
    /** Hash of everything that decides what is asked. */
    settings: z.string(),
    endpoint: z.string(),
    model: z.string(),
    template: z.string(),
    trigger: z.string(),
    mode: z.enum(["missing", "rewrite"]),
    draft: z.boolean(),
  }),
  z.object({
    event: z.literal("caption"),
    run: z.string(),
    at: z.string(),
    item: z.string(),
    /** Hashes of the text that was written and of the one before it. */
    after: z.string(),
    before: z.string().optional(),
  }),
  z.object({ event: z.literal("end"), run: z.string(), at: z.string() }),
  /** A person's draft became the caption. */
  z.object({ event: z.literal("accept"), at: z.string(), item: z.string(), after: z.string() }),
]);

export type JournalRecord = z.infer<typeof recordSchema>;
type JournalCaption = Extract<JournalRecord, { event: "caption" }>;

export const textHash = (text: string): string => createHash("sha256").update(text).digest("hex");

/** @throws KinoraError `caption.link-out` where a link would have it lie outside the folder. */
export function journalPath(folder: string): string {
  return insideFolder(folder, `${workFolderName}/captions.jsonl`, {
    code: "caption.link-out",
    file: "the journal of captions",
    hint: `remove the link ${join(folder, workFolderName)}`,
  });
}

const mostBytes = 512 * 2 ** 20;

/** The records of a folder, in order; lines cut by a kill are passed over. @throws KinoraError `io.*`. */
export async function readJournal(folder: string): Promise<JournalRecord[]> {
  let text: string;
  try {
    text = (await readPlainFile(journalPath(folder), mostBytes)).toString("utf8");
  } catch (error) {
    if (isKinoraError(error, "io.not-found")) return [];
    throw error;
  }
  return text.split("\n").flatMap((line) => {
    try {
      const parsed = recordSchema.safeParse(JSON.parse(line));
      return parsed.success ? [parsed.data] : [];
    } catch {
      return [];
    }
  });
}

/** The unfinished rewrite with these settings that is the latest of all, and the texts it has written. */
export function unfinishedRewrite(
  records: readonly JournalRecord[],
  settings: string,
): { run: string; done: ReadonlyMap<string, JournalCaption> } | undefined {
  const begin = records.findLast((record) => record.event === "begin" && record.mode === "rewrite");
  if (begin?.event !== "begin" || begin.settings !== settings) return undefined;
  const own = records.filter((record) => "run" in record && record.run === begin.run);
  if (own.some((record) => record.event === "end")) return undefined;
  const captions = own.filter((record) => record.event === "caption");
  return { run: begin.run, done: new Map(captions.map((record) => [record.item, record])) };
}

/** The trigger phrase each item was last captioned with. */
export function triggersOf(records: readonly JournalRecord[]): ReadonlyMap<string, string> {
  const ofRun = new Map<string, string>();
  const ofItem = new Map<string, string>();
  for (const record of records) {
    if (record.event === "begin") ofRun.set(record.run, record.trigger);
    else if (record.event === "caption") ofItem.set(record.item, ofRun.get(record.run) ?? "");
  }
  return ofItem;
}

/** Appends records. Opened lazily: a folder in which nothing happens stays as it is. */
export class Journal {
  readonly #path: string;
  #started = false;

  constructor(folder: string) {
    this.#path = journalPath(folder);
  }

  append(record: JournalRecord): void {
    try {
      if (!this.#started) mkdirSync(dirname(this.#path), { recursive: true });
      // A line a kill cut short is closed first, so that it spoils nothing but itself.
      appendFileSync(this.#path, `${this.#started ? "" : this.#separator()}${JSON.stringify(record)}\n`);
      this.#started = true;
    } catch (error) {
      throw writeError(error, this.#path);
    }
  }

  #separator(): string {
    try {
      const bytes = readPlainFileSync(this.#path, mostBytes);
      return bytes.length === 0 || bytes.at(-1) === 10 ? "" : "\n";
    } catch {
      return "";
    }
  }
}
