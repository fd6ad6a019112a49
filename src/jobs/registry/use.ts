// The registry's part of a generation: references become files on this machine, and how it went is recorded.
import { KinoraError } from "../../base/errors.ts";
import { drawSeed } from "../../base/rng/seed.ts";
import { plural } from "../../base/units.ts";
import type { Recipe } from "../../protocol/recipe.ts";
import { registryFormat, type UseRecord } from "../../protocol/registry.ts";
import { formatAddress, isLoraReference, parseLoraReference, type Reference } from "../../registry/address.ts";
import { isUnreachable, LocalCopies } from "../../registry/local.ts";
import { openRegistry, storePlace } from "../../registry/open.ts";
import { addRecord } from "../../registry/records.ts";
import type { Registry, Resolved } from "../../registry/registry.ts";
import { whoAmI } from "../../registry/rights.ts";
import { errorData } from "../errors.ts";
import type { GenerateRequest, AskedLora as Lora } from "../generate-options.ts";
import type { JobContext } from "../job.ts";

/** How long a record may keep a generation waiting. */
const RECORD_MS = 10_000;

/** A request without references, and what its generations are to be recorded for. */
export interface SettledLoras {
  request: GenerateRequest;
  notes: string[];
  uses: RegistryUses;
}

/** Throws `registry.*`, `lora.bad-strength`, `io.*`, `s3.*`. `seed`: of the recipe that is repeated. */
export async function settleLoras(
  asked: GenerateRequest,
  { env, cacheFolder }: Pick<JobContext, "env" | "cacheFolder">,
  seedOf: () => Promise<string | undefined>,
): Promise<SettledLoras> {
  const { store, requestKey, ...request } = asked;
  const choices = (request.loras ?? []).map((lora): Lora => (typeof lora === "string" ? { path: lora } : lora));
  if (!choices.some(({ path }) => isLoraReference(path)))
    return { request, notes: [], uses: new RegistryUses(undefined, []) };
  const place = storePlace(store, env);
  let opened: Promise<Registry> | undefined;
  const open = (): Promise<Registry> => {
    opened ??= openRegistry(place, env);
    return opened;
  };
  // A trial's share is decided by the seed, so a seed that nobody gave is drawn here.
  const given = request.seed === undefined || BigInt(request.seed) < 0n ? await seedOf() : request.seed;
  const seed = given ?? String(drawSeed());
  const finder = new Finder(place, open, new LocalCopies(cacheFolder), requestKey ?? String(seed));
  const loras: Lora[] = [];
  for (const choice of choices) {
    if (isLoraReference(choice.path)) loras.push(...(await finder.files(choice)));
    else loras.push(choice);
  }
  return {
    request: { ...request, seed, loras },
    notes: finder.notes,
    uses: new RegistryUses({ open, who: whoAmI(env) }, finder.used),
  };
}

interface Used {
  resolved: Resolved;
  strength: number;
}

class Finder {
  readonly #place: string;
  readonly #open: () => Promise<Registry>;
  readonly #copies: LocalCopies;
  readonly #request: string;
  readonly notes: string[] = [];
  readonly used: Used[] = [];

  constructor(place: string, open: () => Promise<Registry>, copies: LocalCopies, request: string) {
    this.#place = place;
    this.#open = open;
    this.#copies = copies;
    this.#request = request;
  }

  /** The files of a version: one, or one for each expert. */
  async files({ path, expert, ...choice }: Lora): Promise<Lora[]> {
    const { reference, strength: written } = parseLoraReference(path);
    if (written !== undefined && choice.strength !== undefined && written !== choice.strength) {
      throw new KinoraError("generate.contradiction", `${path} and its strength contradict each other`, {
        actual: `${choice.strength}`,
        hint: "give one of them",
      });
    }
    const resolved = await this.#resolve(reference);
    const { address, version, by, manifest } = resolved;
    const strength = choice.strength ?? written ?? manifest.strength;
    const name = `${formatAddress(address)}@${version}`;
    this.used.push({ resolved, strength });
    const files = manifest.files.filter(({ role }) => role === "lora");
    const wanted = files.filter((file) => !expert || expert === "both" || files.length === 1 || file.expert === expert);
    this.notes.push(`registry:${name} (${by}) at strength ${strength}, ${plural(wanted.length, "file")}`);
    const loras: Lora[] = [];
    for (const file of wanted) {
      const one = files.length > 1 ? file.expert : (expert ?? file.expert);
      const local = await this.#copies.file(this.#open, file);
      loras.push({ ...choice, path: local, strength, registry: name, ...(one ? { expert: one } : {}) });
    }
    return loras;
  }

  async #resolve(reference: Reference): Promise<Resolved> {
    try {
      const registry = await this.#open();
      const resolved = await registry.resolve(reference, this.#request);
      await this.#copies.remember(registry, resolved);
      return resolved;
    } catch (error) {
      const known = isUnreachable(error) ? await this.#copies.recall(this.#place, reference, this.#request) : undefined;
      if (!known) throw error;
      this.notes.push(`the registry cannot be reached (${errorData(error).code}): using its last known answer`);
      return known;
    }
  }
}

/** Records how generations with versions of a registry went. Recording never fails a generation. */
export class RegistryUses {
  readonly #store: { open: () => Promise<Registry>; who: string } | undefined;
  readonly #used: readonly Used[];

  constructor(store: { open: () => Promise<Registry>; who: string } | undefined, used: readonly Used[]) {
    this.#store = store;
    this.#used = used;
  }

  /** What went wrong with recording, as a note. */
  async add(
    recipe: Pick<Recipe, "task" | "video" | "frames" | "steps" | "device">,
    outcome: Pick<UseRecord, "seconds" | "peakBytes" | "error">,
  ): Promise<string | undefined> {
    if (!this.#store || this.#used.length === 0) return undefined;
    try {
      await within(RECORD_MS, this.#add(this.#store, recipe, outcome));
      return undefined;
    } catch (error) {
      return `this generation was not recorded in the registry: ${(error as Error).message}`;
    }
  }

  async #add(
    { open, who }: { open: () => Promise<Registry>; who: string },
    { task, video, frames, steps, device }: Pick<Recipe, "task" | "video" | "frames" | "steps" | "device">,
    outcome: Pick<UseRecord, "seconds" | "peakBytes" | "error">,
  ): Promise<void> {
    const { storage } = await open();
    for (const { resolved, strength } of this.#used) {
      await addRecord(storage, {
        kind: "kinora.registry.record",
        format: registryFormat,
        at: new Date().toISOString(),
        who,
        address: formatAddress(resolved.address),
        version: resolved.version,
        by: resolved.by,
        ...{ strength, task, width: video.width, height: video.height, frames, steps, device },
        ...outcome,
      });
    }
  }
}

/** Rejects where the work takes longer; the work itself goes on unheard. */
async function within(milliseconds: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("the store took too long")), milliseconds);
  });
  work.catch(() => {});
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
