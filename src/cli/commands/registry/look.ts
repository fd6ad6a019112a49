// kinora registry list, show, resolve, diff, notes, verify: what a registry holds.
import { defined } from "../../../base/defined.ts";
import { KinoraError } from "../../../base/errors.ts";
import { formatBytes, plural } from "../../../base/units.ts";
import type { ResultOf } from "../../../jobs/table.ts";
import { type LoraKind, loraKinds } from "../../../protocol/registry.ts";
import { readable } from "../../../registry/notes.ts";
import { command } from "../../command.ts";
import { follow, perform, STOPPED } from "../../follow.ts";
import { parseChoice } from "../../parse.ts";
import { oneLine } from "../../terminal.ts";
import { noArguments, onlyOne, percent, splitVersion, storeOption } from "./shared.ts";

export const kindOption = {
  kind: { type: "string", help: `only one kind: ${Object.keys(loraKinds).join(", ")}`, value: "KIND" },
} as const;

export const kindOf = (text: string | undefined): LoraKind | undefined =>
  text === undefined ? undefined : parseChoice("--kind", text, Object.keys(loraKinds) as LoraKind[]);

export const registryList = command({
  name: "registry list",
  usage: "[--kind KIND]",
  options: { ...storeOption, ...kindOption },
  async run(values, positionals, out) {
    noArguments("list", positionals);
    const result = await perform(out, "registry-list", defined({ store: values.store, kind: kindOf(values.kind) }));
    out.answer(result, () => listed(result));
    return 0;
  },
});

function listed({ store, names }: ResultOf<"registry-list">): string {
  if (names.length === 0) return `${store} is empty; kinora registry publish adds a LoRA`;
  const width = Math.max(...names.map(({ address }) => address.length));
  return names
    .map(({ address, versions, latest, current, trial, model }) => {
      const parts = [
        current ? `current ${current}` : "no current version",
        ...(trial ? [`trial ${trial.version} (${percent(trial.share)})`] : []),
        `latest ${latest} of ${versions}`,
        ...(model ? [model] : []),
      ];
      return `${address.padEnd(width)}  ${parts.join(", ")}`;
    })
    .join("\n");
}

export const registryShow = command({
  name: "registry show",
  usage: "ADDRESS",
  options: { ...storeOption },
  details: `
Shows every version of a LoRA with its status, and the log of everything that happened to it. ADDRESS is like
styles/acme/neon.`,
  async run({ store }, positionals, out) {
    const address = onlyOne("show", "one ADDRESS", positionals);
    const result = await perform(out, "registry-show", { ...defined({ store }), address });
    out.answer(result, () => shown(result));
    return 0;
  },
});

function shown({ address, current, trial, versions, events }: ResultOf<"registry-show">): string {
  const on = trial ? `, trial ${trial.version} (${percent(trial.share)} of requests)` : "";
  const lines = [`${address}: current ${current ?? "none"}${on}`, ""];
  for (const { version, status, publishedAt, publishedBy, manifest, tests, feedback, tags } of versions) {
    lines.push(`${version}  ${status}, published ${publishedAt.slice(0, 10)} by ${publishedBy}`);
    for (const { path, role, bytes, autoV2 } of manifest.files)
      if (role === "lora") lines.push(`    ${path}  ${formatBytes(bytes)}, AutoV2 ${autoV2}`);
    if (manifest.triggerWords.length > 0) lines.push(`    trigger words: ${manifest.triggerWords.join(", ")}`);
    const results = Object.entries(manifest.results).map(([name, fact]) => `${name} ${readable(fact)}`);
    if (results.length > 0) lines.push(`    ${results.join(", ")}`);
    for (const { phase, verdict, at } of tests)
      lines.push(`    acceptance phase ${phase}: ${verdict} on ${at.slice(0, 10)}`);
    if (feedback.good + feedback.bad > 0) lines.push(`    feedback: ${feedback.good} good, ${feedback.bad} bad`);
    if (tags.length > 0) lines.push(`    tags: ${tags.join(", ")}`);
  }
  lines.push("", ...events.map(({ number, at, text }) => `${String(number).padStart(4)}  ${at.slice(0, 16)}  ${text}`));
  return lines.join("\n");
}

export const registryResolve = command({
  name: "registry resolve",
  usage: "ADDRESS[@vN|@current|@trial]",
  options: {
    ...storeOption,
    request: { type: "string", help: "key of a request; a running trial gets its share of the keys", value: "KEY" },
  },
  details: `
Prints which version a reference means. Without a version it is the current one, or the trial's for its share of requests.
The same key always gets the same version.`,
  async run({ store, request }, positionals, out) {
    const reference = onlyOne("resolve", "one ADDRESS", positionals);
    const result = await perform(out, "registry-resolve", { ...defined({ store, request }), reference });
    out.answer(result, () => `${result.address}@${result.version} (${result.by})`);
    return 0;
  },
});

export const registryDiff = command({
  name: "registry diff",
  usage: "ADDRESS v1 v2",
  options: { ...storeOption },
  details: "\nSays what differs between two versions: dataset, settings, results, trigger words.",
  async run({ store }, positionals, out) {
    const [address, before, after, ...rest] = positionals;
    if (address === undefined || before === undefined || after === undefined || rest.length > 0) {
      throw new KinoraError("cli.bad-arguments", "kinora registry diff takes an address and two versions", {
        hint: "e.g. kinora registry diff styles/acme/neon v1 v2",
      });
    }
    const result = await perform(out, "registry-diff", { ...defined({ store }), address, before, after });
    out.answer(
      result,
      () => result.differences.map(oneLine).join("\n") || `${before} and ${after} do not differ in anything recorded`,
    );
    return 0;
  },
});

export const registryNotes = command({
  name: "registry notes",
  usage: "[ADDRESS[@vN] [--add TEXT]]",
  options: { ...storeOption, add: { type: "string", help: "add a note to the log", value: "TEXT" } },
  details: `
Prints the training notes of a LoRA in Markdown, written from its versions and log; without ADDRESS the changelog of the
whole store. --add appends a note to a LoRA, or to one of its versions.`,
  async run({ store, add }, positionals, out) {
    if (positionals.length === 0 && add === undefined) {
      const result = await perform(out, "registry-notes", defined({ store }));
      out.answer(result, () => result.markdown);
      return 0;
    }
    const text = onlyOne("notes", "one ADDRESS", positionals);
    const { address, version } = text.includes("@")
      ? splitVersion("notes", text)
      : { address: text, version: undefined };
    if (add !== undefined) {
      const change = { action: "note" as const, text: add, ...defined({ version }) };
      await perform(out, "registry-change", { ...defined({ store }), address, change });
    }
    const result = await perform(out, "registry-notes", { ...defined({ store }), address });
    out.answer(result, () => result.markdown);
    return 0;
  },
});

export const registryVerify = command({
  name: "registry verify",
  usage: "",
  options: { ...storeOption },
  details: `
Reads every event and file and checks hashes, numbering and references. Exit code 0 only if the store is intact.`,
  async run({ store }, positionals, out) {
    noArguments("verify", positionals);
    const result = await follow(out, "registry-verify", defined({ store }), {
      show: ({ done, of }) => out.progress(`checking files: ${done} of ${of}`),
      until: () => "this file",
      stopped: () => ({ value: { end: "stopped" }, text: "stopped; nothing was changed" }),
    });
    if (!result) return STOPPED;
    out.answer(result, () => verified(result));
    return result.problems.length > 0 ? 1 : 0;
  },
});

function verified({ store, names, events, objects, bytes, problems }: ResultOf<"registry-verify">): string {
  const checked = `${plural(names, "LoRA")}, ${plural(events, "event")}, ${plural(objects, "file")} (${formatBytes(bytes)})`;
  if (problems.length === 0) return `${store} is intact: ${checked}`;
  return [`${store} is DAMAGED: ${checked}`, ...problems.map((problem) => `  ${problem}`)].join("\n");
}
