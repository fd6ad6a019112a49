// kinora registry export, gc, people, whoami: the store as files, its leftovers, and who may do what.
import { defined } from "../../../base/defined.ts";
import { KinoraError } from "../../../base/errors.ts";
import { formatBytes, plural } from "../../../base/units.ts";
import type { ResultOf } from "../../../jobs/table.ts";
import { type RoleName, roleNames } from "../../../protocol/registry.ts";
import { command } from "../../command.ts";
import { follow, perform, STOPPED } from "../../follow.ts";
import { parseChoice } from "../../parse.ts";
import { kindOf, kindOption } from "./look.ts";
import { noArguments, onlyOne, storeOption } from "./shared.ts";

export const registryExport = command({
  name: "registry export",
  usage: "DIR [--current]",
  options: {
    ...storeOption,
    ...kindOption,
    current: { type: "boolean", help: "only current versions (default: all that are not deprecated)" },
  },
  details: `
Lays the registry out as KIND/PROJECT/NAME_vN_YYYYMMDD.safetensors with training_notes.md and CHANGELOG.md, for ComfyUI's
models/loras or a network share. Uses hard links on the same disk, else copies. Other files in DIR are left unchanged.`,
  async run(values, positionals, out) {
    const request = {
      ...defined({ store: values.store, kind: kindOf(values.kind) }),
      out: onlyOne("export", "one folder", positionals),
      versions: values.current ? ("current" as const) : ("all" as const),
    };
    const result = await follow(out, "registry-export", request, {
      show: ({ file, written }) => out.progress(`${written ? "wrote" : "unchanged"} ${file}`),
      until: () => "this file",
      stopped: () => ({ value: { end: "stopped" }, text: "stopped; run the same command again to continue" }),
    });
    if (!result) return STOPPED;
    out.answer(result, () => `${result.out}: ${plural(result.files, "file")}, ${result.written} written`);
    return 0;
  },
});

export const registryCollect = command({
  name: "registry gc",
  usage: "[--dry-run]",
  options: { ...storeOption, "dry-run": { type: "boolean", help: "only print what would be removed" } },
  details:
    "\nRemoves files that no version refers to, as interrupted publications leave them. Files under a day old are kept.",
  async run({ store, "dry-run": dryRun }, positionals, out) {
    noArguments("gc", positionals);
    const result = await perform(out, "registry-gc", { ...defined({ store }), dryRun });
    const kept = result.kept > 0 ? `; ${result.kept} unused but under a day old` : "";
    const what = `${plural(result.removed, "file")} (${formatBytes(result.bytes)})`;
    out.answer(result, () => `${dryRun ? "would remove" : "removed"} ${what}${kept}`);
    return 0;
  },
});

export const registryPeople = command({
  name: "registry people",
  usage: "[--set PERSON=ROLE …] [--others ROLE]",
  options: {
    ...storeOption,
    set: {
      type: "string",
      help: `give a role: ${roleNames.join(", ")}; none removes it`,
      value: "PERSON=ROLE",
      multiple: true,
    },
    others: { type: "string", help: "role of people who are not listed (default none)", value: "ROLE" },
  },
  details: `
Roles: trainer (publish, test, comment), production (use approved versions, give feedback), admin (approve, promote, roll
back, manage people). Without a policy everybody is an admin. You are KINORA_USER, or USER@HOST. On a bare folder or bucket
the policy is kept by agreement: the log shows who did what.

Example:
  kinora registry people --set ada@render1=admin --set bo@desk=trainer --others production`,
  async run(values, positionals, out) {
    noArguments("people", positionals);
    const result = await perform(out, "registry-people", {
      ...defined({ store: values.store }),
      ...(values.set.length > 0 ? { set: Object.fromEntries(values.set.map(parsePerson)) } : {}),
      ...(values.others === undefined
        ? {}
        : { others: parseChoice("--others", values.others, [...roleNames, "none"]) }),
    });
    out.answer(result, () => people(result));
    return 0;
  },
});

function parsePerson(text: string): [string, RoleName | null] {
  const at = text.lastIndexOf("=");
  if (at > 0) {
    const role = parseChoice("--set", text.slice(at + 1), [...roleNames, "none"]);
    return [text.slice(0, at), role === "none" ? null : role];
  }
  throw new KinoraError("cli.bad-value", "--set is invalid", {
    expected: "PERSON=ROLE",
    actual: text,
    hint: "e.g. --set ada@render1=admin",
  });
}

function people({ policy, people: roles, others }: ResultOf<"registry-people">): string {
  if (!policy) return "no policy: everybody is an admin; --set PERSON=admin creates one";
  const rows = [...Object.entries(roles), ["everybody else", others] as const];
  const width = Math.max(...rows.map(([who]) => who.length));
  return rows.map(([who, role]) => `${who.padEnd(width)}  ${role}`).join("\n");
}

export const registryWhoAmI = command({
  name: "registry whoami",
  usage: "",
  options: { ...storeOption },
  async run({ store }, positionals, out) {
    noArguments("whoami", positionals);
    const { person, store: place } = await perform(out, "registry-people", defined({ store }));
    out.answer({ ...person, store: place }, () => `${person.who} (${person.role ?? "no role"}) in ${place}`);
    return 0;
  },
});
