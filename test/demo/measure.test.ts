// What the demo holds its figures against: films of both styles as they are meant to be, and every way to miss.
import { execFileSync, type SpawnSyncReturns } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { Variant } from "../../scripts/demo/generate.ts";
import { goalsOf, measurePair, points } from "../../scripts/demo/measure.ts";
import { heldOutPrompts, model } from "../../scripts/demo/settings.ts";
import type { Score } from "../../scripts/tiny/analyser/score.ts";
import { neon } from "../../scripts/tiny/world/neon.ts";
import { flat, renderClip, type Style } from "../../scripts/tiny/world/render.ts";
import type { Scene } from "../../scripts/tiny/world/scene.ts";
import { VideoWriter } from "../../src/io/video/write.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();
const root = fileURLToPath(new URL("../../", import.meta.url));

async function film(name: string, scene: Scene, style: Style): Promise<string> {
  const { width, height, frames, fps } = model.defaults;
  const { data } = renderClip(scene, { width, height, frames }, style);
  await using writer = await VideoWriter.create(path(name), { width, height, fps });
  for (let f = 0; f < frames; f++)
    await writer.write(data.subarray(f * width * height * 3, (f + 1) * width * height * 3));
  await writer.finish();
  return path(name);
}

/** As many prompts as the demo has, drawn as a perfect model and a perfect LoRA would. */
async function perfectScores(count: number): Promise<Record<Variant, Score>[]> {
  const scores: Record<Variant, Score>[] = [];
  for (const prompt of heldOutPrompts(count)) {
    const without = await film(`${prompt.index}-without.mp4`, prompt.scene, flat);
    scores.push(
      await measurePair({ prompt, without, with: await film(`${prompt.index}-with.mp4`, prompt.scene, neon) }),
    );
  }
  return scores;
}

describe("the demo's goals", () => {
  it("are met by films of the world without the LoRA and neon ones with it", async () => {
    const scores = await perfectScores(24);
    expect(goalsOf(scores).filter(({ met }) => !met)).toEqual([]);
    // The other way round neither the style nor its absence is there.
    const swapped = scores.map((both) => ({ without: both.with, with: both.without }));
    expect(goalsOf(swapped).map(({ met }) => met)).toEqual([false, false, true, true, true]);
  });

  it("allow five points of loss and not one more", async () => {
    const [pair] = await perfectScores(1);
    const spoilt = (name: "color" | "shape" | "motion") => ({
      ...pair!,
      with: { ...pair!.with, right: { ...pair!.with.right, [name]: false } },
    });
    const withSpoilt = (name: "color" | "shape" | "motion", count: number) =>
      goalsOf(Array.from({ length: 40 }, (_, i) => (i < count ? spoilt(name) : pair!))).map(({ met }) => met);
    expect(withSpoilt("color", 2)).toEqual([true, true, true, true, true]);
    expect(withSpoilt("color", 3)).toEqual([true, true, false, true, true]);
    expect(withSpoilt("shape", 3)).toEqual([true, true, true, false, true]);
    expect(withSpoilt("motion", 3)).toEqual([true, true, true, true, false]);
  });

  it("want more than nine in ten, and less than one in ten", async () => {
    const [pair] = await perfectScores(1);
    const flatOnly = { without: pair!.without, with: pair!.without };
    const neonOnly = { without: pair!.with, with: pair!.with };
    const styles = (others: number, other: Record<Variant, Score>) =>
      goalsOf(Array.from({ length: 40 }, (_, i) => (i < others ? other : pair!)))
        .slice(0, 2)
        .map(({ met }) => met);
    expect(styles(3, flatOnly)).toEqual([true, true]);
    expect(styles(4, flatOnly)).toEqual([true, false]);
    expect(styles(3, neonOnly)).toEqual([true, true]);
    expect(styles(4, neonOnly)).toEqual([false, true]);
  });

  it("are told in points with their sign", () => {
    expect([2.5, -4.24, 0].map(points)).toEqual(["+2.5 points", "−4.2 points", "±0.0 points"]);
  });
});

describe("the demo's command", () => {
  const demo = (...args: string[]): { status: number | null; stderr: string } => {
    try {
      execFileSync(process.execPath, ["--import", "tsx", join(root, "scripts/demo.ts"), ...args], {
        cwd: root,
        encoding: "utf8",
        stdio: "pipe",
      });
    } catch (error) {
      return error as SpawnSyncReturns<string>;
    }
    return { status: 0, stderr: "" };
  };

  it("says what is wrong and what to do, before it makes anything", () => {
    const missing = demo("--checkpoint", path("nowhere"), "--out", path("demo"));
    expect(missing.status).toBe(1);
    expect(missing.stderr).toMatch(/^error checkpoint\.no-folder: .*\nhint: /m);
    const unknown = demo("--step", "3");
    expect(unknown.status).toBe(2);
    expect(unknown.stderr).toContain("usage: npm run demo");
    expect(demo("--prompts", "none").stderr).toContain("error cli.bad-number: --prompts is invalid");
  });
});
