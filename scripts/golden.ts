// npm run golden -- DIR [--device cpu|reference] [--dtype f32|bf16] [--only REGEX] [--verbose]
import { existsSync } from "node:fs";
import { parseArgs } from "node:util";
import { isKinoraError } from "../src/base/errors.ts";
import { openDevice } from "../src/device/open-device.ts";
import { line, runGolden } from "./golden/runner.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    device: { type: "string", default: "auto" },
    dtype: { type: "string", default: "f32" },
    only: { type: "string", default: "" },
    verbose: { type: "boolean", default: false },
  },
});
const [folder] = positionals;
if (!folder || !existsSync(folder)) {
  console.error(
    folder
      ? `no folder ${folder}`
      : "usage: npm run golden -- DIR [--device cpu|reference] [--dtype f32|bf16] [--only REGEX] [--verbose]",
  );
  process.exit(2);
}
if (values.dtype !== "f32" && values.dtype !== "bf16") {
  console.error(`--dtype is f32 or bf16, not ${values.dtype}`);
  process.exit(2);
}
try {
  const { device, note } = await openDevice(values.device as "auto");
  console.log(`device ${device.name}, ${values.dtype}${note ? ` (${note})` : ""}`);
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const only = new RegExp(values.only);
  for await (const result of runGolden(folder, device, { dtype: values.dtype, only: (file) => only.test(file) })) {
    counts[result.status]++;
    console.log(line(result));
    if (!values.verbose) continue;
    for (const check of result.checks) {
      console.log(
        `        ${check.output.padEnd(60)} ${check.error.toExponential(2)} of ${check.tolerance.toExponential(0)}`,
      );
    }
  }
  const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : "";
  console.log(`${counts.passed} passed, ${counts.failed} failed${skipped}`);
  process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;
} catch (error) {
  if (!isKinoraError(error)) throw error;
  console.error(`error ${error.code}: ${error.message}${error.hint ? `\nhint: ${error.hint}` : ""}`);
  process.exitCode = 1;
}
