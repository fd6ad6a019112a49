// What the commands of the registry have in common: which store, which LoRA, which version, and how a change reads.

import { defined } from "../../../base/defined.ts";
import { KinoraError } from "../../../base/errors.ts";
import type { RequestOf, ResultOf } from "../../../jobs/table.ts";
import { perform } from "../../follow.ts";
import type { Printer } from "../../terminal.ts";

export const storeOption = {
  store: { type: "string", help: "registry folder, or s3://BUCKET/PREFIX (default: KINORA_STORE)", value: "STORE" },
} as const;

export const whyOption = {
  why: { type: "string", help: "reason, kept in the log", value: "TEXT", short: "m" },
} as const;

/** Throws where a command that takes no arguments got some. */
export function noArguments(command: string, positionals: readonly string[]): void {
  if (positionals.length === 0) return;
  throw new KinoraError("cli.bad-arguments", `kinora registry ${command} takes no arguments`, {
    actual: positionals.join(" "),
  });
}

/** Exactly one argument. */
export function onlyOne(command: string, what: string, positionals: readonly string[]): string {
  const [first, ...rest] = positionals;
  if (first !== undefined && rest.length === 0) return first;
  throw new KinoraError("cli.bad-arguments", `kinora registry ${command} takes ${what}`, {
    actual: rest.length > 0 ? positionals.join(" ") : "nothing",
    hint: `see kinora registry ${command} --help`,
  });
}

/** `styles/acme/neon@v2` into its two halves. */
export function splitVersion(command: string, text: string): { address: string; version: string } {
  const at = text.indexOf("@");
  if (at > 0 && at < text.length - 1) return { address: text.slice(0, at), version: text.slice(at + 1) };
  throw new KinoraError("cli.bad-arguments", `kinora registry ${command} needs a version`, {
    expected: "ADDRESS@vN, e.g. styles/acme/neon@v2",
    actual: text,
    hint: `kinora registry show ${at > 0 ? text.slice(0, at) : text} lists the versions`,
  });
}

type Change = RequestOf<"registry-change">["change"];

/** Makes a change and says what it came to. */
export async function makeChange(
  out: Printer,
  store: string | undefined,
  address: string,
  change: Change,
): Promise<number> {
  const result = await perform(out, "registry-change", { ...defined({ store }), address, change });
  out.answer(result, () => changed(result));
  return 0;
}

function changed({ address, written, current, trial }: ResultOf<"registry-change">): string {
  const lines = written.length > 0 ? written.map((line) => `${address}: ${line}`) : [`${address}: nothing to change`];
  const on = trial ? `, trial ${trial.version} (${percent(trial.share)} of requests)` : "";
  return [...lines, `current ${current ?? "none"}${on}`].join("\n");
}

export const percent = (share: number): string => `${Number((100 * share).toFixed(2))} %`;
