// Motion blur: edges that are wide along the motion and narrow across it.
import type { Flow } from "../flow.ts";
import { type Steepness, steepness } from "./edge-width.ts";
import { type Measure, mean } from "./measure.ts";

/** Small pixels a frame below which nothing smears. */
const leastSpeed = 0.75;

/** The direction most of the picture moves in, one of four, or undefined where little moves. */
function dominantDirection(flow: Flow): { along: keyof Steepness; across: keyof Steepness; share: number } | undefined {
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

export const motionBlur: Measure = {
  name: "motion_blur",
  title: "Motion blur",
  unit: "0–1 (steepness lost along the motion)",
  limit: { max: 0.5 },
  high: "smeared by motion",
  filmsOnly: true,
  start() {
    const values: number[] = [];
    return {
      add({ detail, flow }) {
        if (!detail || !flow) return;
        const direction = dominantDirection(flow);
        const edges = direction && steepness(detail);
        const across = edges?.[direction!.across];
        // All edges lie along the motion: nothing to compare with.
        if (!direction || !edges || across === undefined || across < 0.1) {
          values.push(0);
          return;
        }
        values.push(Math.max(0, 1 - (edges[direction.along] ?? 0) / across) * Math.min(1, direction.share * 1.5));
      },
      result: () => mean(values),
    };
  },
};
