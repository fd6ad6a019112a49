// Where the time of a run goes, kernel by kernel: a device whose kernels are timed.
import type { Device } from "../src/device/device.ts";
import type { Kernels } from "../src/device/kernels.ts";

export interface KernelTime {
  kernel: string;
  calls: number;
  seconds: number;
}

export interface ProfiledDevice {
  device: Device;
  /** Time since the last call, most first; `rest` of `total` seconds is what no kernel took. */
  take(): KernelTime[];
}

/** The same device with its kernels timed. Use only the returned one: tensors belong to the device they were made on. */
export function profiled(device: Device): ProfiledDevice {
  const times = new Map<string, KernelTime>();
  const kernels = Object.fromEntries(
    Object.entries(device.kernels).map(([kernel, run]) => [
      kernel,
      (...args: unknown[]) => {
        const started = performance.now();
        const result = (run as (...args: unknown[]) => unknown)(...args);
        const entry = times.get(kernel) ?? { kernel, calls: 0, seconds: 0 };
        entry.calls++;
        entry.seconds += (performance.now() - started) / 1000;
        times.set(kernel, entry);
        return result;
      },
    ]),
  ) as unknown as Kernels;
  const timed = Object.create(device, { kernels: { value: kernels } }) as Device;
  return {
    device: timed,
    take() {
      const entries = [...times.values()].sort((a, b) => b.seconds - a.seconds);
      times.clear();
      return entries;
    },
  };
}

/** `matmul 41 % (1.2 s, 300 calls), …`: what dominates. */
export function dominating(times: readonly KernelTime[], most = 6): string {
  const total = times.reduce((sum, { seconds }) => sum + seconds, 0);
  return times
    .slice(0, most)
    .map(
      ({ kernel, calls, seconds }) =>
        `${kernel} ${Math.round((100 * seconds) / total)} % (${seconds.toFixed(2)} s, ${calls} calls)`,
    )
    .join(", ");
}
