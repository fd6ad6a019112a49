// What every job of the registry begins with: which store is meant, opened as the person the environment names.
import { openRegistry, storePlace } from "../../registry/open.ts";
import type { Registry } from "../../registry/registry.ts";

type Environment = Readonly<Record<string, string | undefined>>;

export interface Opened {
  registry: Registry;
  /** As it was given. */
  store: string;
}

/** Throws `registry.no-store` and what opening it throws. */
export async function openStore(store: string | undefined, env: Environment): Promise<Opened> {
  const place = storePlace(store, env);
  return { registry: await openRegistry(place, env), store: place };
}

/** The person without the keys that are absent. */
export function personData({ who, role }: Registry["person"]): { who: string; role?: Registry["person"]["role"] } {
  return role === undefined ? { who } : { who, role };
}
