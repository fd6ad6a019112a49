// `kinora generate` and `kinora show` as people run them: flags, output, interrupts, kills, a full disk.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { command, parse } from "../../src/cli/command.ts";
import { parseGuidance, parseLora } from "../../src/cli/generate-flags.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { HashCache } from "../../src/io/content-hash.ts";
import { latentsPath, loadLatents, saveLatents } from "../../src/sample/latents-file.ts";
import { samplerNames } from "../../src/sample/schedulers/index.ts";
import { tinyParts, writeKinoraFolder } from "../support/checkpoint-layouts.ts";
import { runCli } from "../support/run-cli.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { resolved, runRequest, tinyOptions } from "./generate-support.ts";

const path = temporaryFolder();
const folder = path("tiny-t2v");
const binary = fileURLToPath(new URL("../../bin/kinora.mjs", import.meta.url));

beforeAll(async () => {
  process.env.KINORA_CACHE = path("cache");
  await writeKinoraFolder(folder, tinyParts("tiny-t2v"));
});

const kinora = (...argv: string[]) => runCli(argv);

const tiny = ["generate", "--task", "tiny-t2v", "--prompt", "a red circle", "--size", "32*32", "--frame_num", "5"];
const quick = [...tiny, "--sample_steps", "2", "--seed", "7"];
const latentsOf = (film: string) => loadLatents(film.replace(".mp4", ".latents.safetensors")).latents;

describe("kinora generate", () => {
  it("makes a film, prints where it is, and shows its recipe", async () => {
    const out = path("one.mp4");
    const made = await kinora(...quick, "--ckpt_dir", folder, "--out", out);
    expect(made).toMatchObject({ code: 0, data: expect.stringContaining(`${out}: 5 frames`) });
    expect(made.notes).toContain("32×32, 5 frames at 16 fps, 2 steps of unipc at shift 5, guidance 3, seed 7");
    const shown = await kinora("show", out);
    expect(shown.data).toMatch(/^task {11}tiny-t2v\nprompt {9}a red circle\n/);
    expect(shown.data).toMatch(/low noise {6}low_noise_model\.safetensors \([0-9a-f]{12}…\)/);
    const recipe = JSON.parse((await kinora("show", out, "--json")).data);
    expect(recipe).toMatchObject({ kind: "kinora.recipe", seed: "7", sampler: "unipc", steps: 2 });
  });

  it("says of a finished film that it is finished, and writes nothing", async () => {
    const out = path("finished.mp4");
    const timed = [
      ...quick.filter((word) => word !== "--frame_num" && word !== "5"),
      "--duration",
      "0.3",
      "--fps",
      "12",
    ];
    expect((await kinora(...timed, "--ckpt_dir", folder, "--out", out)).code).toBe(0);
    const bytes = readFileSync(out);
    const runs = [
      [...timed, "--ckpt_dir", folder],
      ["generate", "--resume"],
      ["generate", "--from", out],
    ];
    for (const again of runs) {
      const made = await kinora(...again, "--out", out);
      expect(made, made.notes).toMatchObject({ code: 0, data: expect.stringContaining(`${out}: 5 frames`) });
      expect(made.notes).toContain("is already finished with this recipe and was left unchanged");
      expect(readFileSync(out).equals(bytes)).toBe(true);
    }
    const help = (await kinora("generate", "--help")).data;
    for (const name of [...samplerNames, "torch-cuda:GPU"]) expect(help).toContain(name);
  });

  it("makes the same film with blocks that come and go, and refuses more than there are", async () => {
    const films = [path("resident.mp4"), path("swapped.mp4")] as const;
    for (const [i, out] of films.entries()) {
      const more = ["--blocks_to_swap", String(2 * i), "--keep-latents", "--ckpt_dir", folder, "--out", out];
      expect((await kinora(...quick, ...more)).code).toBe(0);
    }
    expect(latentsOf(films[1])).toEqual(latentsOf(films[0]));
    const refused = await kinora(...quick, "--blocks_to_swap", "3", "--ckpt_dir", folder, "--out", path("none.mp4"));
    expect(refused).toMatchObject({ code: 1, notes: expect.stringContaining("0 to 2: the model has 3 blocks") });
  });

  it("takes generate.py's flags as they are, and says once which change nothing", async () => {
    const out = path("official.mp4");
    const flags = "--offload_model True --ulysses_size 1 --t5_fsdp --t5_cpu --dit_fsdp --convert_model_dtype".split(
      " ",
    );
    const official = ["--save_file", out, "--base_seed", "7", "--sample_solver", "dpm++", "--sample_shift", "4.5"];
    const scales = ["--sample_guide_scale", "3.0", "4.0"];
    const made = await kinora(
      ...[...tiny, "--sample_steps", "2", "--ckpt_dir", folder, "--keep-latents", ...flags, ...official, ...scales],
    );
    expect(made.code, made.notes).toBe(0);
    expect(made.notes.match(/no effect in Kinora/g)).toHaveLength(1);
    for (const flag of flags.filter((word) => word.startsWith("--"))) expect(made.notes).toContain(flag);
    expect(JSON.parse((await kinora("show", out, "--json")).data)).toMatchObject({
      ...{ sampler: "dpm++", shift: 4.5, seed: "7" },
      guidance: { low: 3, high: 4 },
    });
  });

  it("draws a seed for -1, says it, and gives the same film for that seed", async () => {
    const [one, two] = [path("drawn.mp4"), path("drawn-again.mp4")];
    const rest = [...tiny, "--sample_steps", "1", "--ckpt_dir", folder, "--keep-latents"];
    const drawn = await kinora(...rest, "--seed", "-1", "--out", one);
    const seed = /seed (\d+)/.exec(drawn.notes)![1]!;
    expect(JSON.parse((await kinora("show", one, "--json")).data).seed).toBe(seed);
    await kinora(...rest, "--base_seed", seed, "--out", two);
    expect(latentsOf(two)).toEqual(latentsOf(one));
  });

  it("repeats a film with --from, single options changed", async () => {
    const [one, two, three] = [path("from.mp4"), path("from-2.mp4"), path("from-3.mp4")];
    await kinora(...quick, "--ckpt_dir", folder, "--out", one, "--keep-latents");
    expect((await kinora("generate", "--from", one, "--out", two, "--keep-latents")).code).toBe(0);
    expect(latentsOf(two)).toEqual(latentsOf(one));
    const other = await kinora("generate", "--from", one, "--out", three, "--keep-latents", "--noise", "torch-cpu");
    expect(other.notes).toContain("differs from the repeated recipe: noise");
    expect(latentsOf(three)).not.toEqual(latentsOf(one));
  });

  it("tells machines every event and note as a line of JSON", async () => {
    const odd = quick.with(quick.indexOf("5"), "6");
    const flags = ["--t5_cpu", "--ckpt_dir", folder, "--out", path("events.mp4"), "--json"];
    const made = await kinora(...odd, ...flags);
    expect(made.progress).toEqual([]);
    const events = made.notes.split("\n").map((line) => JSON.parse(line));
    expect(events.flatMap(({ type, text }) => (type === "note" ? [text] : []))).toEqual([
      "no effect in Kinora: --t5_cpu",
      "6 frames is not 4n + 1: using 5",
    ]);
    const stages = events.flatMap(({ type, stage }) => (type === "stage" ? [stage] : []));
    expect(new Set(stages)).toEqual(new Set(["check", "hash", "text", "load", "sample", "decode"]));
    expect(events.at(-1)).toMatchObject({ type: "finished", frames: JSON.parse(made.data).frames });
  });

  it("goes on with the device the run was begun on, another being told", async () => {
    const out = path("elsewhere.mp4");
    const controller = new AbortController();
    const request = resolved(tinyOptions(folder, out));
    const device = (await openDevice("auto")).device;
    const hashes = new HashCache(path("cache"));
    await runRequest(device, request, { hashes, signal: controller.signal }, ({ type }) => {
      if (type === "step") controller.abort();
    });
    device[Symbol.dispose]();
    const saved = loadLatents(latentsPath(out));
    await saveLatents(latentsPath(out), { ...saved, recipe: { ...saved.recipe, device: "webgpu" } });
    const refused = await kinora("generate", "--resume", "--out", out);
    expect(refused.notes).toMatch(
      /error device\.unavailable: the run was started on device webgpu.*\nhint: with --device auto/,
    );
    const other = await kinora("generate", "--resume", "--out", out, "--device", "auto");
    expect(other.code, other.notes).toBe(0);
    expect(other.notes).toMatch(/started on device webgpu: the last bits may differ/);
  });

  it("names a film that has no name after what it is", async () => {
    const before = process.cwd();
    process.chdir(path("."));
    try {
      const made = await kinora(...quick, "--ckpt_dir", folder, "--json");
      expect(JSON.parse(made.data).path).toBe("tiny-t2v-a-red-circle-7.mp4");
    } finally {
      process.chdir(before);
    }
  });

  it.each([
    [["--sample_guide_scale", "3,4,5"], "cli.bad-value"],
    [["--sample_guide_scale", "much"], "cli.bad-number"],
    [["--seed", "five"], "cli.bad-number"],
    [["--seed", "1", "--base_seed", "2"], "cli.bad-arguments"],
    [["--frame_num", "0"], "cli.bad-number"],
    [["--size", "1280"], "cli.bad-size"],
    [["--dtype", "fp8"], "cli.bad-value"],
    [["--lora", "a.safetensors@hihg"], "cli.bad-value"],
    [["--use_prompt_extend"], "generate.no-prompt-extension"],
    [["moves", "right"], "cli.bad-arguments"],
    [["--resume"], "cli.missing-option"],
    [["--resume", "--out", "nothing.mp4"], "generate.nothing-to-resume"],
    [["--device", "webgpu", "--ckpt_dir", folder, "--out", path("webgpu.mp4")], "device.unavailable"],
    [["--from", "/no/such.mp4"], "media.not-found"],
    [["--smaple_steps", "3"], "cli.unknown-option"],
  ])("refuses %j with %s", async (more, code) => {
    const result = await kinora(...tiny, ...more, "--json");
    expect(result.code).toBe(1);
    expect(JSON.parse(result.data).error).toMatchObject({ code, hint: expect.stringMatching(/./) });
  });

  it("without weights says what is missing and where it was looked for", async () => {
    const { code, notes } = await kinora("generate", "--prompt", "a cat");
    expect(code).toBe(1);
    expect(notes).toMatch(/error checkpoint\.missing: .*autoencoder.*t2v-A14B.*\nhint: .*--ckpt_dir/);
  });
});

describe("options", () => {
  it("read LoRAs with strength and expert", () => {
    expect(parseLora("a/b.safetensors")).toEqual({ path: "a/b.safetensors", strength: 1 });
    expect(parseLora("a.safetensors:0.8")).toEqual({ path: "a.safetensors", strength: 0.8 });
    expect(parseLora("a.safetensors:-.5@high")).toEqual({ path: "a.safetensors", strength: -0.5, expert: "high" });
    expect(parseLora("a@home.safetensors@both")).toEqual({ path: "a@home.safetensors", strength: 1, expert: "both" });
    expect(parseLora("C:\\loras\\a.safetensors:1")).toEqual({ path: "C:\\loras\\a.safetensors", strength: 1 });
    expect(parseLora("a.safetensors@low:1e-1")).toEqual({ path: "a.safetensors", strength: 0.1, expert: "low" });
    expect(parseLora("a:+2.5E1")).toEqual({ path: "a", strength: 25 });
    writeFileSync(path("odd:2@low"), "");
    expect(parseLora(path("odd:2@low"))).toEqual({ path: path("odd:2@low"), strength: 1 });
    expect(parseLora(path("odd:2@low:3@high"))).toEqual({ path: path("odd:2@low"), strength: 3, expert: "high" });
  });

  it.each([
    ["a:strong", "e.g. style.safetensors:0.8@high"],
    ["a:0,8", "did you mean :0.8?"],
    ["a@hihg", "did you mean @high?"],
    ["a@hihg:0.8", "did you mean @high?"],
    ["a.safetensors:high", "did you mean @high?"],
    ["a.safetensors@0.8", "did you mean :0.8?"],
    ["a:0.5:0.8", "a LoRA takes one strength and one expert"],
    ["a@high@low", "a LoRA takes one strength and one expert"],
  ])("say what is wrong with the LoRA %j", (text, hint) => {
    expect(() => parseLora(text)).toThrow(
      expect.objectContaining({ code: "cli.bad-value", expected: "FILE[:strength][@high|low|both]", hint }),
    );
  });

  it("read one guidance scale or two in each spelling", () => {
    expect(parseGuidance("5")).toBe(5);
    for (const text of ["3,4", "3.0 4.0", "(3.0, 4.0)", "[3,4]"])
      expect(parseGuidance(text)).toEqual({ low: 3, high: 4 });
  });

  it("take negative numbers as values", () => {
    const definition = command({
      name: "x",
      usage: "",
      options: { seed: { type: "string", help: "" }, flag: { type: "boolean", help: "" } },
      run: async () => 0,
    });
    expect(parse(definition, ["--seed", "-1", "--flag"]).values).toMatchObject({ seed: "-1", flag: true });
    expect(parse(definition, ["--seed=-1"]).values).toMatchObject({ seed: "-1" });
    expect(() => parse(definition, ["--seed", "--flag"])).toThrow();
  });
});

describe("kinora show", () => {
  it("refuses films of others, and keeps control characters off the terminal", async () => {
    const { notes, code } = await kinora("show", path("absent.mp4"));
    expect([code, notes]).toEqual([1, expect.stringContaining("media.not-found")]);
    const out = path("evil.mp4");
    const prompt = "red\u001b[2J\u202e circle";
    const at = quick.indexOf("a red circle");
    await kinora(...quick.with(at, prompt), "--ckpt_dir", folder, "--out", out);
    const shown = await kinora("show", out);
    expect(shown.data).toContain("red�[2J� circle");
    expect(shown.data).not.toContain("\u001b");
  });
});

describe("as a process", () => {
  const start = (argv: readonly string[], shell?: string): ChildProcess =>
    shell === undefined
      ? spawn(process.execPath, [binary, ...argv], { stdio: ["ignore", "pipe", "pipe"] })
      : spawn("bash", ["-c", `${shell}; exec "$@"`, "bash", process.execPath, binary, ...argv], {
          stdio: ["ignore", "pipe", "pipe"],
        });

  function ended(child: ChildProcess): Promise<{ code: number | null; signal: string | null; stderr: string }> {
    let stderr = "";
    child.stderr!.on("data", (chunk: Buffer) => {
      stderr += chunk;
    });
    child.stdout!.resume();
    return new Promise((resolve) => child.on("close", (code, signal) => resolve({ code, signal, stderr })));
  }

  /** True once there is a step in the file. */
  async function savedBy(film: string, child: ChildProcess): Promise<boolean> {
    const file = film.replace(".mp4", ".latents.safetensors");
    while (child.exitCode === null && child.signalCode === null) {
      if (existsSync(file)) return true;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return false;
  }

  const long = [...tiny, "--sample_steps", "60", "--seed", "3", "--ckpt_dir", folder, "--keep-latents"];

  it("interrupted or killed, and resumed by name alone, ends where the unbroken run ends", async () => {
    const unbroken = path("unbroken.mp4");
    expect((await kinora(...long, "--out", unbroken)).code).toBe(0);
    for (const signal of ["SIGINT", "SIGKILL"] as const) {
      const film = path(`${signal}.mp4`);
      const child = start([...long, "--out", film]);
      const end = ended(child);
      expect(await savedBy(film, child)).toBe(true);
      child.kill(signal);
      const { code, stderr } = await end;
      const { scheduler } = loadLatents(film.replace(".mp4", ".latents.safetensors"));
      expect(scheduler.step).toBeGreaterThan(0);
      expect(scheduler.step).toBeLessThan(60);
      expect(existsSync(film)).toBe(false);
      if (signal === "SIGINT") {
        expect(code).toBe(130);
        expect(stderr).toMatch(/stopped after step \d+ of 60; resume with: kinora generate --resume --out/);
      }
      const resumed = await kinora("generate", "--resume", "--out", film, "--keep-latents");
      expect(resumed.code, resumed.notes).toBe(0);
      expect(latentsOf(film)).toEqual(latentsOf(unbroken));
      expect(readdirSync(path(".")).filter((name) => name.endsWith(".lock"))).toEqual([]);
    }
  });

  it.skipIf(process.platform === "win32")("on a full disk keeps the latents and says how to go on", async () => {
    const film = path("full.mp4");
    // Files of 64 KiB at most: enough for these latents, and not for the film.
    const large = quick.with(quick.indexOf("32*32"), "128*128").with(quick.indexOf("5"), "9");
    const { code, stderr } = await ended(start([...large, "--ckpt_dir", folder, "--out", film], "ulimit -f 64"));
    expect(code).toBe(1);
    expect(stderr).toMatch(/error io\.[a-z-]+: writing .*full\.mp4.*\nhint: .*--resume continues from there/);
    expect(readdirSync(path(".")).filter((name) => name.includes("partial"))).toEqual([]);
    expect((await kinora("generate", "--resume", "--out", film)).code).toBe(0);
    expect(readFileSync(film).length).toBeGreaterThan(64 * 1024);
    expect(existsSync(join(path("."), "full.latents.safetensors"))).toBe(false);
  });
});
