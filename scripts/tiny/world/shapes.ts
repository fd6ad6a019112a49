// The shapes of the world as signed distances: negative inside, in units of the object's radius, y down.

/** Distance from (x, y) to the shape's edge. */
type SignedDistance = (x: number, y: number) => number;

export interface Shape {
  distance: SignedDistance;
  /** The farthest point of the shape from its centre, in radii. */
  reach: number;
  /** Looks the same after a turn by 1/symmetry of a full one; 0 where every turn looks the same. */
  symmetry: number;
}

function box(x: number, y: number, halfWidth: number, halfHeight: number): number {
  const dx = Math.abs(x) - halfWidth;
  const dy = Math.abs(y) - halfHeight;
  return Math.hypot(Math.max(dx, 0), Math.max(dy, 0)) + Math.min(Math.max(dx, dy), 0);
}

/** Distance to a star-like polygon of `points` tips at `outer` from the centre, with its notches at `inner`; a tip points up. */
function starPolygon(points: number, outer: number, inner: number): SignedDistance {
  const half = Math.PI / points;
  const notchX = inner * Math.sin(half);
  const notchY = inner * Math.cos(half);
  const edgeX = notchX;
  const edgeY = notchY - outer;
  const edgeLength = Math.hypot(edgeX, edgeY);
  return (x, y) => {
    // Folded into the half sector between the tip (0, outer) and the notch: one edge is left.
    const angle = Math.atan2(x, -y);
    const folded = Math.abs(angle - 2 * half * Math.round(angle / (2 * half)));
    const radius = Math.hypot(x, y);
    const px = radius * Math.sin(folded);
    const py = radius * Math.cos(folded) - outer;
    const along = Math.min(1, Math.max(0, (px * edgeX + py * edgeY) / edgeLength ** 2));
    const away = Math.hypot(px - along * edgeX, py - along * edgeY);
    return py * edgeX - px * edgeY < 0 ? -away : away;
  };
}

/** A square on its tip with a disc on each upper side. */
function heart(x: number, y: number): number {
  const side = 1.28;
  const turned = Math.SQRT1_2;
  const lowered = y - 0.12;
  const square = box((x - lowered) * turned, (x + lowered) * turned, side / 2, side / 2);
  const lobe = (side / 2) * turned;
  const discs = Math.hypot(Math.abs(x) - lobe, lowered + lobe) - side / 2;
  return Math.min(square, discs);
}

export const shapes = {
  circle: { distance: (x, y) => Math.hypot(x, y) - 1, reach: 1, symmetry: 0 },
  square: { distance: (x, y) => box(x, y, 0.88, 0.88), reach: 1.25, symmetry: 4 },
  // A triangle is a star of three points whose notches lie on its sides.
  triangle: { distance: starPolygon(3, 1.3, 0.65), reach: 1.3, symmetry: 3 },
  star: { distance: starPolygon(5, 1.3, 0.58), reach: 1.3, symmetry: 5 },
  ring: { distance: (x, y) => Math.abs(Math.hypot(x, y) - 0.83) - 0.29, reach: 1.12, symmetry: 0 },
  cross: { distance: (x, y) => Math.min(box(x, y, 1.15, 0.38), box(x, y, 0.38, 1.15)), reach: 1.22, symmetry: 4 },
  heart: { distance: heart, reach: 1.21, symmetry: 1 },
} as const satisfies Record<string, Shape>;

export type ShapeName = keyof typeof shapes;
export const shapeNames = Object.keys(shapes) as ShapeName[];
