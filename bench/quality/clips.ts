// Clean clips to spoil: each film and picture of the media folder whole, in crops and under a moving virtual camera, and
// in styles that measures might take for faults. Nothing is copied: all is made from the folder when the bench runs.
import { existsSync } from "node:fs";
import { join } from "node:path";

/** Thresholds are chosen on the clips of one half of the sources and reported for the other. */
export type Half = "chosen" | "checked";

export interface CleanClip {
  name: string;
  half: Half;
  style: Style;
  /** Whether each fault is put on it; the others only show what clean clips give. */
  spoiled: boolean;
  /** Arguments before and after `-vf`'s chain. */
  input: readonly string[];
  filters: string;
}

interface Framing {
  name: string;
  filters: string;
  spoiled?: boolean;
}

interface Source {
  file: string;
  half: Half;
  framings: readonly Framing[];
}

/** A crop of `w`×`h` that wanders: `x` and `y` in pixels at frame n. */
const wander = (w: number, h: number, x: string, y: string) => `crop=${w}:${h}:x='${x}':y='${y}'`;
const press: readonly Framing[] = [
  { name: "whole", filters: "null", spoiled: true },
  { name: "left", filters: "crop=640:368:40:90" },
  { name: "pan", filters: wander(672, 384, "20+1.6*n", "60"), spoiled: true },
  { name: "rise", filters: `${wander(704, 400, "80", "80-0.6*n")},hflip` },
];

const sources: readonly Source[] = [
  { file: "press-clay.mp4", half: "chosen", framings: press },
  { file: "press-candy.mp4", half: "checked", framings: press },
  { file: "press-cookies.mp4", half: "checked", framings: press.map(({ name, filters }) => ({ name, filters })) },
  {
    file: "animated-market.mp4",
    half: "chosen",
    framings: [
      { name: "whole", filters: "null", spoiled: true },
      { name: "crop", filters: "crop=832:480:380:120", spoiled: true },
      { name: "left", filters: "crop=832:480:20:180" },
      { name: "pan", filters: wander(832, 480, "3*n", "140") },
    ],
  },
  {
    file: "dog-snow.mp4",
    half: "checked",
    framings: [
      { name: "whole", filters: "scale=1248:712:flags=area", spoiled: true },
      { name: "crop", filters: "crop=960:544:300:200", spoiled: true },
      { name: "rocks", filters: "crop=832:480:60:20" },
      { name: "pan", filters: wander(960, 544, "40+4*n", "300") },
    ],
  },
  {
    file: "motorcycle-4k.mp4",
    half: "chosen",
    framings: [
      { name: "whole", filters: "scale=1280:720:flags=area" },
      { name: "left", filters: "crop=2432:1392:0:700,scale=1216:696:flags=area", spoiled: true },
      { name: "road", filters: "crop=1920:1088:960:800,scale=960:544:flags=area", spoiled: true },
      { name: "right", filters: "crop=2432:1392:1400:500,scale=1216:696:flags=area" },
    ],
  },
  {
    file: "cat-surfboard.jpg",
    half: "checked",
    framings: [
      { name: "drift", filters: wander(832, 480, "0", "40+2*n"), spoiled: true },
      {
        name: "push",
        filters: "scale=1248:-2,zoompan=z='1+0.004*in':x='iw/2-iw/zoom/2':y='ih/3-ih/zoom/3':d=1:s=832x480:fps=24",
      },
    ],
  },
  {
    file: "portrait.jpeg",
    half: "chosen",
    framings: [
      { name: "drift", filters: wander(832, 480, "60+3*n", "30+n"), spoiled: true },
      {
        name: "push",
        filters: "scale=2560:-2,zoompan=z='1.2+0.004*in':x='iw/2-iw/zoom/2':y='ih/3-ih/zoom/3':d=1:s=832x480:fps=24",
      },
    ],
  },
];

/** Clean looks. Strengths are for the clip's own size, given as a factor of 832 pixels across. */
const styles = {
  plain: () => "null",
  // Grain that is coarser than a pixel, stronger in the mid-tones than in the lights, as film has it.
  grain: (w: number) =>
    `noise=c0s=${Math.round(9 * Math.max(1, w / 832))}:c0f=t,gblur=sigma=${(0.45 * w) / 832}:planes=1`,
  night: () => "curves=all='0/0 0.35/0.08 0.7/0.3 1/0.75',eq=saturation=0.8,noise=c0s=3:c0f=t",
  // The middle is sharp, the rest as far out of focus as an open lens puts it.
  shallow: (w: number) =>
    `split[a][b];[b]gblur=sigma=${(7 * w) / 832}[c];[a][c]blend=all_expr='A+(B-A)*clip(4*(hypot(X/W-0.5,0.7*(Y/H-0.5))-0.2),0,1)'`,
  // Flat areas with hard outlines.
  drawn: () => "median=radius=4,lutyuv=y='16+round((val-16)/3)*3',unsharp=5:5:0.8",
  soft_light: () => "eq=contrast=0.7:brightness=0.08:saturation=0.7",
} as const;
export type Style = keyof typeof styles;
export const styleNames = Object.keys(styles) as Style[];

/** Seconds of each clip. */
export const clipSeconds = 2.5;

/** All clean clips that can be made from `folder`. */
export function cleanClips(folder: string): CleanClip[] {
  const clips: CleanClip[] = [];
  for (const { file, half, framings } of sources) {
    const path = join(folder, file);
    if (!existsSync(path)) continue;
    const picture = !file.endsWith(".mp4");
    const input = picture ? ["-loop", "1", "-framerate", "24", "-t", String(clipSeconds), "-i", path] : ["-i", path];
    for (const framing of framings)
      for (const style of styleNames) {
        // Every style on the framings that are spoiled too, two of them on each other one.
        if (!framing.spoiled && style !== "plain" && style !== "grain") continue;
        const width = widthOf(file, framing);
        const name = [file.replace(/\..*/, ""), framing.name, ...(style === "plain" ? [] : [style])].join("-");
        clips.push({
          name,
          half,
          style,
          spoiled: framing.spoiled === true && style === "plain",
          input,
          filters: `${framing.filters},${styles[style](width)},format=yuv420p`,
        });
      }
  }
  return clips;
}

/** Width of the framed picture, pixels. */
export function widthOf(file: string, { filters }: Framing): number {
  const cut = /(?:scale=|s=|crop=)(\d+)[:x]/g;
  const last = [...filters.matchAll(cut)].at(-1)?.[1];
  const whole: Readonly<Record<string, number>> = { "animated-market.mp4": 1280 };
  return last ? Number(last) : (whole[file] ?? 832);
}
