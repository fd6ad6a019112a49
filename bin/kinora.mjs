#!/usr/bin/env node
// Starts the command line: the built form in an installed package, the sources in a checkout.
import { existsSync } from "node:fs";

const source = new URL("../src/cli/main.ts", import.meta.url);
if (existsSync(source)) {
  const { setup } = await import("../scripts/setup.mjs");
  setup();
  const { register } = await import("tsx/esm/api");
  register();
}
const entry = existsSync(source) ? source : new URL("../dist/cli/main.js", import.meta.url);
const { main } = await import(entry.href);
process.exitCode = await main(process.argv.slice(2));
