// A device as a row: what it is called, whether this machine has it, how it opens, what plans assume of it.
// Adding one: docs/extending.md.
import type { Device } from "./device.ts";
import type { MemoryModel } from "./memory-model.ts";

/** What a device found on this machine. */
export type DeviceFinding =
  | { usable: true /** e.g. `oneDNN 3.8.1, /usr/lib/libdnnl.so.3`. */; what: string }
  | {
      usable: false;
      why: string;
      /** What to do about it. */
      hint?: string;
      /** This machine has nothing of the kind, so that nobody expects it. */
      absent?: boolean;
    };

/** A device as a row of the table: how to find it, open it, and what it is good for. */
export interface DeviceDescriptor {
  readonly name: string;
  /** What it is, in one line, for help texts. */
  readonly help: string;
  /** `auto` may take it; a device that only counts, or that would surprise (a software GPU), is opened by name alone. */
  readonly automatic: boolean;
  /** Said whenever `auto` takes it: what a user should know before relying on it. */
  readonly caution?: string;
  /** Looks whether it can be opened here, without taking memory on it. */
  probe(): Promise<DeviceFinding>;
  /** There may be several of it, which `NAME:UNIT` tells apart. */
  readonly units?: true;
  /** `unit`: which of several, as the user named it (`cuda:1`). Throws `device.*` where it cannot be opened. */
  open(unit?: string): Promise<Device>;
  readonly memoryModel: MemoryModel;
  /** Sides of a matrix product and lengths of a vector that take it milliseconds: what its speed is measured on. */
  readonly speedSizes: { readonly product: number; readonly vector: number };
}
