// The official code's numbers on the cuda device, emulated: float32 and bf16 at the tolerances of every device.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { line, runGolden } from "../../../scripts/golden/runner.ts";
import { emulatedDescriptor } from "./emulated.ts";

const folder = fileURLToPath(new URL("../../../../shared/golden", import.meta.url));
const finding = await emulatedDescriptor.probe();
const reason = existsSync(folder) ? (finding.usable ? undefined : finding.why) : "../shared/golden is not here";

for (const [dtype, least] of [
  ["f32", 20],
  ["bf16", 6],
] as const) {
  test.skipIf(reason !== undefined)(
    `golden fixtures in ${dtype}${reason ? ` (${reason})` : ""}`,
    { timeout: 900_000 },
    async () => {
      const device = await emulatedDescriptor.open();
      const failed: string[] = [];
      let passed = 0;
      for await (const result of runGolden(folder, device, { dtype })) {
        if (result.status === "failed") failed.push(line(result));
        if (result.status === "passed") passed++;
      }
      device[Symbol.dispose]();
      expect(failed).toEqual([]);
      expect(passed).toBeGreaterThan(least);
    },
  );
}
