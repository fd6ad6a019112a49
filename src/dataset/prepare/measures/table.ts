// All measures that are taken frame by frame, in the order of reports.
import type { MeasureName } from "../../../protocol/prepare-config.ts";
import { banding } from "./banding.ts";
import { blockiness } from "./blockiness.ts";
import { brightness, brightnessChange } from "./brightness.ts";
import { colorCast, saturation } from "./color.ts";
import { combing } from "./combing.ts";
import { compression } from "./compression.ts";
import { clipping, contrast } from "./exposure.ts";
import { flicker } from "./flicker.ts";
import { ghosting } from "./ghosting.ts";
import { jumps } from "./jumps.ts";
import type { Measure } from "./measure.ts";
import { motion } from "./motion.ts";
import { motionBlur } from "./motion-blur.ts";
import { colorNoise, noise } from "./noise.ts";
import { overlay } from "./overlay.ts";
import { quantizer } from "./quantizer.ts";
import { repeats } from "./repeats.ts";
import { resolution } from "./resolution.ts";
import { shake } from "./shake.ts";
import { sharpness } from "./sharpness.ts";

export const measures: Readonly<Record<MeasureName, Measure>> = {
  sharpness,
  motion_blur: motionBlur,
  shake,
  motion,
  repeats,
  jumps,
  ghosting,
  brightness,
  brightness_change: brightnessChange,
  contrast,
  clipping,
  flicker,
  color_cast: colorCast,
  saturation,
  quantizer,
  compression,
  blockiness,
  banding,
  combing,
  noise,
  color_noise: colorNoise,
  overlay,
  resolution,
};
