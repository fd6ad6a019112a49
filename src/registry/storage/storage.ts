// What a registry asks of the place it is kept in: whole values under keys, of which some are made once and never change.
// A key is a path with forward slashes, made by the registry and never by a person.

/** A value of a storage, without its content. */
export interface StoredKey {
  key: string;
  bytes: number;
  /** Milliseconds since 1970. */
  modified: number;
}

/** A place that a registry is kept in: a folder, a bucket. */
export interface Storage {
  /** For messages: the folder or `s3://bucket/prefix`. */
  readonly place: string;
  /** The value, undefined where there is none. @throws KinoraError `io.*`, `s3.*`. */
  read(key: string): Promise<Uint8Array | undefined>;
  /**
   * Makes a value where there is none; false where another is there already. Whole or not at all. Values that two writers
   * could both make hold something drawn at random, so that a store may take an equal one for the same.
   */
  create(key: string, data: Uint8Array): Promise<boolean>;
  /** Replaces a value. Whole or not at all. */
  replace(key: string, data: Uint8Array): Promise<void>;
  /** Stores a local file of this content, where it is not there yet; its bytes are never all in memory. */
  storeFile(key: string, path: string, content: { bytes: number; sha256: string }): Promise<void>;
  /** Puts the value into a local file, whole or not at all. @throws KinoraError `registry.object-missing`. */
  fetchFile(key: string, path: string): Promise<void>;
  /** Where the value lies on this machine, for stores that are folders. */
  localPath(key: string): string | undefined;
  /** All keys that begin with `prefix`, in order. */
  list(prefix: string): AsyncGenerator<StoredKey>;
  remove(key: string): Promise<void>;
}
