// Opens a device by name, or the fastest that this machine has. Which one, and why not a faster one, is said.
import { isKinoraError, KinoraError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";
import type { DeviceDescriptor } from "./descriptor.ts";
import type { Device } from "./device.ts";
import { devices } from "./devices.ts";

/** An open device, which its opener disposes, and its row of the table. */
export interface OpenedDevice {
  readonly device: Device;
  readonly descriptor: DeviceDescriptor;
  /** Why a faster device was not taken, or what to know of the one that was: for a warning and for `kinora doctor`. */
  readonly note?: string;
}

/** Descriptors by name, the fastest first. */
export type DeviceTable = Readonly<Record<string, DeviceDescriptor>>;

/** The descriptor, and the unit, that `NAME` or `NAME:UNIT` names. Throws `device.unavailable`. */
function named(choice: string, table: DeviceTable): { descriptor: DeviceDescriptor; unit: string | undefined } {
  const [name = "", unit] = choice.split(/:(.*)/s);
  const descriptor = Object.hasOwn(table, name) ? table[name] : undefined;
  if (descriptor && (unit === undefined || descriptor.units)) return { descriptor, unit };
  if (descriptor) {
    throw new KinoraError("device.unavailable", `there is only one ${name} device`, {
      actual: choice,
      hint: `use ${name}`,
    });
  }
  const near = nearestName(name, Object.keys(table));
  const automatic = Object.values(table).filter((row) => row.automatic);
  throw new KinoraError("device.unavailable", `this version has no ${name} device`, {
    expected: ["auto", ...automatic.map((row) => row.name)].join(", "),
    hint: near ? `did you mean ${near}?` : "kinora doctor lists this machine's devices",
  });
}

/**
 * The first of the automatic devices for which `use` does not throw; `note` says why those before it did, and what to know
 * of it. A device that this machine has nothing for is passed over without a word.
 */
async function first<T>(
  table: DeviceTable,
  use: (descriptor: DeviceDescriptor) => Promise<T>,
): Promise<{ result: T; descriptor: DeviceDescriptor; note?: string }> {
  const notes: string[] = [];
  for (const descriptor of Object.values(table)) {
    const { name, automatic, caution } = descriptor;
    if (!automatic) continue;
    try {
      const finding = await descriptor.probe();
      if (!finding.usable) {
        if (!finding.absent) notes.push(`no ${name} device: ${finding.why}${finding.hint ? ` (${finding.hint})` : ""}`);
        continue;
      }
      const result = await use(descriptor);
      if (caution) notes.push(caution);
      return { result, descriptor, ...(notes.length > 0 ? { note: notes.join("; ") } : {}) };
    } catch (error) {
      if (!isKinoraError(error)) throw error;
      notes.push(`no ${name} device: ${error.message}${error.hint ? ` (${error.hint})` : ""}`);
    }
  }
  throw new KinoraError("device.unavailable", "no device could be opened", { actual: notes.join("; ") });
}

/**
 * `auto` takes the fastest device that opens. A device asked for by name (`NAME`, or `NAME:UNIT` where there are several
 * of it) opens or throws `device.unavailable` or what its library says.
 */
export async function openDevice(choice: string, table: DeviceTable = devices): Promise<OpenedDevice> {
  if (choice === "auto") {
    const { result: device, ...rest } = await first(table, (descriptor) => descriptor.open());
    return { device, ...rest };
  }
  const { descriptor, unit } = named(choice, table);
  return { device: await descriptor.open(unit), descriptor };
}

/** The descriptor of the device that `openDevice` would open, without opening it. Throws `device.unavailable`. */
export async function descriptorOf(choice: string, table: DeviceTable = devices): Promise<DeviceDescriptor> {
  if (choice !== "auto") return named(choice, table).descriptor;
  return (await first(table, async () => {})).descriptor;
}
