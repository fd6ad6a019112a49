// What a process and its children hold in memory together, as the benchmarks watch it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, it } from "vitest";
import { ProcessTree } from "../../bench/watched-process.ts";

const MB = 2 ** 20;

/** Holds memory in a child of its own, says so, and waits for the end of its input. */
const program = `
const { spawn } = require("node:child_process");
const hold = \`globalThis.held = Buffer.alloc(200 * 2 ** 20, 1); console.log("held"); process.stdin.on("end", () => {}).resume();\`;
spawn(process.execPath, ["-e", hold], { stdio: ["inherit", "inherit", "inherit"] }).on("close", () => console.log("gone"));
setInterval(() => {}, 1000);
`;

it.skipIf(process.platform !== "linux")(
  "counts what children hold, and keeps their most when they are gone",
  async () => {
    const parent = spawn(process.execPath, ["-e", program], { stdio: ["pipe", "pipe", "inherit"] });
    try {
      const tree = new ProcessTree(parent.pid!);
      let printed = "";
      parent.stdout.on("data", (text: Buffer) => {
        printed += text;
      });
      const says = async (word: string) => {
        while (!printed.includes(word)) await once(parent.stdout, "data");
      };
      await says("held");
      const held = tree.look();
      expect(held.own).toBeGreaterThan(200 * MB);
      expect(held.both).toBeGreaterThan(held.own);
      parent.stdin.end();
      await says("gone");
      expect(tree.look().own).toBeLessThan(held.own - 150 * MB);
      expect(tree.highest).toBeGreaterThan(200 * MB);
    } finally {
      parent.kill("SIGKILL");
    }
  },
);
