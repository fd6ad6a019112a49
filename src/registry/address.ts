// Where a LoRA stands in a registry: `styles/acme/tst`, with a version or alias behind it `styles/acme/tst@v2`.
import { KinoraError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";
import { nameProblem } from "../base/platform.ts";
import { aliasNames, type LoraKind, loraKinds, versionNameSchema } from "../protocol/registry.ts";

/** Where a LoRA is in a registry. */
export interface Address {
  kind: LoraKind;
  project: string;
  name: string;
}

/** An address and which version of it; `current` where none is named. */
export interface Reference {
  address: Address;
  /** `v2`, `current` or `trial`. */
  which: string;
}

const kinds = Object.keys(loraKinds) as LoraKind[];

/** `characters/brandX/protagonist`. */
export function formatAddress({ kind, project, name }: Address): string {
  return `${loraKinds[kind]}/${project}/${name}`;
}

/** `character`, or the folder's name `characters`. Throws `registry.bad-kind`. */
export function parseKind(text: string): LoraKind {
  const found = kinds.find((kind) => kind === text || loraKinds[kind] === text);
  if (found) return found;
  const near = nearestName(text, kinds);
  throw new KinoraError("registry.bad-kind", "this is not a kind of LoRA", {
    expected: kinds.join(", "),
    actual: text,
    hint: near ? `did you mean ${near}?` : "choose what the LoRA teaches",
  });
}

/** A project's or a LoRA's name: one part of a path on every system, in composed letters. Throws `registry.bad-name`. */
export function checkName(what: "project" | "name", text: string): string {
  const name = text.normalize("NFC");
  const problem =
    nameProblem(name) ??
    (name.startsWith(".") ? "it begins with a dot" : undefined) ??
    (/[@]/.test(name) ? "it contains @, which stands before a version" : undefined) ??
    ([...name].length > 80 ? "it is longer than 80 characters" : undefined);
  if (problem === undefined) return name;
  throw new KinoraError(
    "registry.bad-name",
    `this cannot be a ${what === "name" ? "LoRA's name" : "project"}: ${problem}`,
    {
      actual: JSON.stringify(text),
      hint: "letters of any script, digits, spaces, - and _ are fine",
    },
  );
}

/** Throws `registry.bad-address`, `registry.bad-kind`, `registry.bad-name`. */
export function parseAddress(text: string): Address {
  const parts = text.split("/");
  const [kind, project, name] = parts;
  if (parts.length !== 3 || !kind || !project || !name || text.includes("@")) throw badAddress(text);
  return { kind: parseKind(kind), project: checkName("project", project), name: checkName("name", name) };
}

/** `styles/acme/tst`, `styles/acme/tst@v2`, `…@current`. Throws as `parseAddress` does, and `registry.bad-version`. */
export function parseReference(text: string): Reference {
  const at = text.indexOf("@");
  const address = parseAddress(at < 0 ? text : text.slice(0, at));
  return { address, which: at < 0 ? "current" : checkWhich(text.slice(at + 1)) };
}

/** How a LoRA of the registry is written where a file could stand. */
const scheme = "registry:";

export const isLoraReference = (text: string): boolean => text.startsWith(scheme);

/** `registry:styles/acme/neon@v2:0.8`: a reference, and the strength where one is given. Throws as `parseReference`. */
export function parseLoraReference(text: string): { reference: Reference; strength: number | undefined } {
  const [, reference = "", strength] = /^registry:(.*?)(?::([^:/@]*))?$/s.exec(text) ?? [];
  if (strength === undefined) return { reference: parseReference(reference), strength: undefined };
  const value = Number(strength);
  if (strength.trim() === "" || !Number.isFinite(value)) {
    throw new KinoraError("lora.bad-strength", `the strength in ${text} is not a number`, {
      actual: strength,
      hint: `e.g. ${scheme}${reference}:0.8`,
    });
  }
  return { reference: parseReference(reference), strength: value };
}

/** A version or an alias. Throws `registry.bad-version`. */
export function checkWhich(text: string): string {
  if (versionNameSchema.safeParse(text).success || aliasNames.some((alias) => alias === text)) return text;
  throw new KinoraError("registry.bad-version", "this is not a version or alias", {
    expected: `v1, v2, …, or ${aliasNames.join(" or ")}`,
    actual: text,
    hint: /^\d+$/.test(text) ? `did you mean @v${text}?` : "kinora registry show NAME lists them",
  });
}

function badAddress(text: string): KinoraError {
  return new KinoraError("registry.bad-address", "this is not a LoRA address", {
    expected: "KIND/PROJECT/NAME",
    actual: text,
    hint: "e.g. styles/acme/neon, or styles/acme/neon@v2 for a version",
  });
}
