// How fast a device is, in three numbers, measured in about a second: for estimates of time, never for benchmarks.
import { bytesOf } from "../base/dtype.ts";
import type { DeviceDescriptor } from "./descriptor.ts";
import type { Device } from "./device.ts";

export interface DeviceSpeed {
  /** Of large products: multiply-adds count two. */
  flopsPerSecond: number;
  /** Of kernels that only move: read and written. */
  bytesPerSecond: number;
  /** Of the smallest kernel call. */
  secondsPerCall: number;
}

/** Runs `work` until `budget` seconds have passed, at least twice after a warm-up; the shortest time in seconds. */
export async function fastest(device: Device, budget: number, work: () => unknown): Promise<number> {
  await work();
  await device.synchronize();
  let best = Number.POSITIVE_INFINITY;
  const begin = performance.now();
  for (let i = 0; i < 2 || performance.now() - begin < budget * 1000; i++) {
    const start = performance.now();
    await work();
    await device.synchronize();
    best = Math.min(best, (performance.now() - start) / 1000);
  }
  return best;
}

/** `dtype`: what the products run in; `sizes`: of the device's descriptor. */
export async function measureSpeed(
  device: Device,
  dtype: "f32" | "bf16",
  { product: side, vector: count }: DeviceDescriptor["speedSizes"],
): Promise<DeviceSpeed> {
  const matrix = () => ({
    block: device.alloc(side * side * bytesOf(dtype), "workspace"),
    offset: 0,
    dtype,
    shape: [side, side],
  });
  const [a, b, c] = [matrix(), matrix(), matrix()];
  const vector = () => ({
    block: device.alloc(count * 4, "workspace"),
    offset: 0,
    dtype: "f32" as const,
    shape: [count],
  });
  const [x, y] = [vector(), vector()];
  const small = { ...x, shape: [64] };
  try {
    const { kernels } = device;
    for (const operand of [a, b]) kernels.fill(operand, 0.5);
    kernels.fill(x, 0.5);
    const multiply = await fastest(device, 0.3, () => kernels.matmul(a, b, c));
    const move = await fastest(device, 0.2, () => kernels.affine(x, 1.5, undefined, 0, y));
    const call = await fastest(device, 0.05, () => {
      for (let i = 0; i < 50; i++) kernels.affine(small, 1, undefined, 0, small);
    });
    return {
      flopsPerSecond: (2 * side ** 3) / multiply,
      bytesPerSecond: (8 * count) / move,
      secondsPerCall: call / 50,
    };
  } finally {
    for (const { block } of [a, b, c, x, y]) device.free(block);
  }
}

/** Seconds that counted work takes at a speed. */
export function secondsOf(
  { flops, moved, calls }: { flops: number; moved: number; calls: number },
  { flopsPerSecond, bytesPerSecond, secondsPerCall }: DeviceSpeed,
): number {
  return flops / flopsPerSecond + moved / bytesPerSecond + calls * secondsPerCall;
}
