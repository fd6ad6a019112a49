// Measures what a clip shows, by classical means and without knowing what it should show.
import {
  type BackgroundColor,
  backgroundColors,
  type Lab,
  labDistance,
  labOfRgb,
  type ObjectColor,
  objectColors,
  type Rgb,
} from "../world/color.ts";
import type { Clip } from "../world/render.ts";
import type { Camera, Motion, Pattern, Size, Speed } from "../world/scene.ts";
import { type ShapeName, shapes } from "../world/shapes.ts";
import { backdrops, cameraOf, patternOf } from "./backdrop.ts";
import { motionOf, type TrackedPose } from "./path.ts";
import { bytesOf, type SegmentedClip, segment } from "./segment.ts";
import { fitShapes, rankShapes, unitAreas } from "./shape.ts";

/** A measured attribute; `value` is undefined where it could not be made out. Confidence 0 … 1, comparable within one attribute. */
export interface Reading<T> {
  value: T | undefined;
  confidence: number;
}

export interface Analysis {
  color: Reading<ObjectColor>;
  shape: Reading<ShapeName>;
  motion: Reading<Motion>;
  backgroundColor: Reading<BackgroundColor>;
  pattern: Reading<Pattern>;
  camera: Reading<Camera>;
  size: Reading<Size>;
  speed: Reading<Speed>;
  style: Reading<"flat" | "neon">;
  /** The share of frames an object was found in. */
  seen: number;
}

const nothing = { value: undefined, confidence: 0 } as const;

/** Between a small and a large object's radius, in heights. */
const LARGE = 0.187;

/** The nearest name; surer the farther the second is. */
function nearest<N extends string>(color: Lab, named: Readonly<Record<N, Rgb>>): Reading<N> {
  const ranked = (Object.keys(named) as N[])
    .map((name) => ({ name, distance: labDistance(color, labOfRgb(...(named[name] as Rgb))) }))
    .sort((a, b) => a.distance - b.distance);
  const [first, second] = ranked;
  return { value: first!.name, confidence: 1 - first!.distance / second!.distance };
}

/** Where a halo is looked for and where the wall beyond it, in heights from the object's edge; by how much it is brighter. */
const BANDS = { halo: { from: 0.045, to: 0.1 }, wall: { from: 0.18, to: 0.24 } } as const;
const LEAST_HALO = 0.03;

/** How much more than the wall the halo's band differs from the background: 0.05 … 0.2 in neon, under 0.01 without. */
function haloStrength({ sightings, difference }: SegmentedClip, { width, height }: Clip): number {
  const halo = { sum: 0, count: 1e-9 };
  const wall = { sum: 0, count: 1e-9 };
  for (const [f, sighting] of sightings.entries()) {
    if (!sighting) continue;
    const inside: number[] = [];
    for (let i = 0; i < sighting.mask.length; i++) if (sighting.mask[i]! > 0) inside.push(i);
    // Squared distance to the object's pixels, counted out over the band's reach from each of them.
    const reach = Math.ceil(BANDS.wall.to * height);
    const squared = new Float32Array(width * height).fill(Infinity);
    for (const i of inside) {
      const x = i % width;
      const y = Math.floor(i / width);
      for (let ny = Math.max(0, y - reach); ny <= Math.min(height - 1, y + reach); ny++)
        for (let nx = Math.max(0, x - reach); nx <= Math.min(width - 1, x + reach); nx++) {
          const d = (nx - x) ** 2 + (ny - y) ** 2;
          if (d < squared[ny * width + nx]!) squared[ny * width + nx] = d;
        }
    }
    for (let i = 0; i < squared.length; i++) {
      const d = Math.sqrt(squared[i]!) / height;
      const band =
        d >= BANDS.halo.from && d <= BANDS.halo.to
          ? halo
          : d >= BANDS.wall.from && d <= BANDS.wall.to
            ? wall
            : undefined;
      if (!band) continue;
      band.sum += difference[f * width * height + i]!;
      band.count++;
    }
  }
  return halo.sum / halo.count - wall.sum / wall.count;
}

/** Neon needs both of its marks: an indigo night, and a halo. */
function styleOf(found: SegmentedClip, clip: Clip): Analysis["style"] {
  if (!found.night) return { value: "flat", confidence: 1 };
  const halo = haloStrength(found, clip) / LEAST_HALO - 1;
  return { value: halo > 0 ? "neon" : "flat", confidence: Math.min(1, Math.abs(halo)) };
}

/** The angle brought within half a turn's symmetry of the one before it. */
function unwrap(angle: number, before: number, symmetry: number): number {
  const period = (2 * Math.PI) / symmetry;
  return angle + period * Math.round((before - angle) / period);
}

/** Measures a clip of at least two frames. */
export function analyse(clip: Clip): Analysis {
  const { width, height, frames } = clip;
  const found = segment(clip);
  const wall = labOfRgb(...bytesOf(found.background.middle));
  const scenery = backdrops(found, clip);
  const pattern = patternOf(scenery, clip);
  const camera = cameraOf(scenery, pattern.value, clip);
  const seenFrames = found.sightings.flatMap((sighting, frame) => (sighting ? [{ frame, sighting }] : []));
  const background = {
    backgroundColor: nearest(wall, backgroundColors),
    pattern,
    camera: { value: camera.value, confidence: camera.confidence },
    seen: seenFrames.length / frames,
  };
  if (!found.color || seenFrames.length < Math.max(2, frames / 2))
    return {
      ...background,
      color: nothing,
      shape: nothing,
      motion: nothing,
      size: nothing,
      speed: nothing,
      style: { value: "flat", confidence: 0 },
    };

  const fitted = seenFrames.map(({ sighting }) => ({
    fits: fitShapes(sighting, width, height, found.night),
    area: sighting.area,
  }));
  const ranked = rankShapes(fitted);
  const shape = ranked[0]!.name;
  const { symmetry } = shapes[shape];
  const poses: TrackedPose[] = [];
  for (const [i, { frame, sighting }] of seenFrames.entries()) {
    const zoom = camera.path.zoom[frame]!;
    poses.push({
      time: frames > 1 ? frame / (frames - 1) : 0,
      x: sighting.x / zoom + camera.path.x[frame]!,
      y: sighting.y / zoom,
      radius: Math.sqrt(sighting.area / unitAreas[shape]) / zoom,
      angle: symmetry === 0 ? 0 : unwrap(fitted[i]!.fits[shape].angle, poses.at(-1)?.angle ?? 0, symmetry),
    });
  }
  const { speed, ...motion } = motionOf(poses);
  const onScreen = seenFrames.reduce((sum, { sighting }) => sum + Math.sqrt(sighting.area / unitAreas[shape]), 0);
  const radius = onScreen / seenFrames.length;
  return {
    ...background,
    color: nearest(labOfRgb(...found.color), objectColors),
    shape: { value: shape, confidence: ranked[0]!.fit - ranked[1]!.fit },
    motion,
    size: {
      value: radius > LARGE ? "large" : "small",
      confidence: Math.min(1, Math.abs(Math.log(radius / LARGE)) / 0.18),
    },
    speed: speed ? { value: speed, confidence: motion.confidence } : nothing,
    style: styleOf(found, clip),
  };
}
