// The command line as a whole: what it says of itself, and words that no command takes.
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { main } from "../../src/cli/main.ts";

async function kinora(...argv: string[]): Promise<{ code: number; data: string; notes: string }> {
  const [data, notes]: [string[], string[]] = [[], []];
  const code = await main(argv, {
    data: (text) => data.push(text),
    note: (text) => notes.push(text),
    progress: () => {},
  });
  return { code, data: data.join("\n"), notes: notes.join("\n") };
}

it("says its version", async () => {
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  expect(await kinora("--version")).toEqual({ code: 0, data: version, notes: "" });
  expect(JSON.parse((await kinora("--version", "--json")).data)).toEqual({ version });
  expect((await kinora()).data).toContain("kinora --version");
});

it.each([
  [["doctor", "extra", "words"], /^error cli\.bad-arguments: .*"extra".*\nhint: /],
  [["docter"], /^error cli\.unknown-command: .*\nhint: did you mean kinora doctor\?/],
  [["genrate", "--task", "tiny-t2v"], /^error cli\.unknown-command: .*: genrate\nhint: did you mean kinora generate\?/],
  [["generate", "--steps", "4"], /^error cli\.unknown-option: .*\nhint: did you mean --sample_steps\?/],
  [["generate", "--negative-prompt", "x"], /^error cli\.unknown-option: .*\nhint: did you mean --negative\?/],
])("refuses %j", async (argv, words) => {
  const { code, notes } = await kinora(...argv);
  expect(code).toBe(1);
  expect(notes).toMatch(words);
});

it.each([
  [["--json", "generate", "--task", "tiny-t2v"], "generate.no-prompt"],
  [["generate", "--json=yes"], "cli.bad-arguments"],
  [["generate", "--task", "tiny-t2v", "--prompt", "x", "--out", `${"x".repeat(300)}.mp4`, "--json"], "io.bad-path"],
])("answers %j with one JSON value", async (argv, code) => {
  const { data, notes } = await kinora(...argv);
  expect(JSON.parse(data)).toMatchObject({ error: { code } });
  for (const line of notes.split("\n").filter(Boolean)) expect(JSON.parse(line)).toHaveProperty("type");
});
