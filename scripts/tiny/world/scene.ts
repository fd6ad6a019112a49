// What a clip of the world shows: its attributes by name, how scenes are drawn from a seed, and which are held out.
import { type BackgroundColor, backgroundColorNames, contrasts, type ObjectColor, objectColorNames } from "./color.ts";
import { Draws } from "./random.ts";
import { type ShapeName, shapeNames, shapes } from "./shapes.ts";

export const motions = ["left", "right", "up", "down", "bounce", "orbit", "spin", "grow", "shrink", "still"] as const;
export const sizes = ["small", "large"] as const;
export const speeds = ["slow", "fast"] as const;
export const patterns = ["plain", "striped", "checkered", "gradient"] as const;
export const cameras = ["still", "pan-left", "pan-right", "zoom-in", "zoom-out"] as const;

export type Motion = (typeof motions)[number];
export type Size = (typeof sizes)[number];
export type Speed = (typeof speeds)[number];
export type Pattern = (typeof patterns)[number];
export type Camera = (typeof cameras)[number];

/** What a caption says of a scene. Size and speed may be left unsaid. */
export interface SceneAttributes {
  shape: ShapeName;
  color: ObjectColor;
  motion: Motion;
  background: { color: BackgroundColor; pattern: Pattern };
  camera: Camera;
  /** Of objects that neither grow nor shrink. */
  size?: Size;
  /** Of objects that move left, right, up or down. */
  speed?: Speed;
}

/** A scene down to what a caption does not say. */
export interface Scene extends SceneAttributes {
  /** Where the object stands within the room that its path leaves free, across and down: 0 … 1. */
  place: { across: number; down: number };
  /** Relative to the named size, 0.95 … 1.05. */
  scale: number;
  /** Where on its circle an orbit starts, in turns. */
  phase: number;
  /** How far the pattern is shifted, in periods. */
  shift: { across: number; down: number };
}

export const isDirection = (motion: Motion): boolean =>
  motion === "left" || motion === "right" || motion === "up" || motion === "down";

export const hasSize = (motion: Motion): boolean => motion !== "grow" && motion !== "shrink";

/** A turn is seen only on shapes that have corners. */
const canSpin = (shape: ShapeName): boolean => shapes[shape].symmetry > 0;

/**
 * Camera moves that can be told from the object's own: the background has to have marks that move, a pan goes along or
 * across the object's way, and a zoom is not mixed with growing or travelling.
 */
export function cameraMoves(motion: Motion, pattern: Pattern): Camera[] {
  if (pattern !== "striped" && pattern !== "checkered") return [];
  if (motion === "still" || motion === "spin") return ["pan-left", "pan-right", "zoom-in", "zoom-out"];
  if (motion === "up" || motion === "down") return ["pan-left", "pan-right"];
  if (motion === "left") return ["pan-left"];
  if (motion === "right") return ["pan-right"];
  return [];
}

/** One in ten combinations is never trained on: those are the prompts that measure. */
const HELD_OUT_OF_TEN = 1;

/** The combination a split is decided by: everything a caption says but size and speed. */
export function combination({ shape, color, motion, background, camera }: SceneAttributes): string {
  return [shape, color, motion, background.color, background.pattern, camera].join(" ");
}

export type Split = "train" | "held-out";

export function splitOf(attributes: SceneAttributes): Split {
  // FNV-1a with a final mix: stable over machines and versions, which a split has to be.
  let hash = 0x811c9dc5;
  for (const sign of combination(attributes)) hash = Math.imul(hash ^ sign.codePointAt(0)!, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = (hash ^ (hash >>> 13)) >>> 0;
  return hash % 10 < HELD_OUT_OF_TEN ? "held-out" : "train";
}

/**
 * How far what no caption says may stray: the object's place from the middle of its room, the start of an orbit and the
 * pattern from nought. Little: what the text leaves open a small model has to make up its mind about in the first steps of
 * sampling, and with objects anywhere it drew them in two places at once.
 */
const STRAY = { place: 0.1, phase: 0.06, shift: 0.12 } as const;

/** Share of scenes on marked backgrounds whose camera moves, where it can. */
const CAMERA_SHARE = 0.35;

function draw(draws: Draws): Scene {
  const motion = draws.pick(motions);
  const shape = draws.pick(motion === "spin" ? shapeNames.filter(canSpin) : shapeNames);
  const color = draws.pick(objectColorNames);
  const background = {
    color: draws.pick(backgroundColorNames.filter((name) => contrasts(color, name))),
    pattern: draws.pick(patterns),
  };
  const moves = cameraMoves(motion, background.pattern);
  const stray = (most: number) => draws.between(-most, most);
  const camera = moves.length > 0 && draws.chance(CAMERA_SHARE) ? draws.pick(moves) : "still";
  return {
    shape,
    color,
    motion,
    background,
    camera,
    ...(hasSize(motion) ? { size: draws.pick(sizes) } : {}),
    ...(isDirection(motion) ? { speed: draws.pick(speeds) } : {}),
    place: { across: 0.5 + stray(STRAY.place), down: 0.5 + stray(STRAY.place) },
    scale: draws.between(0.95, 1.05),
    phase: stray(STRAY.phase),
    shift: { across: stray(STRAY.shift), down: stray(STRAY.shift) },
  };
}

/** Scene `index` of a seed, of one split or of both. The same scene on every machine. */
export function drawScene(seed: number, index: number, split?: Split): Scene {
  const draws = new Draws(seed, index);
  for (;;) {
    const scene = draw(draws);
    if (!split || splitOf(scene) === split) return scene;
  }
}

/** A scene with the given attributes; the rest is drawn. */
export function placeScene(attributes: SceneAttributes, seed: number, index = 0): Scene {
  const drawn = draw(new Draws(seed, index));
  const draws = new Draws(seed, index + 2 ** 40);
  const { size = draws.pick(sizes), speed = draws.pick(speeds), ...said } = attributes;
  const { place, scale, phase, shift } = drawn;
  return {
    ...said,
    ...(hasSize(said.motion) ? { size } : {}),
    ...(isDirection(said.motion) ? { speed } : {}),
    place,
    scale,
    phase,
    shift,
  };
}
