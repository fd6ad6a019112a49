// Which store is meant, and how it is reached: a folder, or a bucket by `s3://…`.
import { KinoraError } from "../base/errors.ts";
import { Registry } from "./registry.ts";
import { whoAmI } from "./rights.ts";
import { FolderStorage } from "./storage/folder.ts";
import { S3Storage, s3Settings } from "./storage/s3.ts";
import type { Storage } from "./storage/storage.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** The one given, else KINORA_STORE, else what a configuration says. Throws `registry.no-store`. */
export function storePlace(given: string | undefined, environment: Environment, configured?: string): string {
  const place = given ?? (environment.KINORA_STORE || undefined) ?? configured;
  if (place !== undefined && place.trim() !== "") return place;
  throw new KinoraError("registry.no-store", "no registry was given", {
    hint: "give a folder or s3://BUCKET/PREFIX as `store`, or set KINORA_STORE; kinora registry init creates one",
  });
}

/** Throws `s3.bad-address`, `s3.no-credentials`. */
export function storageAt(place: string, environment: Environment): Storage {
  if (place.startsWith("s3://")) return new S3Storage(s3Settings(place, environment));
  return new FolderStorage(place);
}

/** Opens the store at a place as the person the environment names. Throws as `Registry.open` does. */
export function openRegistry(place: string, environment: Environment): Promise<Registry> {
  return Registry.open(storageAt(place, environment), whoAmI(environment));
}
