// Who may do what in a registry. On a bare store this is a policy file that everybody keeps to, and the log shows who did
// what; behind the server it is enforced.
import { hostname, userInfo } from "node:os";
import { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import { type Happening, policySchema, type RegistryPolicy, type RoleName } from "../protocol/registry.ts";

export type Deed = Happening["type"] | "use-unapproved" | "manage";

/** What each role may do; an admin may do everything. */
const allowed: Readonly<Record<Exclude<RoleName, "admin">, ReadonlySet<Deed>>> = {
  trainer: new Set<Deed>(["published", "tested", "feedback", "tagged", "note", "use-unapproved"]),
  production: new Set<Deed>(["feedback", "note"]),
};

/** Who acts, and their role. */
export interface Person {
  who: string;
  /** Absent for people whom the policy does not know. */
  role: RoleName | undefined;
}

/** KINORA_USER, else this machine's user. */
export function whoAmI(environment: Readonly<Record<string, string | undefined>>): string {
  const named = environment.KINORA_USER?.trim();
  if (named) return named;
  try {
    return `${userInfo().username}@${hostname()}`;
  } catch {
    return `unknown@${hostname()}`;
  }
}

/** The role a person has; everybody is an admin where there is no policy. */
export function personOf(who: string, policy: RegistryPolicy | undefined): Person {
  if (!policy) return { who, role: "admin" };
  const role = policy.people[who] ?? policy.others;
  return { who, role: role === "none" ? undefined : role };
}

/** Whether a person may do a deed. */
export function mayDo({ role }: Person, deed: Deed): boolean {
  return role === "admin" || (role !== undefined && allowed[role].has(deed));
}

const words: Partial<Record<Deed, string>> = {
  published: "publish",
  approved: "approve a version",
  promoted: "promote a version",
  "rolled-back": "roll back",
  "trial-started": "start a trial",
  "share-changed": "change a trial",
  "trial-ended": "end a trial",
  deprecated: "deprecate a version",
  "use-unapproved": "use a version that is not approved",
  manage: "manage people",
};

/** Throws `registry.no-rights`. */
export function demand(person: Person, deed: Deed): void {
  if (mayDo(person, deed)) return;
  const roles = (["trainer", "production", "admin"] as const).filter((role) => mayDo({ who: "", role }, deed));
  throw new KinoraError("registry.no-rights", `${person.who} may not ${words[deed] ?? deed}`, {
    expected: `role ${roles.join(" or ")}`,
    actual: person.role ? `role ${person.role}` : "no role",
    hint: "an admin can change roles: kinora registry people",
  });
}

/** Throws `registry.bad-policy`. */
export function parsePolicy(data: Uint8Array, place: string): RegistryPolicy {
  try {
    return policySchema.parse(JSON.parse(new TextDecoder().decode(data)));
  } catch (cause) {
    const why = cause instanceof z.ZodError ? z.prettifyError(cause).replaceAll("\n", " ") : "it is not valid JSON";
    throw new KinoraError("registry.bad-policy", `policy.json of ${place} cannot be read: ${why}`, {
      hint: "fix it or restore it from a backup; until then nobody can write",
      cause,
    });
  }
}
