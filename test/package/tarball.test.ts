// The package as others have it: packed, unpacked into an empty folder, and used from JavaScript and TypeScript.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath, pathToFileURL } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { ChatServer } from "../dataset/caption-server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const path = temporaryFolder();
const app = path("app");
const compiler = join(root, "node_modules/typescript/bin/tsc");
const npm = process.platform === "win32" ? "npm.cmd" : "npm";
const { dependencies, files } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
  dependencies: Record<string, string>;
  files: string[];
};

/** Builds and packs a copy, so that the checkout stays as it is; its dependencies come from the checkout, not the network. */
beforeAll(() => {
  const stage = path("stage");
  for (const name of ["package.json", ...files.filter((name) => name !== "dist")])
    if (existsSync(join(root, name))) cpSync(join(root, name), join(stage, name), { recursive: true });
  const config = join(root, "tsconfig.build.json");
  execFileSync(process.execPath, [compiler, "-p", config, "--outDir", join(stage, "dist")], { stdio: "pipe" });
  const packed = execFileSync(npm, ["pack", "--ignore-scripts", "--json"], {
    cwd: stage,
    shell: process.platform === "win32",
    encoding: "utf8",
  });
  const [{ filename }] = JSON.parse(packed) as [{ filename: string }];
  const modules = join(app, "node_modules");
  mkdirSync(join(modules, "@types"), { recursive: true });
  execFileSync("tar", ["-xzf", join(stage, filename), "-C", modules]);
  cpSync(join(modules, "package"), join(modules, "kinora"), { recursive: true });
  for (const name of ["package"]) rmSync(join(modules, name), { recursive: true });
  for (const name of [...Object.keys(dependencies), "@types/node"])
    symlinkSync(join(root, "node_modules", name), join(modules, name), "junction");
  writeFileSync(join(app, "package.json"), JSON.stringify({ name: "app", private: true, type: "module" }));
}, 300_000);

function run(program: string): { status: number | null; stdout: string; stderr: string } {
  const file = join(app, "program.mjs");
  writeFileSync(file, program);
  return spawnSync(process.execPath, [file], {
    cwd: app,
    encoding: "utf8",
    env: { ...process.env, KINORA_CACHE: join(app, "cache") },
  });
}

/** What the compiler says of files, in its strictest form. */
function check(names: readonly string[], ...more: string[]): string {
  const flags =
    "--strict --noEmit --exactOptionalPropertyTypes --target es2023 --lib es2023,esnext.disposable,dom".split(" ");
  const modules = ["--module", "nodenext", "--types", "node", ...more];
  const { status, stdout } = spawnSync(process.execPath, [compiler, ...flags, ...modules, ...names], {
    cwd: app,
    encoding: "utf8",
  });
  return status === 0 ? "" : stdout;
}

function compile(name: string, program: string): string {
  writeFileSync(join(app, name), program);
  return check([name]);
}

/** The examples of the package, where a newcomer puts them: into a folder of his own. */
const examples = readdirSync(join(root, "examples"));

/** Runs an example in `folder`; gives what it printed. Not in step with this process, which may serve it. */
async function example(name: string, folder: string, ...argv: string[]): Promise<string> {
  const cwd = join(app, folder);
  mkdirSync(cwd, { recursive: true });
  cpSync(join(app, "node_modules/kinora/examples", name), join(cwd, name));
  const loader = pathToFileURL(createRequire(import.meta.url).resolve("tsx/esm")).href;
  const node = name.endsWith(".ts") ? ["--import", loader] : [];
  const child = spawn(process.execPath, [...node, name, ...argv], {
    cwd,
    env: { ...process.env, KINORA_CACHE: join(app, "cache") },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  expect(code, err).toBe(0);
  return out;
}

describe("the packed package", () => {
  it("makes a film from a program of five lines", () => {
    const { status, stdout, stderr } = run(`import { generate } from "kinora";
const prompt = "a red circle moves to the right on a blue background";
for await (const event of generate({ model: "tiny-t2v", prompt, seed: 7, steps: 3, out: "a.mp4" })) {
  if (event.type === "step") console.log(event.step, "of", event.steps);
}
`);
    expect(status, stderr).toBe(0);
    expect(stdout).toBe("1 of 3\n2 of 3\n3 of 3\n");
    expect(readFileSync(join(app, "a.mp4")).length).toBeGreaterThan(1000);
  });

  it("makes the same in a child process, and several with their seeds", () => {
    const { status, stdout, stderr } = run(`import { generate, readRecipe } from "kinora";
const request = { model: "tiny-t2v", prompt: "a red circle moves to the right on a blue background", seed: 7n, steps: 3 };
const { videos } = await generate({ ...request, n: 2, out: "b.mp4", child: true });
console.log(videos.map(({ path }) => path).join(), (await readRecipe("b-8.mp4")).seed);
`);
    expect(status, stderr).toBe(0);
    expect(stdout).toBe("b-7.mp4,b-8.mp4 8\n");
    expect(readFileSync(join(app, "b-7.mp4")).equals(readFileSync(join(app, "a.mp4")))).toBe(true);
  });

  it("opens every door that it names", () => {
    const { status, stdout, stderr } = run(
      `
const doors = ["kinora", "kinora/engine", "kinora/train", "kinora/dataset", "kinora/lora", "kinora/registry", "kinora/protocol"];
for (const door of doors) console.log(door, Object.keys(await import(door)).length > 3);
const { openDevice, fromValues, ops } = await import("kinora/engine");
using device = (await openDevice("reference")).device;
const a = fromValues(device, Float32Array.of(1, 2, 3, 4), [2, 2]);
const product = ops.matmul(a, a);
console.log([...(await product.read())].join());
`.replace(
        'using device = (await openDevice("reference")).device;',
        'const { device } = await openDevice("reference");',
      ),
    );
    expect(status, stderr).toBe(0);
    expect(stdout).toBe(
      `${["", "/engine", "/train", "/dataset", "/lora", "/registry", "/protocol"].map((door) => `kinora${door} true\n`).join("")}7,10,15,22\n`,
    );
  });

  it("tells what is wrong by KinoraError, and nothing unhandled", () => {
    const { status, stdout, stderr } = run(`import { generate, isKinoraError, train } from "kinora";
for (const run of [
  generate({ model: "tiny-t2v", promt: "x" }),
  generate({ model: "tiny-t2v", prompt: "x", resolution: "64x64", aspectRatio: "16:9" }),
  train("none.toml"),
]) await run.catch((error) => console.log(isKinoraError(error), error.code, error.hint));
generate({ model: "nonsense", prompt: "x" });
`);
    expect(status, stderr).toBe(0);
    expect(stdout.split("\n")).toEqual([
      "true request.unknown-option did you mean prompt?",
      expect.stringMatching(/^true generate\.contradiction /),
      expect.stringMatching(/^true train-config\.unreadable /),
      "",
    ]);
    expect(stderr).toBe("");
  });

  it("is typed: right programs compile strictly, its declarations too, and wrong ones do not", () => {
    const right = `import { generate, KinoraError, train, type GenerateEvent, type GenerateOptions, type Video } from "kinora";
import { openDevice, type Tensor } from "kinora/engine";
import { readTrainConfig } from "kinora/train";
import { planDataset } from "kinora/dataset";
import { readLora } from "kinora/lora";
import { generateContract, recipeSchema, type Recipe } from "kinora/protocol";
export const options: GenerateOptions = { prompt: "x", n: 2, aspectRatio: "16:9", duration: 5, seed: 1n, signal: AbortSignal.timeout(9) };
export async function main(): Promise<Video> {
  const run = generate(options);
  for await (const event of run) {
    const told: GenerateEvent = event;
    if (told.type === "step") told.step.toFixed();
    if (event.type === "preview") event.path.trim();
  }
  const { video, videos } = await run;
  videos.map(({ path }) => path);
  const { files } = await train({ model: { name: "tiny-t2v" }, dataset: "clips", steps: 3 }, { child: true });
  files[0]?.trim();
  const recipe: Recipe = recipeSchema.parse(video.recipe);
  return recipe.seed === video.recipe.seed ? video : await generate({}).then((result) => result.video);
}
export const kept: [typeof openDevice, typeof readTrainConfig, typeof planDataset, typeof readLora] | Tensor | KinoraError | undefined = undefined;
export const request = generateContract.request.parse({ prompt: "x" });
`;
    expect(compile("right.ts", right)).toBe("");
    const wrong = `import { generate } from "kinora";
generate({ promt: "x" });
generate({ prompt: "x", aspectRatio: "wide" });
generate({ prompt: "x" }).then((result) => result.film);
`;
    const said = compile("wrong.ts", wrong);
    expect(said.match(/wrong\.ts\(\d/g)).toHaveLength(3);
  });

  it("runs its command line", () => {
    const bin = join(app, "node_modules/kinora/bin/kinora.mjs");
    const { status, stdout } = spawnSync(process.execPath, [bin, "show", "a.mp4", "--json"], {
      cwd: app,
      encoding: "utf8",
    });
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ kind: "kinora.recipe", seed: "7" });
  });
});

/** Each example, and what is to come of it in its folder. */
const examined: Record<string, (folder: string) => Promise<void>> = {
  "first-film.js": async (folder) => {
    const printed = await example("first-film.js", folder);
    expect(printed.match(/^step \d+ of 12$/gm)).toHaveLength(12);
    expect(printed).toContain("first-film.mp4: 9 frames; seed 7 makes it again");
    expect(readFileSync(join(app, folder, "first-film.mp4")).length).toBeGreaterThan(1000);
  },
  "dataset.js": async (folder) => {
    expect(await example("dataset.js", folder)).toMatch(
      /^3 clips in .*, 1 without a caption(.*\n){3}.*"a yellow triangle moves to the left on a black background"\n(.*\n)*one epoch: 3 items/,
    );
    rmSync(join(app, folder, "set"), { recursive: true });
    await using server = await ChatServer.start(() => "a caption by a model with eyes");
    const asked = await example("dataset.js", folder, `${server.origin}/v1`, "eyes");
    expect(server.received).toHaveLength(1);
    expect(asked).toMatch(/triangle.*, "a caption by a model with eyes"/);
    expect(asked).toMatch(/circle.*, "a red circle moves to the right on a blue background"/);
  },
  "train-lora.js": async (folder) => {
    const printed = await example("train-lora.js", folder);
    expect(printed).toMatch(
      /^LoRA of rank 4: \d+ MB at most, about \d+ s\n(step \d of 6: loss [\d.]+\n){6}neon\.mp4 with /,
    );
    const loras = readdirSync(join(app, folder, "lora-run")).filter((name) => name.endsWith(".safetensors"));
    expect(loras.length).toBeGreaterThanOrEqual(2);
    for (const name of printed.match(/neon\.mp4 with (\S+) and (\S+)/)!.slice(1)) expect(loras).toContain(name);
    expect(existsSync(join(app, folder, "neon.mp4"))).toBe(true);
  },
  "stop-and-resume.js": async (folder) => {
    const printed = await example("stop-and-resume.js", folder);
    const stopped = Number(/^stopped after step (\d+);/.exec(printed)?.[1]);
    expect(stopped).toBeGreaterThanOrEqual(3);
    expect(printed).toContain(`resumed with step ${stopped + 1}; long.mp4 has 9 frames`);
  },
  "engine.ts": async (folder) => {
    const printed = await example("engine.ts", folder);
    expect(Number(/the loss after 60 steps: (\S+)/.exec(printed)?.[1])).toBeLessThan(1e-9);
    // The prompt's background is blue, and most of the film is background.
    const [red, green, blue] = /red (.*), green (.*), blue (.*)/.exec(printed)!.slice(1).map(Number) as [
      number,
      number,
      number,
    ];
    expect(blue).toBeGreaterThan(Math.max(red, green) + 0.2);
    expect(printed).toContain("bytes that are left on the device: 0");
  },
};

describe("the examples in the package", () => {
  it("are all tried here, and compile strictly", () => {
    expect(Object.keys(examined).sort()).toEqual([...examples].sort());
    for (const name of examples) cpSync(join(app, "node_modules/kinora/examples", name), join(app, name));
    expect(check(examples, "--allowJs", "--checkJs")).toBe("");
  });

  it.each(Object.entries(examined))("%s does what it says", async (name, examine) => {
    await examine(`example-${name}`);
  });
});
