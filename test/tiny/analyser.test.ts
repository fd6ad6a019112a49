// The analyser against scenes it knows nothing of: clean, and after what a weak autoencoder does to them.
import { describe, expect, it } from "vitest";
import { analyse } from "../../scripts/tiny/analyser/analyse.ts";
import { type Score, scored, scoreTable, scoreVideo, tally } from "../../scripts/tiny/analyser/score.ts";
import { neon } from "../../scripts/tiny/world/neon.ts";
import { type Clip, flat, renderClip } from "../../scripts/tiny/world/render.ts";
import { drawScene, motions } from "../../scripts/tiny/world/scene.ts";
import { degrade, weakAutoencoder } from "./weak-autoencoder.ts";

const small = { width: 64, height: 64, frames: 9 };
const wide = { width: 96, height: 64, frames: 17 };

function measure(count: number, size: typeof small, { style = flat, weak = false, seed = 21 } = {}): Score[] {
  return Array.from({ length: count }, (_, i) => {
    const scene = drawScene(seed, i);
    const clip = renderClip(scene, size, style);
    return scoreVideo(weak ? degrade(clip, i) : clip, scene);
  });
}

function expectAtLeast(
  scores: readonly Score[],
  share: number,
  names: readonly (typeof scored)[number][] = scored,
): void {
  const counts = tally(scores);
  for (const name of names) {
    const { right, of } = counts[name];
    expect(right / of, `${name}: ${right} of ${of}`).toBeGreaterThanOrEqual(share);
  }
}

/** Waves of some two pixels through every frame, as a small transformer's forms have them. */
function bend({ width, height, frames, data }: Clip, seed: number): Clip {
  const WAVE = { pixels: 2.2, length: 3 };
  const within = (at: number, size: number) => Math.min(size - 1, Math.max(0, Math.round(at)));
  const bent = new Uint8Array(data.length);
  for (let f = 0; f < frames; f++) {
    const phase = 2.4 * seed + 1.7 * f;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const column = within(x + WAVE.pixels * Math.sin(y / WAVE.length + phase), width);
        const row = within(y + WAVE.pixels * Math.cos(x / WAVE.length + 2 * phase), height);
        const from = 3 * ((f * height + row) * width + column);
        bent.set(data.subarray(from, from + 3), 3 * ((f * height + y) * width + x));
      }
    }
  }
  return { width, height, frames, data: bent };
}

const neonShare = (scores: readonly Score[]): number => tally(scores)["style: neon"].right / scores.length;

describe("the analyser", () => {
  it("reads at least 99 % of clean renders right, attribute by attribute, and takes none for neon", () => {
    const scores = measure(300, small);
    expectAtLeast(scores, 0.99);
    expect(neonShare(scores)).toBeLessThan(0.01);
  });

  it("reads at least 97 % right after a weak autoencoder, and takes none for neon", () => {
    const scores = measure(300, small, { weak: true });
    expectAtLeast(scores, 0.97);
    expect(neonShare(scores)).toBeLessThan(0.01);
  });

  it("reads longer, wider and larger clips as well", () => {
    expectAtLeast(measure(50, wide, { weak: true, seed: 5 }), 0.97);
    expectAtLeast(measure(25, { width: 128, height: 96, frames: 13 }, { weak: true, seed: 6 }), 0.96);
  });

  it("names at least 98 % of the shapes through a blur that rounds every corner", () => {
    const blurred = Array.from({ length: 100 }, (_, i) => {
      const scene = drawScene(23, i);
      return scoreVideo(degrade(renderClip(scene, small), i, { ...weakAutoencoder, blur: 2 }), scene);
    });
    expectAtLeast(blurred, 0.98, ["shape"]);
  });

  it("names at least 98 % of the stars and crosses whose points are bent, each frame in its own way", () => {
    const notched = Array.from({ length: 150 }, (_, i) => drawScene(41, i)).filter(
      ({ shape }) => shape === "star" || shape === "cross",
    );
    expect(notched.length).toBeGreaterThan(30);
    const bent = notched.map((scene, i) => scoreVideo(degrade(bend(renderClip(scene, small), i), i), scene));
    expectAtLeast(bent, 0.98, ["shape"]);
  });

  it("knows neon in over 99 % of neon clips, and still reads everything but the wall's colour", () => {
    const kept = scored.filter((name) => name !== "background");
    for (const weak of [false, true]) {
      const scores = measure(150, small, { style: neon, weak });
      expect(neonShare(scores)).toBeGreaterThan(0.99);
      expectAtLeast(scores, 0.97, kept);
    }
  });

  it("takes no black or blue wall for a neon night", () => {
    const dark = Array.from({ length: 600 }, (_, i) => drawScene(31, i)).filter(
      ({ background }) => background.color === "black" || background.color === "blue",
    );
    const fooled = dark.filter((scene, i) => analyse(degrade(renderClip(scene, small), i)).style.value === "neon");
    expect(dark.length).toBeGreaterThan(100);
    expect(fooled.length / dark.length).toBeLessThan(0.01);
  });

  it("finds a clip that shows something else wrong", () => {
    const scene = drawScene(1, 4);
    const clip = renderClip(scene, small);
    const motion = motions.find((name) => name !== scene.motion)!;
    const { right } = scoreVideo(clip, { ...scene, motion, color: scene.color === "red" ? "blue" : "red" });
    expect(right).toMatchObject({ motion: false, color: false, shape: true, background: true });
  });

  it("reads a reversed clip as the opposite motion", () => {
    const reversed = ({ data, ...size }: Clip): Clip => {
      const frame = data.length / size.frames;
      const out = new Uint8Array(data.length);
      for (let f = 0; f < size.frames; f++)
        out.set(data.subarray(f * frame, (f + 1) * frame), (size.frames - 1 - f) * frame);
      return { ...size, data: out };
    };
    const opposite: Partial<Record<string, string>> = {
      left: "right",
      right: "left",
      up: "down",
      down: "up",
      grow: "shrink",
      shrink: "grow",
    };
    let compared = 0;
    for (let i = 0; i < 40; i++) {
      const scene = drawScene(8, i);
      const expected = opposite[scene.motion];
      if (!expected) continue;
      expect(analyse(reversed(renderClip(scene, small))).motion.value).toBe(expected);
      compared++;
    }
    expect(compared).toBeGreaterThan(10);
  });

  it("sees nothing in an empty frame or in noise, and says so", () => {
    const grey: Clip = { ...small, data: new Uint8Array(9 * 64 * 64 * 3).fill(128) };
    const nothing = { value: undefined, confidence: 0 };
    expect(analyse(grey)).toMatchObject({
      seen: 0,
      color: nothing,
      shape: nothing,
      motion: nothing,
      backgroundColor: { value: "gray" },
      pattern: { value: "plain" },
    });
    expect(analyse(degrade(grey, 1))).toMatchObject({ seen: 0, shape: nothing });
  });

  it("reports confidence between 0 and 1", () => {
    for (let i = 0; i < 40; i++) {
      // Large neon objects leave next to nothing of their background.
      const clip = renderClip(drawScene(13, i), small, i % 2 === 0 ? neon : flat);
      const { seen, ...readings } = analyse(degrade(clip, i));
      expect(seen).toBe(1);
      for (const { confidence } of Object.values(readings)) {
        expect(confidence).toBeGreaterThanOrEqual(0);
        expect(confidence).toBeLessThanOrEqual(1);
      }
    }
  });

  it("prints a table with a column for each set", () => {
    const scores = measure(4, small);
    const lines = scoreTable({ base: scores, again: scores.slice(0, 2) }).split("\n");
    expect(lines[0]).toBe("| attribute | base | again |");
    expect(lines[2]).toBe("| color | 100.0 % (4/4) | 100.0 % (2/2) |");
    expect(lines).toHaveLength(2 + scored.length + 1);
  });
});
