// The devices by name, for configurations and the command line. What each is and how it opens: device/devices.ts.

/** Devices that compute, the fastest first: `auto` takes the first that opens. */
export const computingDevices = ["cpu", "reference"] as const;

/** With the device that only counts, for plans. */
export const deviceNames = [...computingDevices, "null"] as const;
/** The name of a device. */
export type DeviceName = (typeof deviceNames)[number];

/** What a run can ask for. */
export const deviceChoices = ["auto", ...computingDevices] as const;
/** A device by its name, or `auto`. */
export type DeviceChoice = (typeof deviceChoices)[number];
