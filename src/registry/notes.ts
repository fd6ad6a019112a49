// What people read of a LoRA's life: training_notes.md for each name, and a changelog of the whole store. Written from the
// versions and the log each time; nobody edits them, notes are added by events.
import { formatBytes } from "../base/units.ts";
import type { RegistryEvent, RegistryVersion } from "../protocol/registry.ts";
import { type Address, formatAddress } from "./address.ts";
import type { Registry } from "./registry.ts";
import { describeEvent, type NameState, statusOf, type VersionState } from "./state.ts";

/** Markdown that a name or a note cannot break out of: no headings, tables or HTML of theirs. */
export function plain(text: string): string {
  return text.replace(/[\r\n]+/g, " ").replace(/[\\`*_{}[\]<>#|~]/g, "\\$&");
}

/** A fact for people: numbers with four digits, lists as they are. */
export function readable(given: unknown): string {
  if (given === null) return "none";
  return typeof given === "number" && !Number.isInteger(given) ? String(Number(given.toPrecision(4))) : String(given);
}

/** Two facts, with all their digits where they would read alike. */
function change(before: unknown, after: unknown): string {
  const say = (write: (given: unknown) => string) =>
    [before, after].map((given) => (given === undefined || given === "" ? "not set" : write(given)));
  const [a, b] = say(readable);
  return a === b ? say(String).join(" → ") : `${a} → ${b}`;
}

/** What differs between two versions, a line each, as plain text. */
export function differences(before: RegistryVersion, after: RegistryVersion): string[] {
  const lines: string[] = [];
  const compare = (title: string, a: Readonly<Record<string, unknown>>, b: Readonly<Record<string, unknown>>): void => {
    for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) {
      if (JSON.stringify(a[key]) === JSON.stringify(b[key])) continue;
      lines.push(`${title} ${key}: ${change(a[key], b[key])}`);
    }
  };
  const data = ({ dataset }: RegistryVersion) =>
    dataset
      ? {
          items: dataset.items,
          videos: dataset.videos,
          images: dataset.images,
          buckets: dataset.buckets.join(", "),
          content: dataset.sha256?.slice(0, 12),
        }
      : {};
  compare("dataset", data(before), data(after));
  compare("base", before.base, after.base);
  compare("setting", before.hyperparameters, after.hyperparameters);
  compare("result", before.results, after.results);
  compare("", described(before), described(after));
  return lines.map((line) => line.trim());
}

const described = ({ model, triggerWords, strength, licence }: RegistryVersion) => ({
  model,
  "trigger words": triggerWords.join(", "),
  strength,
  licence,
});

/** training_notes.md of one LoRA. */
export async function trainingNotes(registry: Registry, address: Address, state?: NameState): Promise<string> {
  const known = state ?? (await registry.state(address));
  const lines = [
    `# ${plain(address.name)}`,
    "",
    `\`${formatAddress(address)}\`. Written by Kinora from the registry; add notes with \`kinora registry notes\`.`,
    "",
  ];
  const versions = [...known.versions.values()];
  let before: RegistryVersion | undefined;
  const sections: string[][] = [];
  for (const version of versions) {
    const manifest = await registry.version(address, version.version, known);
    sections.push(section(known, version, manifest, before));
    before = manifest;
  }
  // The newest is what people look for.
  for (const part of sections.reverse()) lines.push(...part, "");
  return `${lines.join("\n").trimEnd()}\n`;
}

function section(
  state: NameState,
  version: VersionState,
  manifest: RegistryVersion,
  before: RegistryVersion | undefined,
): string[] {
  const { dataset, hyperparameters, results, triggerWords, strength, model, files, description } = manifest;
  const lines = [`## ${version.version} (${version.publishedAt.slice(0, 10)}): ${statusOf(state, version)}`, ""];
  const row = (title: string, text: string | undefined): void => {
    if (text) lines.push(`- **${title}:** ${text}`);
  };
  row("Published by", plain(version.publishedBy));
  row("Description", plain(description));
  row("Model", model);
  row("Trigger words", triggerWords.map(plain).join(", "));
  row("Strength", String(strength));
  row("Dataset", dataset && `${dataset.items} items from ${dataset.videos} videos and ${dataset.images} images`);
  row("Hyperparameters", pairs(hyperparameters));
  row("Results", pairs(results));
  for (const { path, bytes, autoV2 } of files.filter(({ role }) => role === "lora")) {
    row("File", `${plain(path)}, ${formatBytes(bytes)}, AutoV2 ${autoV2}`);
  }
  if (before)
    row(
      `Changed since ${before.version}`,
      plain(differences(before, manifest).join("; ")) || "nothing that is recorded",
    );
  for (const { phase, verdict, at, scores } of version.tests) {
    const told = scores
      ? ` (${Object.entries(scores)
          .map(([name, score]) => `${plain(name)} ${score}`)
          .join(", ")})`
      : "";
    row(`Acceptance phase ${phase}`, `${verdict} on ${at.slice(0, 10)}${told}`);
  }
  for (const { who, at, why } of version.approvals)
    row("Approved", `by ${plain(who)} on ${at.slice(0, 10)}${why ? `: ${plain(why)}` : ""}`);
  const { good, bad } = version.feedback;
  if (good + bad > 0) row("Feedback", `${good} good, ${bad} bad`);
  if (version.deprecated) {
    const { why, replacedBy } = version.deprecated;
    row(
      "Deprecated",
      [replacedBy && `replaced by ${replacedBy}`, why && plain(why)].filter(Boolean).join(": ") || "yes",
    );
  }
  const notes = state.notes.filter((note) => note.version === version.version);
  for (const { at, who, text } of notes) row("Note", `${plain(text)} (${plain(who)}, ${at.slice(0, 10)})`);
  return lines;
}

const pairs = (facts: Readonly<Record<string, unknown>>): string =>
  Object.entries(facts)
    .map(([key, fact]) => plain(`${key} ${readable(fact)}`))
    .join(", ");

/** CHANGELOG.md of the whole store, the latest first. */
export async function changelog(registry: Registry): Promise<string> {
  const all: { address: Address; event: RegistryEvent }[] = [];
  for await (const address of registry.names()) {
    for (const event of (await registry.state(address)).events) all.push({ address, event });
  }
  all.sort((a, b) => (a.event.at < b.event.at ? 1 : -1));
  const lines = ["# Changelog of the registry", ""];
  let day = "";
  for (const { address, event } of all) {
    if (event.what.type === "feedback") continue;
    const date = event.at.slice(0, 10);
    if (date !== day) lines.push(...(day === "" ? [] : [""]), `## ${date}`, "");
    day = date;
    lines.push(`- \`${formatAddress(address)}\`: ${plain(describeEvent(event))}`);
  }
  return `${lines.join("\n")}\n`;
}
