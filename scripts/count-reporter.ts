// Ends a test run with one plain line that counts the tests: `N passed, N failed, N skipped`.
import type { Reporter, TestModule } from "vitest/node";

export class CountReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const counts = { passed: 0, failed: 0, skipped: 0 };
    let broken = 0;
    for (const module of modules) {
      if (module.errors().length > 0) broken++;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state !== "pending") counts[state]++;
      }
    }
    const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : "";
    // After vitest's own summary, which is printed in the same turn.
    setImmediate(() => console.log(`${counts.passed} passed, ${counts.failed + broken} failed${skipped}`));
  }
}
