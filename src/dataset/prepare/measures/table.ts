// All measures that are taken frame by frame, in the order of reports.
import type { MeasureName } from "../../../protocol/prepare-config.ts";
import { blockiness } from "./blockiness.ts";
import { brightness, brightnessChange } from "./brightness.ts";
import { flicker } from "./flicker.ts";
import type { Measure } from "./measure.ts";
import { motion } from "./motion.ts";
import { motionBlur } from "./motion-blur.ts";
import { noise } from "./noise.ts";
import { overlay } from "./overlay.ts";
import { resolution } from "./resolution.ts";
import { shake } from "./shake.ts";
import { sharpness } from "./sharpness.ts";

export const measures: Readonly<Record<MeasureName, Measure>> = {
  sharpness,
  motion_blur: motionBlur,
  shake,
  motion,
  brightness,
  brightness_change: brightnessChange,
  flicker,
  blockiness,
  noise,
  overlay,
  resolution,
};
