// Ctrl-C as processes hear it: one keypress that comes twice, a second one in the middle of a kernel, none at all.
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { Interrupt } from "../../src/cli/interrupt.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();
const source = new URL("../../src/cli/interrupt.ts", import.meta.url).href;
const api = fileURLToPath(new URL("../../node_modules/tsx/dist/esm/index.mjs", import.meta.url));

let count = 0;
/** A process that asks to be stopped as commands do, then runs `work`; each of its lines is told as it comes. */
function start(work: string, onLine: (line: string, signal: () => void) => void): Promise<string | number | null> {
  const file = path(`work-${count++}.mts`);
  writeFileSync(
    file,
    `import { writeSync } from "node:fs";
    import { Interrupt } from ${JSON.stringify(source)};
    const say = (text: string) => writeSync(1, text + "\\n");
    // As a kernel: no turn of the event loop.
    const compute = (ms: number) => { for (const end = Date.now() + ms; Date.now() < end; ); };
    const interrupt = new Interrupt(() => say("heard"));
    ${work}`,
  );
  const child = spawn(process.execPath, ["--import", api, file], { stdio: ["ignore", "pipe", "inherit"] });
  child.stdout.on("data", (chunk: Buffer) => {
    for (const line of chunk.toString().trim().split("\n")) onLine(line, () => child.kill("SIGINT"));
  });
  return new Promise((resolve) => child.on("close", (code, signal) => resolve(signal ?? code)));
}

it.skipIf(process.platform === "win32")(
  "takes signals of one moment for one keypress, and lets the work end",
  async () => {
    const lines: string[] = [];
    const end = await start(
      `say("ready");
    while (!interrupt.signal.aborted) await new Promise((resolve) => setTimeout(resolve, 10));
    await new Promise((resolve) => setTimeout(resolve, 50));
    interrupt[Symbol.dispose]();
    say("saved");`,
      (line, signal) => {
        lines.push(line);
        if (line === "ready") signal();
        if (line === "heard") setTimeout(signal, 100);
      },
    );
    expect(lines).toEqual(["ready", "heard", "saved"]);
    expect(end).toBe(0);
  },
);

it.skipIf(process.platform === "win32")("ends in the middle of a kernel at the second keypress", async () => {
  const lines: string[] = [];
  const end = await start(
    `say("ready");
    while (!interrupt.signal.aborted) await new Promise((resolve) => setTimeout(resolve, 10));
    say("computing");
    compute(30_000);
    say("unheard");`,
    (line, signal) => {
      lines.push(line);
      if (line === "ready" || line === "computing") signal();
    },
  );
  expect(lines).toEqual(["ready", "heard", "computing"]);
  expect(end).toBe("SIGINT");
});

it("leaves no listener behind, and none where it is told not to listen", () => {
  const before = process.listenerCount("SIGINT");
  {
    using interrupt = new Interrupt(() => {});
    expect(process.listenerCount("SIGINT")).toBe(before + 1);
    interrupt.listen(false);
    expect(process.listenerCount("SIGINT")).toBe(before);
    interrupt.listen(true);
    interrupt.listen(true);
    expect(process.listenerCount("SIGTERM")).toBeGreaterThan(0);
  }
  expect(process.listenerCount("SIGINT")).toBe(before);
});
