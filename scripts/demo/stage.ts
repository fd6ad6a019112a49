// What every stage of the demo is handed, and what is remembered of its work between runs.
import { existsSync, readFileSync } from "node:fs";
import { z } from "zod";
import type { Output } from "../../src/cli/terminal.ts";
import type { Device } from "../../src/device/device.ts";
import { writeFileAtomic } from "../../src/io/atomic.ts";
import type { HashCache } from "../../src/io/content-hash.ts";
import type { DemoSettings } from "./settings.ts";

export interface Stage {
  settings: DemoSettings;
  device: Device;
  hashes: HashCache;
  out: Output;
  /** Aborting ends the stage with the signal's reason; what is done stays. */
  signal: AbortSignal;
  work: WorkLog;
}

/** "40 clips drawn", "3 clips drawn, 37 reused". */
export function made(count: number, of: number, things: string, verb: string): string {
  if (count === 0) return `all ${of} ${things} are there: reused`;
  return `${count} ${things} ${verb}${count < of ? `, ${of - count} reused` : ""}`;
}

/** The stages whose results are kept. */
export const keptStages = ["clips", "training", "videos"] as const;
export type KeptStage = (typeof keptStages)[number];

const workSchema = z.partialRecord(z.enum(keptStages), z.strictObject({ key: z.string(), seconds: z.number() }));
type Work = z.infer<typeof workSchema>;

/**
 * The time that went into what each stage made, over runs that were stopped, and a key that names what it was spent on:
 * another key is other work, whose time begins at nothing.
 */
export class WorkLog {
  readonly #path: string;
  readonly #stages: Work;

  constructor(path: string) {
    this.#path = path;
    this.#stages = existsSync(path) ? readWork(path) : {};
  }

  keyOf(stage: KeptStage): string | undefined {
    return this.#stages[stage]?.key;
  }

  seconds(stage: KeptStage): number {
    return this.#stages[stage]?.seconds ?? 0;
  }

  /** Names what time is spent on from now on. `fresh`: nothing of it is there, whatever was written down. */
  async begin(stage: KeptStage, key: string, fresh: boolean): Promise<void> {
    if (fresh || this.keyOf(stage) !== key) this.#stages[stage] = { key, seconds: 0 };
    await this.#save();
  }

  /** Adds to the stage that was begun. */
  async add(stage: KeptStage, seconds: number): Promise<void> {
    this.#stages[stage]!.seconds += seconds;
    await this.#save();
  }

  /** Does a piece of work and adds its time, also where it is stopped. */
  async during<T>(stage: KeptStage, work: () => Promise<T>): Promise<T> {
    const started = performance.now();
    try {
      return await work();
    } finally {
      await this.add(stage, (performance.now() - started) / 1000);
    }
  }

  async #save(): Promise<void> {
    await writeFileAtomic(this.#path, `${JSON.stringify(this.#stages, null, 2)}\n`);
  }
}

/** Times that cannot be read are times that are not known: nothing else hangs on the file. */
function readWork(path: string): Work {
  try {
    return workSchema.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch {
    return {};
  }
}
