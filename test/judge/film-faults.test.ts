// Faults of films that are drawn to have one each, none of a sound film, and what they make of an acceptance test.
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { verdictOf } from "../../src/jobs/registry/accept.ts";
import { type FaultName, faultsOf, measureFaults } from "../../src/judge/film-faults.ts";
import type { AcceptanceCell } from "../../src/protocol/jobs/accept.ts";
import { makeFilm, temporaryFolder } from "../support/film.ts";

const folder = temporaryFolder();
const clean =
  "mandelbrot=s=96x64:r=16:start_scale=0.25:end_scale=0.05:end_pts=200:maxiter=300,trim=end=1,scroll=h=0.01";
const films: Record<FaultName | "clean", string> = {
  clean,
  black: "color=black:s=96x64:r=16:d=1",
  frozen: `${clean},loop=loop=16:size=1,trim=end_frame=16`,
  flicker: `${clean},eq=brightness='0.05*mod(n,2)+0.03*mod(n,3)':eval=frame`,
  saturated: "color=red:s=96x64:r=16:d=1,noise=c0s=2:c0f=t",
  seam: `${clean},format=yuv420p,split[a][b];[a]crop=48:64:0:0,eq=brightness=0.15[l];[b]crop=48:64:48:0,eq=brightness=-0.15[r];[l][r]hstack`,
};

async function measured(name: keyof typeof films) {
  const path = join(folder, `${name}.mkv`);
  await makeFilm(path, { graph: `${films[name]},format=yuv420p`, encoderOptions: { crf: "6" } });
  return measureFaults(path);
}

describe("films", () => {
  it("that are sound have no faults", async () => {
    expect(faultsOf(await measured("clean"))).toEqual([]);
  });

  it.each(["black", "frozen", "flicker", "saturated", "seam"] as const)("that are %s are found", async (name) => {
    const measures = await measured(name);
    expect(faultsOf(measures), JSON.stringify(measures)).toContain(name);
    expect(faultsOf(measures, measures)).toEqual([]);
  });
});

describe("an acceptance test", () => {
  const cell = (strength?: number, more: Partial<AcceptanceCell> = {}): AcceptanceCell => ({
    ...{ prompt: "x", seed: "1", film: "x.mp4", seconds: 10, peakBytes: 100, faults: [] },
    ...(strength === undefined ? {} : { strength }),
    ...more,
  });

  it("passes where nothing is wrong, and fails by an error, by frozen films, by many faults, by time and memory", () => {
    const sound = [cell(), ...Array.from({ length: 11 }, () => cell(1))];
    expect(verdictOf(sound)).toMatchObject({ verdict: "passed", reasons: [], time: 1, peak: 1 });
    expect(verdictOf([...sound, cell(1, { faults: ["seam"] })]).verdict).toBe("passed");
    expect(verdictOf([...sound, cell(1, { faults: ["seam"] }), cell(1, { faults: ["flicker"] })]).reasons).toEqual([
      expect.stringContaining("2 of 13 films have faults (seam, flicker)"),
    ]);
    expect(verdictOf([...sound, cell(1, { faults: ["frozen"] })]).reasons).toEqual(["1 of 12 films: frozen"]);
    expect(verdictOf([...sound, cell(1, { faults: ["error"], error: "x.y" })]).verdict).toBe("failed");
    expect(verdictOf([cell(), cell(1, { seconds: 30, peakBytes: 200 })]).reasons).toHaveLength(2);
  });
});
