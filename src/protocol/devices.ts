// The devices by name, for configurations and the command line. What each is and how it opens: device/devices.ts.
import { z } from "zod";

/** Devices that compute, the fastest first: `auto` takes the first that opens. */
export const computingDevices = ["cuda", "cpu", "reference"] as const;

/** With the device that only counts, for plans. */
export const deviceNames = [...computingDevices, "null"] as const;
/** The name of a device. */
export type DeviceName = (typeof deviceNames)[number];

/** What a run can ask for. */
export const deviceChoices = ["auto", ...computingDevices] as const;

/** Of several GPUs, which: `cuda:1`. */
const numbered = /^cuda:\d+$/;

/** What a configuration may name as its device. */
export const deviceChoice = z
  .string()
  .refine((choice) => numbered.test(choice) || deviceChoices.some((one) => one === choice), {
    error: `must be one of ${deviceChoices.join(", ")}, or cuda:NUMBER for one of several GPUs`,
  });
/** A device by its name, or `auto`; of several cards, `cuda:NUMBER`. */
export type DeviceChoice = z.infer<typeof deviceChoice>;
