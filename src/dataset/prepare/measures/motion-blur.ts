// Motion blur: edges that are wide along the motion and narrow across it.
import type { Flow } from "../flow.ts";
import { type Steepness, steepness } from "./edge-width.ts";
import { type LumaPlane, type Measure, mean, median } from "./measure.ts";

/** Small pixels a frame below which nothing smears. */
const leastSpeed = 0.75;

type Way = Exclude<keyof Steepness, "narrowest" | "sharpestWidths">;

/** The direction most of the picture moves in, one of four, or undefined where little moves. */
function dominantDirection(flow: Flow): { along: Way; across: Way; share: number } | undefined {
  // Doubled angles, so that left and right count as the same direction.
  let cosine = 0;
  let sine = 0;
  let total = 0;
  let moving = 0;
  for (let i = 0; i < flow.dx.length; i++) {
    const [x, y] = [flow.dx[i]!, flow.dy[i]!];
    const speed = Math.hypot(x, y);
    if (speed < leastSpeed) continue;
    moving++;
    total += speed;
    cosine += (x * x - y * y) / speed;
    sine += (2 * x * y) / speed;
  }
  const share = moving / flow.dx.length;
  if (share < 0.25 || Math.hypot(cosine, sine) < 0.5 * total) return undefined;
  // In pictures y grows downwards: a positive angle falls to the right.
  const eighth = Math.round((Math.atan2(sine, cosine) / 2 / Math.PI) * 4);
  switch (((eighth % 4) + 4) % 4) {
    case 0:
      return { along: "horizontal", across: "vertical", share };
    case 1:
      return { along: "falling", across: "rising", share };
    case 2:
      return { along: "vertical", across: "horizontal", share };
    default:
      return { along: "rising", across: "falling", share };
  }
}

/** Pixels: edges that are wider than this in both directions are out of focus, which is for the sharpness to say. */
const mostNarrow = 4;
/** How much wider edges must be in one direction than in the other. */
const leastUneven = 1.1;

/** Width of the sharpest edges in the direction in which they are wider, of 9 pixels; 0 where both are alike. */
function smearOf(plane: LumaPlane): number | undefined {
  const widths = steepness(plane).sharpestWidths;
  if (!widths) return undefined;
  const [narrow, wide] = [Math.min(...widths), Math.max(...widths)];
  return narrow > mostNarrow || wide < leastUneven * narrow ? 0 : wide / 9;
}

export const motionBlur: Measure = {
  name: "motion_blur",
  title: "Motion blur",
  unit: "0–1 (steepness lost along the motion, or width of the sharpest edges / 9 pixels along one side)",
  limit: { max: 0.5 },
  notice: { max: 0.42 },
  high: "motion blur",
  filmsOnly: true,
  start() {
    const lost: number[] = [];
    const smears: number[] = [];
    return {
      add({ detail, flow }) {
        if (!detail) return;
        const smear = smearOf(detail.luma);
        if (smear !== undefined) smears.push(smear);
        if (!flow) return;
        const direction = dominantDirection(flow);
        const edges = direction && steepness(detail.luma);
        const across = edges?.[direction!.across];
        // All edges lie along the motion: nothing to compare with.
        if (!direction || !edges || across === undefined || across < 0.1) {
          lost.push(0);
          return;
        }
        lost.push(Math.max(0, 1 - (edges[direction.along] ?? 0) / across) * Math.min(1, direction.share * 1.5));
      },
      result() {
        const found = [mean(lost), median(smears)].filter((value) => value !== undefined);
        return found.length === 0 ? undefined : Math.max(...found);
      },
    };
  },
};
