// What JavaScript may hand to the front door: whatever it is, nothing throws, the handle rejects with an error that names
// the option, and no child process is left behind.
import { expect, it } from "vitest";
import * as kinora from "../../src/index.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();
const film = { model: "tiny-t2v", prompt: "a red circle", out: path("film.mp4") };

/** The functions as a caller without types sees them. */
const untyped = kinora as unknown as Record<string, (...given: unknown[]) => PromiseLike<unknown>>;

async function failure(name: string, ...given: unknown[]): Promise<{ code: string; message: string }> {
  const handle = untyped[name]!(...given);
  return Promise.resolve(handle).then(
    () => Promise.reject(new Error(`${name} accepted it`)),
    (error: { code: string; message: string }) => error,
  );
}

const circular: Record<string, unknown> = { ...film, child: true };
circular.files = circular;

it.each<[what: string, name: string, given: unknown[], message: RegExp]>([
  ["no options", "generate", [], /^generate takes an object with its options/],
  ["null", "doctor", [null], /^doctor takes an object/],
  ["a text", "generate", ["a fox"], /^generate takes an object.*a fox/],
  ["a list", "planForward", [[]], /^plan-forward takes an object/],
  ["no signal", "generate", [{ ...film, signal: "stop" }], /`signal` must be an AbortSignal/],
  ["a wrong second signal", "generate", [{ ...film, abortSignal: {} }], /`abortSignal` must be an AbortSignal/],
  ["child as text", "generate", [{ ...film, child: "yes" }], /`child` must be true or false/],
  ["a number as a folder", "generate", [{ ...film, cacheFolder: 4 }], /`cacheFolder` must be text \(it is 4\)/],
  ["a size as text", "generate", [{ ...film, size: "32x32" }], /`size` must be an object/],
  ["a side missing", "generate", [{ ...film, size: { width: 32 } }], /`size.height` is missing/],
  ["a resolution with *", "generate", [{ ...film, resolution: "32*32" }], /`resolution` must be WIDTHxHEIGHT/],
  ["half a seed", "generate", [{ ...film, seed: 1.5 }], /`seed` must be a whole number of at most 64 bits/],
  ["a NUL in a path", "generate", [{ ...film, out: "a\0.mp4" }], /`out` must not contain a NUL/],
  ["no number", "generate", [{ ...film, steps: Number.NaN, child: true }], /`steps` must be a finite number; got NaN/],
  [
    "a bigint to a child",
    "generate",
    [{ ...film, steps: 2n, child: true }],
    /`steps` must be plain data; got a bigint/,
  ],
  ["a function to a child", "generate", [{ ...film, steps: () => 2, child: true }], /`steps` must be plain data/],
  ["a circle to a child", "generate", [circular], /its options are not plain data/],
  ["a number as a configuration", "train", [5], /`config` must be the path of a configuration file, or an object/],
  ["a table as a setting", "train", ["a.toml", { set: { lora: { rank: 4 } } }], /`set.0.value` must be text/],
  ["a wrong format", "convertLora", ["a.safetensors", { to: "comfi" }], /`to` must be one of musubi, comfy/],
])("%s rejects by name", async (_what, name, given, message) => {
  const { code, message: said } = await failure(name, ...given);
  expect([code, said]).toEqual(["request.invalid", expect.stringMatching(message)]);
});

it("names the nearest option, and says where there are none", async () => {
  expect(await failure("generate", { ...film, promt: "x" })).toMatchObject({ hint: "did you mean prompt?" });
  expect(await failure("doctor", { quick: true })).toMatchObject({ hint: "it takes no options" });
  expect(await failure("convertLora", "a.safetensors", { to: "comfi" })).toMatchObject({ hint: "did you mean comfy?" });
});

it("takes a bigint as a seed, and null for options that may be left out", async () => {
  expect(await failure("generate", { ...film, seed: 2n ** 63n, sampler: "none" })).toMatchObject({
    code: "generate.unknown-sampler",
  });
  expect(await failure("train", path("none.toml"), null)).toMatchObject({ code: "train-config.unreadable" });
});
