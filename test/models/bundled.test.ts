// Models that ship with Kinora: found without a word about where, in a checkout and in an installed package alike.
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { writePng } from "../../src/io/image/write.ts";
import { bundledFolder } from "../../src/models/wan/bundled.ts";
import { type WanModel, wanModels } from "../../src/models/wan/params.ts";
import { tinyParts, writeKinoraFolder } from "../support/checkpoint-layouts.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();
const root = fileURLToPath(new URL("../../", import.meta.url));

it("lie in models/NAME of the package; the published ones lie nowhere", () => {
  for (const model of Object.values<WanModel>(wanModels)) {
    const expected = model.name.startsWith("tiny-") ? join(root, "models", model.name) : undefined;
    expect(bundledFolder(model)).toBe(expected);
  }
});

/** A copy of the package with sources or built; `models/` is empty at first. */
function copyPackage(form: "src" | "dist"): string {
  const place = path(form);
  mkdirSync(join(place, "models"), { recursive: true });
  for (const name of ["package.json", "bin"]) cpSync(join(root, name), join(place, name), { recursive: true });
  symlinkSync(join(root, "node_modules"), join(place, "node_modules"), "junction");
  if (form === "src") cpSync(join(root, "src"), join(place, "src"), { recursive: true });
  else {
    const compiler = join(root, "node_modules/typescript/bin/tsc");
    const config = join(root, "tsconfig.build.json");
    execFileSync(process.execPath, [compiler, "-p", config, "--outDir", join(place, "dist")], { stdio: "pipe" });
  }
  return place;
}

/** Runs a command line of a copy: the binary of a built one; a checkout's would look after its packages first. */
function kinora(place: string, ...argv: string[]): { status: number | null; stdout: string; stderr: string } {
  const built = place.endsWith("dist");
  const entry = pathToFileURL(join(place, "src/cli/main.ts")).href;
  const start = `const { main } = await import(${JSON.stringify(entry)}); process.exitCode = await main(process.argv.slice(1));`;
  const program = built
    ? [join(place, "bin/kinora.mjs")]
    : ["--import", "tsx", "--input-type=module", "-e", start, "--"];
  return spawnSync(process.execPath, [...program, ...argv], {
    cwd: place,
    encoding: "utf8",
    env: { ...process.env, KINORA_CACHE: join(place, "cache") },
  });
}

const quick = ["--frame_num", "5", "--sample_steps", "1", "--seed", "3"];
const generate = (task: string, size: string, out: string) =>
  ["generate", "--task", task, "--prompt", "a red circle", "--size", size, ...quick, "--out", out] as const;

async function writeModel(place: string, task: "tiny-t2v" | "tiny-ti2v"): Promise<void> {
  await writeKinoraFolder(join(place, "models", task), tinyParts(task));
}

it("are found from the sources", async () => {
  const place = copyPackage("src");
  await writeModel(place, "tiny-ti2v");
  const film = join(place, "film.mp4");
  const made = kinora(place, ...generate("tiny-ti2v", "32*32", film), "--json");
  expect(made.status, made.stderr).toBe(0);
  expect(JSON.parse(made.stdout)).toMatchObject({
    frames: 5,
    recipe: { weights: { low: { name: "model.safetensors" } } },
  });
});

describe("in an installed package", () => {
  let place = "";
  beforeAll(() => {
    place = copyPackage("dist");
  });

  it("say where they should be while they are absent", () => {
    const { status, stderr } = kinora(place, ...generate("tiny-t2v", "32*32", join(place, "none.mp4")));
    expect(status, stderr).toBe(1);
    expect(stderr).toContain("error checkpoint.missing: the high-noise transformer, the low-noise transformer, ");
    expect(stderr).toContain(`they ship with Kinora but are missing in ${join(place, "models", "tiny-t2v")}`);
    expect(stderr).toMatch(/hint: install Kinora again; or name a checkpoint folder \(--ckpt_dir/);
  });

  it("make a film, and the same again where nothing has been hashed yet", async () => {
    await writeModel(place, "tiny-t2v");
    const film = join(place, "film.mp4");
    const made = kinora(place, ...generate("tiny-t2v", "32*32", film));
    expect(made.status, made.stderr).toBe(0);
    expect(made.stdout).toContain(`${film}: 5 frames`);
    writeFileSync(join(place, "cache", "content-hashes.json"), "");
    const again = kinora(place, "generate", "--from", film, "--out", join(place, "again.mp4"));
    expect(again.status, again.stderr).toBe(0);
    expect(again.stderr).not.toContain("differs");
    expect(readFileSync(join(place, "again.mp4"))).toEqual(readFileSync(film));
  });

  it("plan and train without being named", async () => {
    await writeModel(place, "tiny-t2v");
    const pictures = join(place, "pictures");
    mkdirSync(pictures);
    for (const [i, shade] of [40, 200].entries()) {
      const data = new Uint8Array(32 * 32 * 3).fill(shade);
      await writePng(join(pictures, `${i}.png`), { width: 32, height: 32, data });
      writeFileSync(join(pictures, `${i}.txt`), "a red circle");
    }
    const config = join(place, "run.toml");
    const dataset = "[dataset]\npath = 'pictures'\nresolution = [32, 32]\n";
    writeFileSync(config, `steps = 2\n[model]\nname = "tiny-t2v"\n[lora]\nrank = 2\n${dataset}`);
    const planned = kinora(place, "plan", config, "--tflops", "1", "--json");
    expect(planned.status, planned.stderr).toBe(0);
    expect(JSON.parse(planned.stdout)).toMatchObject({ model: "tiny-t2v", assumed: [] });
    const trained = kinora(place, "train", config, "--json");
    expect(trained.status, trained.stderr).toBe(0);
    expect(JSON.parse(trained.stdout)).toMatchObject({
      end: "finished",
      files: [expect.any(String), expect.any(String)],
    });
  });
});
