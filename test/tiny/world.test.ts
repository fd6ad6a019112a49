// The drawn world: the same everywhere, true to its captions' attributes, split cleanly, and read back from its words.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { captionOf, captionVocabulary, plainCaption } from "../../scripts/tiny/world/captions.ts";
import {
  backgroundColorNames,
  backgroundTones,
  contrasts,
  labDistance,
  labOfRgb,
  objectColorNames,
  objectColors,
  rgbOfLab,
} from "../../scripts/tiny/world/color.ts";
import { contactSheet } from "../../scripts/tiny/world/contact-sheet.ts";
import { screenPath } from "../../scripts/tiny/world/motion.ts";
import { neon } from "../../scripts/tiny/world/neon.ts";
import { attributesFromCaption, sceneFromCaption } from "../../scripts/tiny/world/parse-caption.ts";
import { paintFrames, renderClip } from "../../scripts/tiny/world/render.ts";
import {
  cameras,
  combination,
  drawScene,
  motions,
  patterns,
  placeScene,
  type SceneAttributes,
  splitOf,
} from "../../scripts/tiny/world/scene.ts";
import { shapeNames, shapes } from "../../scripts/tiny/world/shapes.ts";
import { drawVariety } from "../../scripts/tiny/world/variety.ts";
import { readImage } from "../../src/io/image/read.ts";
import { writePng } from "../../src/io/image/write.ts";

const small = { width: 64, height: 64, frames: 9 };

const example: SceneAttributes = {
  shape: "circle",
  color: "red",
  motion: "right",
  background: { color: "blue", pattern: "plain" },
  camera: "still",
};

describe("drawing scenes", () => {
  it("draws scene n of a seed the same, whatever was drawn before", () => {
    const scenes = Array.from({ length: 20 }, (_, i) => drawScene(3, i));
    expect(drawScene(3, 17)).toEqual(scenes[17]);
    expect(drawScene(4, 17)).not.toEqual(scenes[17]);
    expect(renderClip(scenes[5]!, small)).toEqual(renderClip(drawScene(3, 5), small));
  });

  it("never trains on a held-out combination, and shows every value on both sides", () => {
    const sides = (["train", "held-out"] as const).map((split) =>
      Array.from({ length: 2000 }, (_, i) => drawScene(1, i, split)),
    );
    const [train, heldOut] = sides.map((scenes) => new Set(scenes.map(combination)));
    expect([...heldOut!].filter((name) => train!.has(name))).toEqual([]);
    for (const scenes of sides) {
      const values = (of: (scene: SceneAttributes) => string) => new Set(scenes.map(of)).size;
      expect(values(({ shape }) => shape)).toBe(shapeNames.length);
      expect(values(({ color }) => color)).toBe(objectColorNames.length);
      expect(values(({ motion }) => motion)).toBe(motions.length);
      expect(values(({ background }) => background.color)).toBe(backgroundColorNames.length);
      expect(values(({ background }) => background.pattern)).toBe(patterns.length);
      expect(values(({ camera }) => camera)).toBe(cameras.length);
    }
    // 200 different prompts are easily had.
    expect(heldOut!.size).toBeGreaterThan(1000);
  });

  it("holds out about a tenth", () => {
    const heldOut = Array.from({ length: 4000 }, (_, i) => splitOf(drawScene(9, i))).filter((s) => s === "held-out");
    expect(heldOut.length / 4000).toBeCloseTo(0.1, 1);
  });

  it("draws no object that its background swallows", () => {
    for (let i = 0; i < 500; i++) {
      const { color, background } = drawScene(2, i);
      expect(contrasts(color, background.color)).toBe(true);
    }
    expect(contrasts("red", "red")).toBe(false);
  });

  it("places given attributes, drawing only what they leave open", () => {
    const { speed, size, ...scene } = placeScene(example, 7);
    expect(scene).toMatchObject(example);
    expect([speed, size].every((value) => value !== undefined)).toBe(true);
    expect(placeScene({ ...example, size: "small", speed: "slow" }, 7)).toMatchObject({ size: "small", speed: "slow" });
  });
});

describe("rendering", () => {
  it("keeps the object whole within the frame", () => {
    fc.assert(
      fc.property(
        fc.nat(100_000),
        fc.constantFrom(1, 1.5, 4 / 3),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (i, aspect, time) => {
          const scene = drawScene(11, i);
          const { x, y, radius } = screenPath(scene, aspect)(time);
          const reach = radius * shapes[scene.shape].reach;
          expect(Math.abs(x) + reach).toBeLessThan(aspect / 2);
          expect(Math.abs(y) + reach).toBeLessThan(0.5);
        },
      ),
    );
  });

  it("covers as much of a frame as the shape's area, at every size", () => {
    // The area of a disc is known: the share of red in the frame is the coverage.
    const scene = placeScene({ ...example, motion: "still", background: { color: "black", pattern: "plain" } }, 1);
    const { dark, light } = backgroundTones("black");
    const under = (dark[0] + light[0]) / 2;
    for (const height of [32, 64, 96]) {
      const [frame] = paintFrames(scene, { width: height, height, frames: 1 });
      let covered = 0;
      for (let i = 0; i < frame!.length; i += 3) covered += (frame![i]! - under) / (objectColors.red[0] - under);
      const { radius } = screenPath(scene, 1)(0);
      expect(covered / height ** 2).toBeCloseTo(Math.PI * radius ** 2, 3);
    }
  });

  it("has distances that neither jump nor grow faster than the way", () => {
    const coordinate = fc.double({ min: -1.6, max: 1.6, noNaN: true });
    fc.assert(
      fc.property(
        fc.constantFrom(...shapeNames),
        coordinate,
        coordinate,
        coordinate,
        coordinate,
        (name, x, y, u, v) => {
          const { distance } = shapes[name];
          expect(Math.abs(distance(x, y) - distance(u, v))).toBeLessThanOrEqual(Math.hypot(x - u, y - v) + 1e-9);
        },
      ),
      { numRuns: 2000 },
    );
  });

  it("has shapes that reach as far as they say, and turn into themselves", () => {
    for (const name of shapeNames) {
      const { distance, reach, symmetry } = shapes[name];
      for (let i = 0; i < 360; i++) {
        const angle = (i * Math.PI) / 180;
        const at = (radius: number, turned = 0) =>
          distance(radius * Math.cos(angle + turned), radius * Math.sin(angle + turned));
        expect(at(reach)).toBeGreaterThanOrEqual(-0.01);
        if (symmetry > 0) expect(at(0.9)).toBeCloseTo(at(0.9, (2 * Math.PI) / symmetry), 9);
      }
    }
  });

  it("moves in the frame's heights, so that twice the size shows the same", () => {
    const scene = drawScene(5, 8);
    const [once, twice] = [1, 2].map((scale) =>
      renderClip(scene, { width: 64 * scale, height: 64 * scale, frames: 3 }),
    );
    let difference = 0;
    for (let f = 0; f < 3; f++)
      for (let y = 0; y < 64; y++)
        for (let x = 0; x < 64; x++) {
          const at = (dx: number, dy: number) => twice!.data[3 * ((f * 128 + 2 * y + dy) * 128 + 2 * x + dx)]!;
          const mean = (at(0, 0) + at(1, 0) + at(0, 1) + at(1, 1)) / 4;
          difference += Math.abs(mean - once!.data[3 * ((f * 64 + y) * 64 + x)]!);
        }
    expect(difference / (3 * 64 * 64)).toBeLessThan(1);
  });

  it("paints neon over the same scene", () => {
    const scene = placeScene({ ...example, motion: "still" }, 3);
    const { x, y } = screenPath(scene, 1)(0);
    const centre = 3 * (Math.floor((y + 0.5) * 64) * 64 + Math.floor((x + 0.5) * 64));
    for (const clip of [renderClip(scene, small), renderClip(scene, small, neon)])
      expect([...clip.data.subarray(centre, centre + 3)]).toEqual([...objectColors.red]);
    expect(renderClip(scene, small, neon).data).not.toEqual(renderClip(scene, small).data);
  });

  it("takes colours to OKLab and back", () => {
    fc.assert(
      fc.property(fc.nat(255), fc.nat(255), fc.nat(255), (r, g, b) => {
        const back = rgbOfLab(labOfRgb(r, g, b));
        expect(Math.max(Math.abs(back[0] - r), Math.abs(back[1] - g), Math.abs(back[2] - b))).toBeLessThan(0.01);
      }),
    );
    // Ottosson's own check values: white has lightness 1 and no colour.
    expect(labDistance(labOfRgb(255, 255, 255), [1, 0, 0])).toBeLessThan(1e-6);
  });

  it("draws variety the same for the same seed, and different for others", () => {
    expect(drawVariety(1, 2, small)).toEqual(drawVariety(1, 2, small));
    expect(drawVariety(1, 2, small).data).not.toEqual(drawVariety(1, 3, small).data);
  });
});

describe("captions", () => {
  it("says the example of the documentation", () => {
    expect(plainCaption(example)).toBe("a red circle moves to the right on a blue background");
    expect(sceneFromCaption("A red circle moves to the right on a blue background.")).toEqual(example);
  });

  it("is read back as what it says, in every phrasing", () => {
    fc.assert(
      fc.property(fc.nat(100_000), fc.nat(1000), (index, variant) => {
        const scene = drawScene(1, index);
        const { text, says } = captionOf(scene, 5, variant);
        expect(sceneFromCaption(text)).toEqual(says);
        const { place: _, scale: __, phase: ___, shift: ____, ...attributes } = scene;
        expect(sceneFromCaption(plainCaption(scene))).toEqual(attributes);
      }),
      { numRuns: 3000 },
    );
  });

  it("says each scene in many ways, with a small closed vocabulary", () => {
    const words = new Set(captionVocabulary());
    expect(words.size).toBeLessThan(100);
    const scene = drawScene(1, 1);
    const texts = new Set(Array.from({ length: 300 }, (_, i) => captionOf(scene, 0, i).text));
    expect(texts.size).toBeGreaterThan(50);
    for (let i = 0; i < 2000; i++)
      for (const word of captionOf(drawScene(2, i), 0, i).text.match(/[a-z]+|[^a-z ]/g)!)
        if (word !== ",") expect(words).toContain(word);
  });

  it("reads what it can of other words, and names what is missing", () => {
    expect(attributesFromCaption("Look: a BIG green heart quickly rising, the camera zooms in!")).toEqual({
      shape: "heart",
      color: "green",
      size: "large",
      motion: "up",
      speed: "fast",
      camera: "zoom-in",
    });
    expect(() => sceneFromCaption("a red circle on a blue background")).toThrow(/a motion/);
    expect(() => sceneFromCaption("something moves left on a blue background")).toThrow(/a shape/);
    expect(() => sceneFromCaption("a red circle moves left")).toThrow(/a background's colour/);
  });
});

describe("contact sheets", () => {
  it("are pictures with a row for each clip", async () => {
    const clips = [drawScene(1, 1), drawScene(1, 2)].map((scene) => renderClip(scene, small));
    const sheet = contactSheet(clips, { columns: 3, magnify: 2, gap: 4 });
    expect([sheet.width, sheet.height]).toEqual([3 * 132 + 4, 2 * 132 + 4]);
    // The last frame of the second clip stands in the last cell.
    const corner = 3 * ((4 + 132) * sheet.width + 4 + 2 * 132);
    expect([...sheet.data.subarray(corner, corner + 3)]).toEqual([
      ...clips[1]!.data.subarray(8 * 64 * 64 * 3, 8 * 64 * 64 * 3 + 3),
    ]);
    const folder = await mkdtemp(join(tmpdir(), "kinora-tiny-"));
    try {
      const path = join(folder, "sheet.png");
      await writePng(path, sheet);
      expect((await readFile(path)).length).toBeGreaterThan(1000);
      expect((await readImage(path)).data).toEqual(sheet.data);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
