// One input at a time: makes it, has it read, and judges how that ended. What is read and how: kinds/.
import { spawnSync } from "node:child_process";
import { linkSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inspect } from "node:util";
import { crc32 } from "node:zlib";
import { Draws } from "../../scripts/tiny/world/random.ts";
import { isKinoraError, type KinoraError } from "../../src/base/errors.ts";
import { Printer } from "../../src/cli/terminal.ts";
import { below, victim } from "./changes.ts";

/** Where an input is read, and what lies beside it. */
export interface Place {
  /** Made anew for every input; all reading and writing belongs here. */
  inside: string;
  /** Nothing here may be touched. */
  outside: string;
}

/**
 * Writes one input and has it read. Gives what was read, for a look whether something of it is not the input's; throws a
 * KinoraError where it was refused, and any other error where what came is not valid.
 */
export type Attempt = (draws: Draws, place: Place) => Promise<unknown>;

export interface Kind {
  name: string;
  /** How many of 10,000 inputs. */
  share: number;
  /** Bytes by which the process may grow over one input; by default {@link usualGrowth}. */
  growth?: number;
  /** People write it, and may name any file of theirs in it. */
  mayReadOutside?: boolean;
  /** Makes in `folder` what all inputs are changed copies of. */
  prepare(folder: string): Promise<Attempt>;
}

export const usualGrowth = 400 * 2 ** 20;

export interface Outcome {
  number: number;
  end: "accepted" | "refused" | "failed";
  /** Of one refused its code, of a failure what is wrong. */
  why?: string;
}

/** Control characters, and what turns the direction of writing around. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const obeyed = /[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/u;

/** What is wrong with an error as a refusal; undefined where nothing is. */
function faultOf(error: KinoraError): string | undefined {
  const { code, message, hint } = error;
  if (!/^[a-z0-9]+(?:[.-][a-z0-9]+)+$/.test(code)) return `the code ${JSON.stringify(code)}`;
  if (!hint?.trim()) return `${code} has no hint: ${message.slice(0, 200)}`;
  let printed = "";
  const output = {
    data: () => {},
    progress: () => {},
    note(text: string) {
      printed = text;
    },
  };
  new Printer(output, false).say(`error ${code}: ${message}\nhint: ${hint}`);
  if (obeyed.test(printed)) return `${code} prints control characters`;
  if (printed.length > 20_000) return `${code} prints ${printed.length} characters`;
  return undefined;
}

/** Names, kinds and sizes of all files outside. */
const seen = (outside: string): string =>
  readdirSync(outside)
    .sort()
    .map((name) => `${name} ${lstatSync(join(outside, name)).mode} ${lstatSync(join(outside, name)).mtimeMs}`)
    .join("\n");

export class Runner {
  readonly #kind: Kind;
  readonly #place: Place;
  readonly #attempt: Attempt;

  private constructor(kind: Kind, place: Place, attempt: Attempt) {
    this.#kind = kind;
    this.#place = place;
    this.#attempt = attempt;
  }

  /** `folder` is empty and the caller's to remove. */
  static async prepare(kind: Kind, folder: string): Promise<Runner> {
    const place = { inside: join(folder, "inside"), outside: join(folder, "outside") };
    for (const path of [place.outside, join(folder, "base")]) mkdirSync(path);
    writeFileSync(join(place.outside, victim.name), victim.text);
    spawnSync("mkfifo", [join(place.outside, "pipe")]);
    return new Runner(kind, place, await kind.prepare(join(folder, "base")));
  }

  async run(seed: number, number: number): Promise<Outcome> {
    const { name, growth = usualGrowth, mayReadOutside = false } = this.#kind;
    const { inside, outside } = this.#place;
    const draws = new Draws(seed, (crc32(name) % 2 ** 20) * 2 ** 32 + number);
    rmSync(inside, { recursive: true, force: true });
    mkdirSync(inside);
    const before = seen(outside);
    const peak = process.resourceUsage().maxRSS;
    let outcome: Outcome = { number, end: "accepted" };
    const failed = (why: string) => {
      outcome = { number, end: "failed", why };
    };
    let told: string;
    try {
      told = inspect(await this.#attempt(draws, this.#place), {
        depth: 8,
        maxArrayLength: 1000,
        maxStringLength: 100_000,
      });
    } catch (error) {
      told = error instanceof Error ? `${error.message}` : String(error);
      if (isKinoraError(error)) {
        const fault = faultOf(error);
        if (fault === undefined) outcome = { number, end: "refused", why: error.code };
        else failed(fault);
      } else failed(error instanceof Error ? (error.stack ?? error.message).slice(0, 1500) : `threw ${told}`);
    }
    if (!mayReadOutside && told.includes(victim.text)) failed("read a file outside");
    if (seen(outside) !== before || readFileSync(join(outside, victim.name), "utf8") !== victim.text)
      failed(`changed what lies outside: ${seen(outside)}`);
    const grown = (process.resourceUsage().maxRSS - peak) * 1024;
    if (grown > growth) failed(`grew by ${Math.round(grown / 2 ** 20)} MB`);
    return outcome;
  }
}

/** Writes an input's file; now and then something stands there that is no plain file. */
export function put(draws: Draws, { outside }: Place, path: string, bytes: Uint8Array): void {
  const odd = below(draws, 60);
  if (odd === 0) mkdirSync(path);
  else if (odd === 1) {
    try {
      linkSync(join(outside, "pipe"), path);
    } catch {
      writeFileSync(path, ""); // A system without pipes among its files.
    }
  } else writeFileSync(path, odd === 2 ? "" : bytes);
}

/** A check of what was accepted. */
export function expectValid(valid: boolean, what: string): asserts valid {
  if (!valid) throw new Error(`accepted, but ${what}`);
}
