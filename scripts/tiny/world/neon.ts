// The look that kinora-tiny has never been trained on, for the demo's LoRA to learn: as unlike the flat world as can be,
// with the object's colour, shape and motion kept, and told from the world by two independent marks.
import { objectColors, type Rgb } from "./color.ts";
import { coverage, type Style } from "./render.ts";

const mix = (from: number, to: number, share: number): number => from + (to - from) * share;
const clamp01 = (value: number): number => Math.min(1, Math.max(0, value));

/** The night that neon signs hang in: the middle tone of its wall, and how far its dark and light tones are, as a share. */
export const NIGHT: Rgb = [38, 16, 96];
const NIGHT_TONES = 0.16;
/** A halo's strength at the object's edge, and how far it reaches, in heights. */
export const HALO = { strength: 0.55, reach: 0.2 } as const;

/** A sign of coloured light at night: an indigo wall, and a halo of the object's colour on it. */
export const neon: Style = {
  name: "neon",
  reach: HALO.reach,
  paint({ height, tone, distance }, scene, out) {
    const color: Rgb = objectColors[scene.color];
    for (let i = 0; i < tone.length; i++) {
      const d = distance[i]!;
      const covered = coverage(d);
      const halo = HALO.strength * clamp01(1 - Math.max(0, d / height) / HALO.reach) ** 2;
      const wall = 1 + NIGHT_TONES * tone[i]!;
      for (let c = 0; c < 3; c++) {
        const lit = mix(NIGHT[c]! * wall, color[c]!, halo);
        out[3 * i + c] = mix(lit, color[c]!, covered);
      }
    }
  },
};
