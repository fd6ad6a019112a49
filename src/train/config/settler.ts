// Collects what becomes of every setting of a configuration: its value, where it came from, what it implies.
import { shown } from "../../io/config/values.ts";
import type { ExplainedSetting, Origin } from "./settings.ts";

export class Settler {
  readonly explained: ExplainedSetting[] = [];
  readonly #overridden: ReadonlySet<string>;

  constructor(overridden: ReadonlySet<string>) {
    this.#overridden = overridden;
  }

  /** The value given, else the default; `idle` says why it does nothing, where it does not. */
  take<T, F extends T | undefined>(
    key: string,
    given: T | undefined,
    fallback: F,
    more: {
      from?: Origin;
      note?: string | ((value: T | F) => string | undefined);
      idle?: string | false | undefined;
    } = {},
  ): T | F {
    const value = given ?? fallback;
    const from = given === undefined ? (more.from ?? "default") : this.#overridden.has(key) ? "command line" : "config";
    const note = typeof more.note === "function" ? more.note(value) : more.note;
    // What has no effect, and what is not there, is told only where somebody set it.
    if (given === undefined && (more.idle || value === undefined)) return value;
    this.explained.push({
      key,
      value: show(value),
      from,
      ...(note ? { note } : {}),
      ...(more.idle ? { idle: more.idle } : {}),
    });
    return value;
  }
}

function show(value: unknown): string {
  if (value === undefined) return "none";
  if (typeof value === "number") return String(Number(value.toPrecision(6)));
  if (Array.isArray(value)) return `[${value.map(show).join(", ")}]`;
  return typeof value === "object" ? shown(value) : String(value);
}
