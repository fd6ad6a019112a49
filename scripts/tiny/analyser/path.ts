// Names the kind of motion from the object's poses in the world, frame by frame.
import type { Motion, Speed } from "../world/scene.ts";

/** The object's pose in one frame. Lengths in frame heights, y down; `angle` unwrapped, clockwise, in radians. */
export interface TrackedPose {
  /** In [0, 1] over the clip. */
  time: number;
  x: number;
  y: number;
  radius: number;
  angle: number;
}

/** Halfway between what the world shows and what it does not. */
const LEAST = { growth: 0.35, turn: 1.2, range: 0.09, straight: 0.8, round: 0.45 } as const;
/** Between a slow and a fast object's way, in heights. */
const FAST = 0.22;

/** A straight line through values over time: its rise over the clip, and the squares it leaves over and starts from. */
function lineFit(poses: readonly TrackedPose[], of: (pose: TrackedPose) => number) {
  const count = poses.length;
  const meanTime = poses.reduce((sum, { time }) => sum + time, 0) / count;
  const mean = poses.reduce((sum, pose) => sum + of(pose), 0) / count;
  let cross = 0;
  let times = 0;
  let total = 0;
  for (const pose of poses) {
    cross += (pose.time - meanTime) * (of(pose) - mean);
    times += (pose.time - meanTime) ** 2;
    total += (of(pose) - mean) ** 2;
  }
  const rise = times > 0 ? cross / times : 0;
  return { rise, total, left: total - rise * cross };
}

const range = (values: readonly number[]): number => Math.max(...values) - Math.min(...values);

/** Undefined where the path is none the world knows, such as swinging from side to side. */
export function motionOf(poses: readonly TrackedPose[]): {
  value: Motion | undefined;
  confidence: number;
  speed?: Speed;
} {
  const growth = lineFit(poses, ({ radius }) => Math.log(radius)).rise;
  if (Math.abs(growth) > LEAST.growth)
    return { value: growth > 0 ? "grow" : "shrink", confidence: Math.min(1, Math.abs(growth) / LEAST.growth - 1) };
  const rangeX = range(poses.map(({ x }) => x));
  const rangeY = range(poses.map(({ y }) => y));
  const most = Math.max(rangeX, rangeY);
  if (most < LEAST.range) {
    const turn = Math.abs(lineFit(poses, ({ angle }) => angle).rise) / LEAST.turn;
    return { value: turn > 1 ? "spin" : "still", confidence: Math.min(1, Math.abs(turn - 1), 1 - most / LEAST.range) };
  }
  const x = lineFit(poses, (pose) => pose.x);
  const y = lineFit(poses, (pose) => pose.y);
  const straight = 1 - (x.left + y.left) / (x.total + y.total);
  if (straight > LEAST.straight) {
    const sideways = Math.abs(x.rise) > Math.abs(y.rise);
    const value = sideways ? (x.rise > 0 ? "right" : "left") : y.rise > 0 ? "down" : "up";
    const [long, short] = sideways ? [x.rise, y.rise] : [y.rise, x.rise];
    return {
      value,
      confidence: Math.max(0, 1 - Math.abs(short / long)) * straight,
      speed: Math.abs(long) > FAST ? "fast" : "slow",
    };
  }
  const round = Math.min(rangeX, rangeY) / most;
  if (round > LEAST.round) return { value: "orbit", confidence: Math.min(1, round) };
  return rangeY > rangeX ? { value: "bounce", confidence: 1 - round } : { value: undefined, confidence: 0 };
}
