// Colours of the world: the named palettes and OKLab, the perceptual space they are told apart in.

export type Rgb = readonly [number, number, number];
export type Lab = readonly [number, number, number];

/** What an object can be painted in: sRGB, 0–255. Vivid, and far from each other in OKLab. */
export const objectColors = {
  red: [222, 38, 44],
  orange: [250, 138, 22],
  yellow: [252, 224, 48],
  green: [52, 178, 74],
  blue: [38, 96, 232],
  purple: [160, 54, 196],
  pink: [252, 132, 196],
  white: [250, 250, 250],
} as const satisfies Record<string, Rgb>;

/** The middle tone of each background: softer than the objects, so that a red shape also stands out from a rosy wall. */
export const backgroundColors = {
  black: [30, 31, 36],
  gray: [134, 138, 146],
  white: [226, 226, 222],
  red: [146, 44, 48],
  brown: [140, 104, 62],
  green: [40, 100, 66],
  blue: [40, 78, 146],
  purple: [112, 54, 116],
} as const satisfies Record<string, Rgb>;

export type ObjectColor = keyof typeof objectColors;
export type BackgroundColor = keyof typeof backgroundColors;

export const objectColorNames = Object.keys(objectColors) as ObjectColor[];
export const backgroundColorNames = Object.keys(backgroundColors) as BackgroundColor[];

/** Half of the step in OKLab lightness between the two tones of a patterned background. */
const TONE_STEP = 0.065;

const linearOfByte = Float64Array.from({ length: 256 }, (_, i) => linear(i / 255));

function linear(value: number): number {
  return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
}

function gamma(value: number): number {
  const clamped = Math.min(1, Math.max(0, value));
  return clamped <= 0.0031308 ? clamped * 12.92 : 1.055 * clamped ** (1 / 2.4) - 0.055;
}

/** sRGB bytes to OKLab (Björn Ottosson, "A perceptual color space for image processing", 2020). */
export function labOfRgb(red: number, green: number, blue: number): Lab {
  const r = linearOfByte[Math.round(red)]!;
  const g = linearOfByte[Math.round(green)]!;
  const b = linearOfByte[Math.round(blue)]!;
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

/** OKLab to sRGB bytes, clipped to the gamut, not rounded. */
export function rgbOfLab([lightness, a, b]: Lab): Rgb {
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    255 * gamma(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
    255 * gamma(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
    255 * gamma(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
  ];
}

export function labDistance(a: Lab, b: Lab): number {
  return Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}

/** The dark and the light tone of a background: its colour, a step down and a step up in lightness. */
export function backgroundTones(name: BackgroundColor): { dark: Rgb; light: Rgb } {
  const [lightness, a, b] = labOfRgb(...(backgroundColors[name] as Rgb));
  return { dark: rgbOfLab([lightness - TONE_STEP, a, b]), light: rgbOfLab([lightness + TONE_STEP, a, b]) };
}

/** Least OKLab distance between an object and both tones of what it stands before. */
const LEAST_CONTRAST = 0.16;

/** Whether an object of this colour can be told from this background, and by name: red on red is not drawn. */
export function contrasts(object: ObjectColor, background: BackgroundColor): boolean {
  if ((object as string) === background) return false;
  const { dark, light } = backgroundTones(background);
  const color = labOfRgb(...(objectColors[object] as Rgb));
  return [dark, light].every((tone) => labDistance(color, labOfRgb(...tone)) > LEAST_CONTRAST);
}
