// Unknown keys of a configuration: named with the table they belong to, with what they are called here, or with the
// nearest key there is.
import { z } from "zod";
import { KinoraError } from "../../base/errors.ts";
import { nearestName } from "../../base/nearest.ts";
import { isRow, type Row } from "../../base/rows.ts";
import type { ConfigKind } from "./read.ts";

/** Keys by name, and the keys of those that are tables. */
export interface KeyTree {
  [key: string]: KeyTree | undefined;
}

/** What another program's users write. */
export type ForeignNames = Readonly<Record<string, string>>;

function unwrapped(schema: unknown): unknown {
  let inner = schema;
  while (inner instanceof z.ZodOptional || inner instanceof z.ZodDefault || inner instanceof z.ZodPrefault)
    inner = inner.unwrap();
  if (inner instanceof z.ZodUnion) return inner.options.map(unwrapped).find((option) => option instanceof z.ZodObject);
  return inner;
}

/** The keys that a schema knows. */
export function keyTree(schema: z.ZodType): KeyTree {
  const object = unwrapped(schema);
  if (!(object instanceof z.ZodObject)) return {};
  return Object.fromEntries(
    Object.entries(object.shape as Record<string, z.ZodType>).map(([key, value]) => {
      const inner = unwrapped(value);
      return [key, inner instanceof z.ZodObject ? keyTree(inner) : undefined];
    }),
  );
}

/** A key cut short means the whole one (`video_dir`); else the nearest in spelling. */
export function nearestKey(key: string, known: readonly string[]): string | undefined {
  return known.find((name) => key.length > 3 && name.startsWith(key)) ?? nearestName(key, known);
}

/** The error for one unknown key. `place` reads behind it: `in [lora]`. */
export function unknownKey(kind: ConfigKind, key: string, place: string, hint: string | undefined): KinoraError {
  const shown = JSON.stringify(key.length > 80 ? `${key.slice(0, 80)}…` : key);
  return new KinoraError(`${kind.code}.unknown-key`, `unknown key ${shown} ${place}`, { hint: hint ?? kind.hint });
}

const top = "at the top of the file";
const placeOf = (path: readonly string[]): string => (path.length === 0 ? top : `in [${path.join(".")}]`);

/**
 * Checks every key of a file whose tables have fixed names.
 * @throws KinoraError `CODE.unknown-key` at the first that is not known.
 */
export function checkKeys(kind: ConfigKind, root: Row, tree: KeyTree, foreign: ForeignNames = {}): void {
  const homes = listTables(tree, []);
  const check = (row: Row, known: KeyTree, path: readonly string[]): void => {
    for (const [key, value] of Object.entries(row)) {
      if (!Object.hasOwn(known, key))
        throw unknownKey(kind, key, placeOf(path), hintFor(key, known, path, homes, foreign));
      const inner = known[key];
      if (inner && isRow(value)) check(value, inner, [...path, key]);
    }
  };
  check(root, tree, []);
}

interface Home {
  path: readonly string[];
  keys: readonly string[];
}

function listTables(tree: KeyTree, path: readonly string[]): Home[] {
  const inner = Object.entries(tree).flatMap(([key, keys]) => (keys ? listTables(keys, [...path, key]) : []));
  return [{ path, keys: Object.keys(tree) }, ...inner];
}

function hintFor(
  key: string,
  known: KeyTree,
  path: readonly string[],
  homes: readonly Home[],
  foreign: ForeignNames,
): string {
  const others = homes.filter((home) => home.path.join(".") !== path.join("."));
  const home = others.find(({ keys }) => keys.includes(key));
  if (home) return `${key} belongs ${placeOf(home.path)}`;
  if (Object.hasOwn(foreign, key)) return foreign[key]!;
  const near = nearestKey(key, Object.keys(known));
  if (near) return `did you mean ${near}?`;
  const elsewhere = nearestKey(
    key,
    others.flatMap(({ keys }) => keys),
  );
  if (elsewhere)
    return `did you mean ${elsewhere} ${placeOf(others.find(({ keys }) => keys.includes(elsewhere))!.path)}?`;
  return `known keys: ${Object.keys(known).join(", ")}`;
}
