// What reaches a terminal, whatever texts hold; what machines read; a reader that goes away.
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { expect, it } from "vitest";
import { harmless, jsonLine, Printer } from "../../src/cli/terminal.ts";
import { ended, startKinora } from "../support/kinora-process.ts";
import { runCli } from "../support/run-cli.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();
/** Sets a title, colours, clears, rings, turns writing around, and is a C1 control. */
const evil = "\u001b]0;title\u0007\u001b[31mred\u009b2J\r\b\u202eegassem\u2066\u2028";

it("makes texts harmless, and leaves lines, tabs and every script alone", () => {
  expect(harmless(evil)).not.toMatch(/(?![\t\n])[\p{Cc}\u2028-\u202e\u2066-\u2069]/u);
  expect(harmless("a\r\nb\n\tc")).toBe("a\nb\n\tc");
  const scripts = "Ünï, 猫, नमस्ते, שלום\u200f, 👩‍👩‍👧, می‌روم";
  expect(harmless(scripts)).toBe(scripts);
  expect(harmless("half \ud83d of a pair")).toBe("half � of a pair");
});

it("writes JSON on one line that says the same and obeys no terminal", () => {
  const line = jsonLine({ text: evil, lines: "a\nb" });
  expect(JSON.parse(line)).toEqual({ text: evil, lines: "a\nb" });
  expect(line).toMatch(/^[\x20-\x7e]*$/);
});

it("prints for people or for machines, never for both", () => {
  const seen = (json: boolean) => {
    const printed: string[] = [];
    const say = (where: string) => (text: string) => void printed.push(`${where}: ${text}`);
    const out = new Printer({ data: say("data"), note: say("note"), progress: say("progress") }, json);
    out.event({ type: "step" });
    out.note("careful");
    out.say("hello");
    out.progress("half\nway");
    out.print("part");
    out.answer({ whole: true }, () => "whole");
    return printed;
  };
  expect(seen(false)).toEqual(["note: careful", "note: hello", "progress: half way", "data: part", "data: whole"]);
  expect(seen(true)).toEqual([
    ...['note: {"type":"step"}', 'note: {"type":"note","text":"careful"}'],
    'data: {"whole":true}',
  ]);
});

it("keeps escapes of settings, file names and tensor names off the terminal", async () => {
  const config = path("evil.toml");
  writeFileSync(config, 'dataset = "x"\nsteps = "\\u001b[31m"\n[model]\nname = "\\u001b]0;title\\u0007"\n');
  const header = JSON.stringify({ [evil]: { dtype: "F32", shape: [2], data_offsets: [0, 9] } });
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  writeFileSync(path("evil.safetensors"), Buffer.concat([length, Buffer.from(header), Buffer.alloc(9)]));
  for (const argv of [
    ["train", config],
    ["models", "inspect", path("evil.safetensors")],
    ["dataset", "inspect", path(`none${evil.replaceAll("\u0007", "")}`)],
    [`words${evil}`],
  ]) {
    const { code, data, notes } = await runCli(argv);
    expect(code).toBe(1);
    expect(notes).toMatch(/^error /);
    expect(data + notes).not.toMatch(/(?![\t\n])[\p{Cc}\u202e]/u);
  }
});

it("tells machines of errors, help and versions in one JSON value", async () => {
  for (const argv of [["train"], ["nonsense"], ["generate", "--help"], ["--version"], ["--help"], ["dataset"]]) {
    const { data, notes } = await runCli([...argv, "--json"]);
    expect(typeof JSON.parse(data)).toBe("object");
    expect(data).not.toContain("\n");
    expect(notes).toBe("");
  }
});

it("lists the commands of a group", async () => {
  const { code, data } = await runCli(["dataset"]);
  expect(code).toBe(0);
  expect(data).toMatch(/^ {2}kinora dataset caption .*\n {2}kinora dataset inspect /);
  expect(data).not.toContain("kinora train");
});

it.skipIf(process.platform === "win32")("ends quietly where nobody reads its answer any more", async () => {
  const child = startKinora(["dataset", "sizes", "--source", "1920x1080", "--model", "t2v-A14B", "--frames", "1"]);
  child.stdout!.destroy();
  let stderr = "";
  child.stderr!.on("data", (chunk: Buffer) => {
    stderr += chunk;
  });
  const [code] = await once(child, "close");
  expect(stderr).not.toMatch(/EPIPE|at .*:\d+/);
  expect(code).toBe(0);
});

it.skipIf(process.platform === "win32")(
  "stops a job whose news nobody reads, by the code of a broken pipe",
  async () => {
    const argv = ["--task", "tiny-t2v", "--prompt", "x", "--sample_steps", "500", "--seed", "1"];
    const child = startKinora(["generate", ...argv, "--out", path("unread.mp4"), "--json"]);
    const end = ended(child);
    child.stderr!.once("data", () => child.stderr!.destroy());
    expect(await end).toMatchObject({ code: 141, signal: null });
  },
);

it.skipIf(process.platform === "win32")("hears Ctrl-C in the middle of a kernel, and ends at the second", async () => {
  const film = path("long.mp4");
  const argv = ["--task", "tiny-t2v", "--prompt", "x", "--size", "1536*1536", "--frame_num", "17", "--seed", "1"];
  const child = startKinora(["generate", ...argv, "--out", film, "--json"]);
  const end = ended(child);
  const said = (text: string) =>
    new Promise<void>((resolve) => {
      child.stderr!.on("data", (chunk: Buffer) => chunk.includes(text) && resolve());
    });
  await said('"sampling');
  // Inside the first step, which takes long.
  await new Promise((resolve) => setTimeout(resolve, 500));
  const heard = said("press Ctrl-C again to stop now");
  child.kill("SIGINT");
  await heard;
  await new Promise((resolve) => setTimeout(resolve, 1100));
  expect(child.exitCode).toBe(null);
  child.kill("SIGINT");
  const { code, stdout } = await end;
  expect(code).toBe(130);
  expect(JSON.parse(stdout)).toMatchObject({ interrupted: true });
  // Its lock is known to be of a process that is gone.
  const quick = [...argv.slice(0, 4), "--size", "32*32", "--frame_num", "5", "--sample_steps", "1"];
  expect((await runCli(["generate", ...quick, "--out", film])).code).toBe(0);
});
