// Which Kinora this is, as its package says.
import { readFileSync } from "node:fs";

let known: string | undefined;

/** The version in package.json, which lies two folders up from src/base and from dist/base alike. */
export function kinoraVersion(): string {
  if (known === undefined) {
    const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
    known = String((JSON.parse(text) as { version: unknown }).version);
  }
  return known;
}
