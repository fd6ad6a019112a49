// A training run in a process of its own, to be killed: `node killed-run.ts FOLDER OUTPUT`. Prints a line per event.

import { isKinoraError } from "../../src/base/errors.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { HashCache } from "../../src/io/content-hash.ts";
import { train } from "../../src/train/run/loop.ts";
import { narrowSettings } from "../support/training-run.ts";

const [folder, output, more = "{}"] = process.argv.slice(2) as [string, string, string?];
const { device } = await openDevice("auto");
const settings = await narrowSettings(folder, { ...JSON.parse(more), output });
try {
  for await (const { type } of train(settings, { device, hashes: new HashCache(settings.cache) }))
    process.stdout.write(`${type}\n`);
} catch (error) {
  if (!isKinoraError(error)) throw error;
  process.stdout.write(`error ${error.code}\n`);
  process.exitCode = 1;
}
