// Draws a scene into frames, anti-aliased: exact edge distances become coverage. What the pixels are painted with is a
// style's business; the world's own style is `flat`.
import { backgroundTones, objectColors, type Rgb } from "./color.ts";
import { type Pose, screenPath, type View, view } from "./motion.ts";
import type { Scene } from "./scene.ts";
import { shapes } from "./shapes.ts";

export interface ClipSize {
  width: number;
  height: number;
  frames: number;
}

/** A clip as bytes: `data` is [frames, height, width, 3], sRGB. */
export interface Clip extends ClipSize {
  data: Uint8Array;
}

/** One frame before painting. */
export interface Layers {
  width: number;
  height: number;
  /** The background's tone from −1 (dark) to 1 (light), [height, width]. */
  tone: Float32Array;
  /** Distance to the object's edge in pixels, negative inside, [height, width]; only exact up to the style's reach. */
  distance: Float32Array;
}

export interface Style {
  name: string;
  /** How far outside the object its painting looks at distances, in frame heights. */
  reach: number;
  /** Fills `out` [height, width, 3] with sRGB from 0 to 255. `grain` is a number per frame that a style may seed noise with. */
  paint(layers: Layers, scene: Scene, out: Float32Array, grain: number): void;
}

const PATTERN_PERIOD = 0.4;

/** How much of a pixel with this signed distance (in pixels) the object covers. */
export const coverage = (distance: number): number => Math.min(1, Math.max(0, 0.5 - distance));

/** A square wave between −1 and 1 of period 1, its steps smoothed over a pixel: `pixel` in periods. */
function wave(at: number, pixel: number): number {
  const t = at - Math.floor(at);
  // Signed distance to the nearer step, positive in the first half.
  const distance = t < 0.5 ? Math.min(t, 0.5 - t) : -Math.min(t - 0.5, 1 - t);
  return Math.min(1, Math.max(-1, (2 * distance) / pixel));
}

function fillTone(tone: Float32Array, scene: Scene, { x: viewX, zoom }: View, width: number, height: number): void {
  const { pattern } = scene.background;
  if (pattern === "plain") {
    tone.fill(0);
    return;
  }
  const pixel = 1 / (height * zoom * PATTERN_PERIOD);
  const across = Float32Array.from({ length: width }, (_, i) => {
    const x = (i + 0.5 - width / 2) / height / zoom + viewX;
    return wave(x / PATTERN_PERIOD + scene.shift.across, pixel);
  });
  for (let j = 0; j < height; j++) {
    const row = tone.subarray(j * width, (j + 1) * width);
    const y = (j + 0.5 - height / 2) / height;
    if (pattern === "gradient") row.fill(-2 * y);
    else if (pattern === "striped") row.set(across);
    else {
      const down = wave(y / zoom / PATTERN_PERIOD + scene.shift.down, pixel);
      for (let i = 0; i < width; i++) row[i] = across[i]! * down;
    }
  }
}

/** Fills the box in which `reach` (pixels) around the object can be seen; the rest is far away. */
function fillDistance(layers: Layers, scene: Scene, { x, y, radius, angle }: Pose, reach: number): void {
  const { width, height, distance } = layers;
  const shape = shapes[scene.shape];
  distance.fill(Infinity);
  const pixels = radius * height;
  const centreX = width / 2 + x * height;
  const centreY = height / 2 + y * height;
  const half = pixels * shape.reach + reach + 1;
  const left = Math.max(0, Math.floor(centreX - half));
  const right = Math.min(width, Math.ceil(centreX + half));
  const top = Math.max(0, Math.floor(centreY - half));
  const bottom = Math.min(height, Math.ceil(centreY + half));
  const cos = Math.cos(angle) / pixels;
  const sin = Math.sin(angle) / pixels;
  for (let j = top; j < bottom; j++) {
    const dy = j + 0.5 - centreY;
    for (let i = left; i < right; i++) {
      const dx = i + 0.5 - centreX;
      distance[j * width + i] = pixels * shape.distance(cos * dx + sin * dy, cos * dy - sin * dx);
    }
  }
}

/** The tones of a background as a middle colour and half of the way from the dark to the light one. */
export function backgroundRamp(scene: Scene): { middle: Rgb; half: Rgb } {
  const { dark, light } = backgroundTones(scene.background.color);
  const channels = [0, 1, 2] as const;
  const [r, g, b] = channels.map((c) => (dark[c] + light[c]) / 2);
  const [hr, hg, hb] = channels.map((c) => (light[c] - dark[c]) / 2);
  return { middle: [r!, g!, b!], half: [hr!, hg!, hb!] };
}

/** The world's own look: plain colours, sharp edges. */
export const flat: Style = {
  name: "flat",
  reach: 0,
  paint({ tone, distance }, scene, out) {
    const { middle, half } = backgroundRamp(scene);
    const color: Rgb = objectColors[scene.color];
    for (let i = 0; i < tone.length; i++) {
      const covered = coverage(distance[i]!);
      const t = tone[i]!;
      for (let c = 0; c < 3; c++) {
        const under = middle[c]! + half[c]! * t;
        out[3 * i + c] = under + (color[c]! - under) * covered;
      }
    }
  },
};

/** Paints every frame in turn into one buffer [height, width, 3] of sRGB 0 … 255, overwritten by the next frame. */
export function* paintFrames(scene: Scene, { width, height, frames }: ClipSize, style = flat): Generator<Float32Array> {
  const layers: Layers = {
    width,
    height,
    tone: new Float32Array(width * height),
    distance: new Float32Array(width * height),
  };
  const out = new Float32Array(width * height * 3);
  const pose = screenPath(scene, width / height);
  for (let frame = 0; frame < frames; frame++) {
    const time = frames > 1 ? frame / (frames - 1) : 0;
    if (frame === 0 || scene.camera !== "still") fillTone(layers.tone, scene, view(scene, time), width, height);
    fillDistance(layers, scene, pose(time), style.reach * height);
    style.paint(layers, scene, out, frame + 1000 * scene.phase);
    yield out;
  }
}

/** The whole clip as bytes. */
export function renderClip(scene: Scene, size: ClipSize, style = flat): Clip {
  const { width, height, frames } = size;
  const data = new Uint8ClampedArray(frames * height * width * 3);
  let offset = 0;
  for (const frame of paintFrames(scene, size, style)) {
    data.set(frame, offset);
    offset += frame.length;
  }
  return { width, height, frames, data: new Uint8Array(data.buffer) };
}
