// Opens a device by name, or the fastest that this machine has. Which one, and why not a faster one, is said.
import { isKinoraError, KinoraError } from "../base/errors.ts";
import { createCpuDevice } from "./cpu/cpu-device.ts";
import type { Device, DeviceName } from "./device.ts";
import { createNullDevice } from "./null/null-device.ts";
import { createReferenceDevice } from "./reference/reference-device.ts";

export interface OpenedDevice {
  readonly device: Device;
  /** Why a faster device was not taken, for a warning and for `kinora doctor`. */
  readonly note?: string;
}

const creators: { readonly [K in DeviceName]?: () => Device } = {
  cpu: createCpuDevice,
  reference: createReferenceDevice,
  null: createNullDevice,
};

/** The fastest first. The null device computes nothing and is only opened by name. */
const automatic: readonly DeviceName[] = ["cpu", "reference"];

/** One device by name. Throws `device.unavailable` where it is not in this build, or what its library says. */
function create(name: DeviceName): Device {
  const creator = creators[name];
  if (creator) return creator();
  throw new KinoraError("device.unavailable", `there is no ${name} device in this version`, {
    expected: ["auto", ...automatic].join(", "),
    hint: "kinora doctor says which devices this machine has",
  });
}

/** `auto` takes the fastest device that opens. A device asked for by name opens or throws. */
export function openDevice(choice: DeviceName | "auto"): OpenedDevice {
  if (choice !== "auto") return { device: create(choice) };
  const notes: string[] = [];
  for (const name of automatic) {
    try {
      const device = create(name);
      return notes.length > 0 ? { device, note: notes.join("; ") } : { device };
    } catch (error) {
      if (!isKinoraError(error)) throw error;
      notes.push(`no ${name} device: ${error.message}${error.hint ? ` (${error.hint})` : ""}`);
    }
  }
  throw new KinoraError("device.unavailable", "no device could be opened", { actual: notes.join("; ") });
}
