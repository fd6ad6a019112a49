// Where the object and the camera of a scene are at a moment. Lengths in frame heights, origin in the frame's middle,
// y down; time in clip lengths, so that a clip of any frame count and rate shows the whole of what its caption says.
import type { Scene } from "./scene.ts";
import { shapes } from "./shapes.ts";

const RADIUS = { small: 0.155, large: 0.225 } as const;
/** The radii between which an object grows or shrinks. */
const GROWTH = { from: 0.11, to: 0.25 } as const;
const DISTANCE = { slow: 0.15, fast: 0.32 } as const;
const BOUNCE_HEIGHT = 0.3;
const BOUNCES = 2;
const ORBIT_RADIUS = 0.16;
/** Turns of a spinning object in a clip, clockwise. */
const SPIN = 0.5;
const PAN = 0.3;
const ZOOM = { far: 0.85, near: 1.2 } as const;
/** What stays free between the object and the frame's border. */
const MARGIN = 0.02;

export interface Pose {
  x: number;
  y: number;
  radius: number;
  /** Clockwise, in radians. */
  angle: number;
}

/** What the camera looks at, and how much it magnifies. */
export interface View {
  x: number;
  zoom: number;
}

function steps(scene: Scene): readonly [number, number] {
  const distance = DISTANCE[scene.speed ?? "fast"];
  switch (scene.motion) {
    case "left":
      return [-distance, 0];
    case "right":
      return [distance, 0];
    case "up":
      return [0, -distance];
    case "down":
      return [0, distance];
    default:
      return [0, 0];
  }
}

/** The object's pose in the world at a time in [0, 1], with its path's reference point at the origin. */
function path(scene: Scene, time: number): Pose {
  const pose: Pose = { x: 0, y: 0, radius: RADIUS[scene.size ?? "large"] * scene.scale, angle: 0 };
  const [dx, dy] = steps(scene);
  pose.x = dx * time;
  pose.y = dy * time;
  switch (scene.motion) {
    case "bounce":
      // A thrown ball: parabolas between its landings.
      pose.y = -BOUNCE_HEIGHT * (1 - (2 * ((BOUNCES * time) % 1) - 1) ** 2);
      break;
    case "orbit":
      pose.x = ORBIT_RADIUS * Math.cos(2 * Math.PI * (scene.phase + time));
      pose.y = ORBIT_RADIUS * Math.sin(2 * Math.PI * (scene.phase + time));
      break;
    case "spin":
      pose.angle = 2 * Math.PI * SPIN * time;
      break;
    case "grow":
    case "shrink": {
      const grown = scene.motion === "grow" ? time : 1 - time;
      pose.radius = (GROWTH.from + (GROWTH.to - GROWTH.from) * grown) * scene.scale;
      break;
    }
  }
  return pose;
}

export function view(scene: Scene, time: number): View {
  switch (scene.camera) {
    case "pan-left":
      return { x: PAN * (0.5 - time), zoom: 1 };
    case "pan-right":
      return { x: PAN * (time - 0.5), zoom: 1 };
    case "zoom-in":
      return { x: 0, zoom: ZOOM.far + (ZOOM.near - ZOOM.far) * time };
    case "zoom-out":
      return { x: 0, zoom: ZOOM.near + (ZOOM.far - ZOOM.near) * time };
    case "still":
      return { x: 0, zoom: 1 };
  }
}

/** The places of the path's reference point that keep the object in a frame of this aspect ratio all the time. */
function freeRoom(scene: Scene, aspect: number): { left: number; right: number; top: number; bottom: number } {
  const room = { left: -Infinity, right: Infinity, top: -Infinity, bottom: Infinity };
  const SAMPLES = 32;
  for (let i = 0; i <= SAMPLES; i++) {
    const time = i / SAMPLES;
    const { x, y, radius } = path(scene, time);
    const { x: viewX, zoom } = view(scene, time);
    const reach = radius * shapes[scene.shape].reach;
    const halfWidth = (aspect / 2 - MARGIN) / zoom - reach;
    const halfHeight = (0.5 - MARGIN) / zoom - reach;
    room.left = Math.max(room.left, viewX - halfWidth - x);
    room.right = Math.min(room.right, viewX + halfWidth - x);
    room.top = Math.max(room.top, -halfHeight - y);
    room.bottom = Math.min(room.bottom, halfHeight - y);
  }
  return room;
}

/** The object's pose on the screen at a time, for frames of an aspect ratio (width by height). */
export function screenPath(scene: Scene, aspect: number): (time: number) => Pose {
  const { left, right, top, bottom } = freeRoom(scene, aspect);
  const x0 = left + (right - left) * scene.place.across;
  const y0 = top + (bottom - top) * scene.place.down;
  return (time) => {
    const { x, y, radius, angle } = path(scene, time);
    const { x: viewX, zoom } = view(scene, time);
    return { x: (x0 + x - viewX) * zoom, y: (y0 + y) * zoom, radius: radius * zoom, angle };
  };
}
