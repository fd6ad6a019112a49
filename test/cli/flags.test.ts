// Libraries speak of options by their own names; the command line, and it alone, of flags.
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { inFlags } from "../../src/cli/command.ts";
import { commands } from "../../src/cli/commands.ts";
import { startJob } from "../../src/jobs/start.ts";
import { runCli } from "../support/run-cli.ts";

it("writes options of the command as its flags, and leaves everything else", () => {
  const flag = { type: "string", help: "" } as const;
  const command = { options: { out: flag, "max-tokens": flag, ckpt_dir: flag }, flags: { checkpoint: "ckpt_dir" } };
  expect(inFlags("raise `maxTokens`, or give `checkpoint` and another `out` folder", command)).toBe(
    "raise --max-tokens, or give --ckpt_dir and another --out folder",
  );
  expect(inFlags("`seed`, `toString`, `not one`, out and `out", command)).toBe(
    "`seed`, `toString`, `not one`, out and `out",
  );
});

it("tells an error in a library's words there and in flags here", async () => {
  const asked = { model: "tiny-t2v", prompt: "x", resume: true, out: "no-such-film.mp4" };
  const error = await startJob("generate", asked).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ hint: "leave out `resume` to start" });
  const words = ["generate", "--task", "tiny-t2v", "--prompt", "x", "--resume", "--out", "no-such-film.mp4"];
  expect((await runCli(words)).notes).toContain("hint: leave out --resume to start");
  const { error: told } = JSON.parse((await runCli([...words, "--json"])).data) as { error: { hint: string } };
  expect(told.hint).toBe("leave out --resume to start");
});

it("names flags that there are", async () => {
  for (const { name, load } of commands) {
    const { flags = {}, options } = await load();
    for (const flag of Object.values(flags)) expect(Object.keys(options), name).toContain(flag);
  }
});

/** Two dashes that are no flags of a command: of other programs, or of musubi's files of prompts. */
const others =
  /^(ffi\/nvrtc|jobs\/child|train\/config\/(prompt-file|preview-size|tables|init))\.ts$|^io\/torch-zip\.ts$/;

it("is the only one to name flags, but for whole commands that anybody can run", () => {
  const root = fileURLToPath(new URL("../../src/", import.meta.url));
  const found: string[] = [];
  for (const entry of readdirSync(root, { recursive: true, encoding: "utf8" })) {
    const file = entry.replaceAll("\\", "/");
    if (!file.endsWith(".ts") || file.startsWith("cli/") || others.test(file)) continue;
    for (const [index, line] of readFileSync(root + file, "utf8")
      .split("\n")
      .entries()) {
      if (/^\s*(\/\/|\*|\/\*)/.test(line)) continue;
      // A custom property of a style sheet ends its name by a colon, or is named in var().
      const flag = /(?<![\w-])(?<!var\()--[a-z][\w-]*(?![\w-]*\s*:)/.exec(line);
      if (flag && !line.slice(0, flag.index).includes("kinora ")) found.push(`${file}:${index + 1}: ${line.trim()}`);
    }
  }
  expect(found).toEqual([]);
});
