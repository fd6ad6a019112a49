// A registry of LoRAs: what is published, which version is in production, and how it came to be so. The door of this room.
// Versions never change and the log only grows, so whatever is done can be seen, and undone by one more event.
import { createHash } from "node:crypto";
import { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import {
  type Happening,
  type LoraKind,
  loraKinds,
  type RegistryEvent,
  type RegistryPolicy,
  type RegistryVersion,
  registryFormat,
  storeSchema,
  type VersionFile,
  versionSchema,
} from "../protocol/registry.ts";
import { type Address, formatAddress, type Reference } from "./address.ts";
import { append, newer, type ReadLog, readLog } from "./log.ts";
import { contentOf, getValue, objectKey, putValue } from "./objects.ts";
import { type Deed, demand, type Person, parsePolicy, personOf } from "./rights.ts";
import { fold, hasPassed, type NameState, nextVersion, type VersionState } from "./state.ts";
import type { Storage } from "./storage/storage.ts";

/** A file to publish: where it lies, and what it is. */
export interface PublishedFile extends Pick<VersionFile, "path" | "role" | "expert"> {
  source: string;
}

/** What is published, beside its files. */
export type VersionFacts = Partial<
  Pick<
    RegistryVersion,
    | "model"
    | "triggerWords"
    | "strength"
    | "description"
    | "licence"
    | "base"
    | "hyperparameters"
    | "dataset"
    | "results"
    | "tags"
  >
>;

/** The version that a reference means. */
export interface Resolved {
  address: Address;
  version: string;
  /** How it was chosen. */
  by: "version" | "current" | "trial";
  manifest: RegistryVersion;
}

/** Called after an event is in the log; it must not throw. */
export type EventListener = (address: Address, event: RegistryEvent, state: NameState) => void;

const encode = (value: unknown): Uint8Array => new TextEncoder().encode(`${JSON.stringify(value, null, 1)}\n`);
const folderOf = (address: Address): string => `names/${formatAddress(address)}`;

/** An open registry, as one person sees it. Reads the log at each call: what others did meanwhile is seen. */
export class Registry {
  readonly storage: Storage;
  readonly person: Person;
  readonly #listeners: EventListener[] = [];

  private constructor(storage: Storage, person: Person) {
    this.storage = storage;
    this.person = person;
  }

  /** Makes a registry, or finds that one is there. Throws `registry.newer`, and the storage's. */
  static async init(storage: Storage, who: string): Promise<{ registry: Registry; made: boolean }> {
    const store = { kind: "kinora.registry", format: registryFormat, created: new Date().toISOString() };
    const made = await storage.create("store.json", encode(store));
    return { registry: await Registry.open(storage, who), made };
  }

  /** Throws `registry.not-a-store`, `registry.newer`, `registry.bad-policy`. */
  static async open(storage: Storage, who: string): Promise<Registry> {
    const data = await storage.read("store.json");
    if (data === undefined) throw notAStore(storage.place, "it has no store.json");
    let value: unknown;
    try {
      value = JSON.parse(new TextDecoder().decode(data));
    } catch {
      throw notAStore(storage.place, "its store.json is damaged");
    }
    const format = (value as { format?: unknown } | null)?.format;
    if (typeof format === "number" && format > registryFormat) throw newer(storage.place, format);
    if (!storeSchema.safeParse(value).success)
      throw notAStore(storage.place, "its store.json belongs to another program");
    const policy = await storage.read("policy.json");
    return new Registry(storage, personOf(who, policy && parsePolicy(policy, storage.place)));
  }

  /** Hears of each event that this object appends. */
  onEvent(listener: EventListener): void {
    this.#listeners.push(listener);
  }

  async policy(): Promise<RegistryPolicy | undefined> {
    const data = await this.storage.read("policy.json");
    return data && parsePolicy(data, this.storage.place);
  }

  /** Throws `registry.no-rights`, `registry.no-admin` where nobody could change it again. */
  async setPolicy(policy: RegistryPolicy): Promise<void> {
    demand(this.person, "manage");
    if (policy.others !== "admin" && !Object.values(policy.people).includes("admin")) {
      throw new KinoraError("registry.no-admin", "this policy has no admin, so nobody could change it later", {
        hint: `give one person the role admin, e.g. ${this.person.who}`,
      });
    }
    await this.storage.replace("policy.json", encode(policy));
  }

  /** Every LoRA in the store, in order; of one kind where one is named. */
  async *names(kind?: LoraKind): AsyncGenerator<Address> {
    const folders = Object.fromEntries(Object.entries(loraKinds).map(([name, folder]) => [folder, name as LoraKind]));
    let before = "";
    for await (const { key } of this.storage.list(kind ? `names/${loraKinds[kind]}/` : "names/")) {
      const [, folder, project, name] = /^names\/([^/]+)\/([^/]+)\/([^/]+)\/events\//.exec(key) ?? [];
      const found = folder === undefined ? undefined : folders[folder];
      const id = `${folder}/${project}/${name}`;
      if (!found || !project || !name || id === before) continue;
      before = id;
      yield { kind: found, project, name };
    }
  }

  /** What is known of a LoRA. Throws `registry.unknown-name`. */
  async state(address: Address): Promise<NameState> {
    const { events } = await readLog(this.storage, folderOf(address));
    if (events.length === 0) throw await this.#unknown(address);
    return fold(events);
  }

  async #unknown(address: Address): Promise<KinoraError> {
    const others: string[] = [];
    for await (const other of this.names()) if (others.push(formatAddress(other)) >= 200) break;
    const same = others.find((other) => other.endsWith(`/${address.name}`));
    return new KinoraError("registry.unknown-name", `${this.storage.place} has no ${formatAddress(address)}`, {
      hint: same ? `did you mean ${same}?` : "kinora registry list shows what exists",
    });
  }

  /** The manifest of a version. Throws `registry.unknown-version`, `registry.object-*`. */
  async version(address: Address, version: string, state?: NameState): Promise<RegistryVersion> {
    const found = versionOf(state ?? (await this.state(address)), address, version);
    const parsed = versionSchema.safeParse(
      JSON.parse(new TextDecoder().decode(await getValue(this.storage, found.manifest))),
    );
    if (parsed.success) return parsed.data;
    throw new KinoraError(
      "registry.damaged-version",
      `version.json of ${formatAddress(address)}@${version} cannot be read`,
      {
        actual: z.prettifyError(parsed.error).replaceAll("\n", " "),
        hint: "kinora registry verify lists what is damaged; restore the file from a backup, or publish the same files again",
      },
    );
  }

  /**
   * Stores the files and appends a version. The same files published twice are stored once.
   * Throws `registry.no-rights`, `io.*`, `registry.no-files`, and the storage's; nothing is published then.
   */
  async publish(
    address: Address,
    files: readonly PublishedFile[],
    facts: VersionFacts = {},
    options: { why?: string | undefined; stored?: (done: number, of: number) => void } = {},
  ): Promise<{ version: string; manifest: RegistryVersion }> {
    demand(this.person, "published");
    if (!files.some(({ role }) => role === "lora")) {
      throw new KinoraError("registry.no-files", "there is no LoRA among the files", {
        hint: "give a run folder or a .safetensors file",
      });
    }
    const stored: VersionFile[] = [];
    for (const { source, ...file } of files) {
      const content = await contentOf(source);
      await this.storage.storeFile(objectKey(content.sha256), source, content);
      const autoV2 = file.role === "lora" ? { autoV2: content.sha256.slice(0, 10).toUpperCase() } : {};
      stored.push({ ...file, ...content, ...autoV2 });
      options.stored?.(stored.length, files.length);
    }
    let manifest: RegistryVersion | undefined;
    await this.#append(address, options.why, async ({ events }) => {
      manifest = versionSchema.parse({
        ...facts,
        kind: "kinora.registry.version",
        format: registryFormat,
        address: formatAddress(address),
        version: nextVersion(fold(events)),
        published: new Date().toISOString(),
        files: stored,
      });
      return { type: "published", version: manifest.version, manifest: await putValue(this.storage, encode(manifest)) };
    });
    return { version: manifest!.version, manifest: manifest! };
  }

  /** The result of an acceptance phase. */
  async recordTest(
    address: Address,
    result: Omit<Extract<Happening, { type: "tested" }>, "type" | "report"> & { report?: Uint8Array | undefined },
  ): Promise<void> {
    const { report, ...rest } = result;
    const hash = report && (await putValue(this.storage, report));
    await this.#append(address, undefined, (log) => {
      versionOf(fold(log.events), address, result.version);
      return { type: "tested", ...rest, ...(hash ? { report: hash } : {}) };
    });
  }

  async approve(address: Address, version: string, why: string | undefined): Promise<void> {
    await this.#about(address, version, why, () => ({ type: "approved", version }));
  }

  /**
   * Makes a version current. It must have passed acceptance and been approved by somebody other than who published it.
   * `force` does without, and the log keeps the reason.
   * Throws `registry.not-accepted`, `registry.no-reason`, `registry.no-rights`.
   */
  async promote(address: Address, version: string, why: string, force = false): Promise<void> {
    needReason(why);
    await this.#about(address, version, why, (state, found) => {
      if (state.current === version) return undefined;
      const lacks = lackOf(found);
      if (lacks.length > 0 && !force) {
        throw new KinoraError(
          "registry.not-accepted",
          `${formatAddress(address)}@${version} is not ready: ${lacks.join("; ")}`,
          {
            hint: "kinora accept and kinora registry approve make it ready; `force` skips this, and the log records the reason",
          },
        );
      }
      return { type: "promoted", version, ...(lacks.length > 0 ? { forced: true } : {}) };
    });
  }

  /** Gives a version a share of the requests, or changes the share it has. Throws `registry.trial-running`. */
  async trial(address: Address, version: string, share: number, why?: string): Promise<void> {
    if (!(share > 0 && share < 1)) {
      throw new KinoraError("registry.bad-share", "a trial takes a share of the requests", {
        expected: "more than 0 % and less than 100 %",
        actual: `${share * 100} %`,
        hint: "e.g. 15 %",
      });
    }
    await this.#about(address, version, why, ({ current, trial }) => {
      if (current === undefined) {
        throw new KinoraError(
          "registry.no-current",
          `${formatAddress(address)} has no current version to try this against`,
          {
            hint: "promote one first",
          },
        );
      }
      if (current === version) {
        throw new KinoraError("registry.already-current", `${version} is current: there is nothing to try`, {
          hint: "try another version",
        });
      }
      if (trial && trial.version !== version) {
        throw new KinoraError("registry.trial-running", `a trial of ${trial.version} is running`, {
          hint: "end it first: kinora registry trial NAME --end",
        });
      }
      if (trial) return trial.share === share ? undefined : { type: "share-changed", version, share };
      return { type: "trial-started", version, share };
    });
  }

  async endTrial(address: Address, why?: string): Promise<void> {
    await this.#append(address, why, ({ events }) => {
      const { trial } = fold(events);
      if (trial) return { type: "trial-ended", version: trial.version };
      throw new KinoraError("registry.no-trial", `no trial of ${formatAddress(address)} is running`, {
        hint: "start one first",
      });
    });
  }

  async deprecate(address: Address, version: string, why?: string, replacedBy?: string): Promise<void> {
    await this.#about(address, version, why, (state, found) => {
      if (state.current === version) {
        throw new KinoraError("registry.is-current", `${version} is in production`, {
          hint: "promote another version first, or roll back",
        });
      }
      if (replacedBy !== undefined) versionOf(state, address, replacedBy);
      return found.deprecated ? undefined : { type: "deprecated", version, ...(replacedBy ? { replacedBy } : {}) };
    });
  }

  /** Back to the version that was current before, or to a named one. One event. Throws `registry.nothing-before`. */
  async rollback(address: Address, why: string, to?: string): Promise<{ from: string; to: string }> {
    needReason(why);
    let moved: { from: string; to: string } | undefined;
    await this.#append(address, why, ({ events }) => {
      const state = fold(events);
      const from = state.current;
      const target = to ?? before(state);
      if (from === undefined || target === undefined || target === from) {
        throw new KinoraError("registry.nothing-before", `${formatAddress(address)} has no version to go back to`, {
          hint: "kinora registry show lists the versions; `to` names one that was published",
        });
      }
      versionOf(state, address, target);
      moved = { from, to: target };
      return { type: "rolled-back", ...moved };
    });
    return moved!;
  }

  async tag(address: Address, version: string, tags: readonly string[]): Promise<void> {
    await this.#about(address, version, undefined, () => ({ type: "tagged", version, tags: [...new Set(tags)] }));
  }

  async note(address: Address, text: string, version?: string): Promise<void> {
    await this.#append(address, undefined, ({ events }) => {
      if (version !== undefined) versionOf(fold(events), address, version);
      return { type: "note", text, ...(version === undefined ? {} : { version }) };
    });
  }

  async feedback(
    address: Address,
    version: string,
    verdict: "good" | "bad",
    more: { note?: string | undefined; film?: string | undefined } = {},
  ): Promise<void> {
    const { note, film } = more;
    await this.#about(address, version, undefined, () => ({
      type: "feedback",
      version,
      verdict,
      ...(note ? { note } : {}),
      ...(film ? { film } : {}),
    }));
  }

  /**
   * Which version a reference means. `current` goes to a running trial for its share of the requests, decided by a hash of
   * `request` (a request's own key or its seed), so that the same request always goes the same way.
   * Throws `registry.unknown-name`, `registry.unknown-version`, `registry.no-current`, `registry.no-rights`.
   */
  async resolve({ address, which }: Reference, request?: string): Promise<Resolved> {
    const state = await this.state(address);
    const { current, trial } = state;
    const chosen = ((): { version: string; by: Resolved["by"] } | undefined => {
      if (which === "trial") return trial && { version: trial.version, by: "trial" };
      if (which !== "current") return { version: which, by: "version" };
      if (trial && request !== undefined && inShare(address, request, trial.share)) {
        return { version: trial.version, by: "trial" };
      }
      return current === undefined ? undefined : { version: current, by: "current" };
    })();
    if (!chosen) {
      const versions = [...state.versions.keys()];
      throw new KinoraError("registry.no-current", `${formatAddress(address)} has no ${which} version`, {
        hint: `promote one, or name it: ${formatAddress(address)}@${versions.at(-1)}`,
      });
    }
    const found = versionOf(state, address, chosen.version);
    const approved = found.approvals.length > 0 || state.everCurrent.has(chosen.version) || chosen.by === "trial";
    if (!approved) demand(this.person, "use-unapproved");
    return { address, ...chosen, manifest: await this.version(address, chosen.version, state) };
  }

  async #about(
    address: Address,
    version: string,
    why: string | undefined,
    decide: (state: NameState, found: VersionState) => Happening | undefined,
  ): Promise<void> {
    await this.#append(address, why, ({ events }) => {
      const state = fold(events);
      return decide(state, versionOf(state, address, version));
    });
  }

  async #append(
    address: Address,
    why: string | undefined,
    decide: (log: ReadLog) => Promise<Happening | undefined> | Happening | undefined,
  ): Promise<void> {
    const { who, role } = this.person;
    const folder = folderOf(address);
    const event = await append(this.storage, folder, { who, role, why }, async (log) => {
      const what = await decide(log);
      if (what?.type !== "published" && log.events.length === 0) throw await this.#unknown(address);
      if (what) demand(this.person, what.type satisfies Deed);
      return what;
    });
    if (!event || this.#listeners.length === 0) return;
    const state = await this.state(address);
    for (const listener of this.#listeners) listener(address, event, state);
  }
}

/** The same request goes the same way while the share stays, and stays in a share that grows. */
export function inShare(address: Address, request: string, share: number): boolean {
  const digest = createHash("sha256")
    .update(`${formatAddress(address)}\n${request}`)
    .digest();
  return digest.readUInt32BE(0) / 2 ** 32 < share;
}

/** Throws `registry.unknown-version`. */
function versionOf(state: NameState, address: Address, version: string): VersionState {
  const found = state.versions.get(version);
  if (found) return found;
  throw new KinoraError("registry.unknown-version", `${formatAddress(address)} has no ${version}`, {
    expected: [...state.versions.keys()].join(", "),
    hint: `kinora registry show ${formatAddress(address)}`,
  });
}

/** What speaks against a version's promotion. */
function lackOf(version: VersionState): string[] {
  const failed = version.tests.findLast(({ phase }) => phase === 1 || phase === 2);
  const approved = version.approvals.some(({ who }) => who !== version.publishedBy);
  return [
    ...(hasPassed(version, 1) ? [] : ["acceptance phase 1 has not been passed"]),
    ...(hasPassed(version, 2) ? [] : [`acceptance phase 2 has ${failed?.phase === 2 ? "failed" : "not been passed"}`]),
    ...(approved ? [] : ["nobody but its publisher has approved it"]),
  ];
}

/** The version that was current before the one that is, passing over what has been deprecated since. */
function before({ history, current, versions }: NameState): string | undefined {
  return history.findLast((version) => version !== current && !versions.get(version)?.deprecated);
}

function needReason(why: string): void {
  if (why.trim() !== "") return;
  throw new KinoraError("registry.no-reason", "a change to production needs a reason", { hint: "give `why`" });
}

function notAStore(place: string, why: string): KinoraError {
  return new KinoraError("registry.not-a-store", `${place} is not a registry: ${why}`, {
    hint: `kinora registry init --store ${place} creates one`,
  });
}
