// How a stored picture must be turned to be seen upright: the eight cases of a display matrix or an EXIF tag.

/** The filter that turns the stored picture upright, and whether width and height change places. */
export interface Orientation {
  /** FFmpeg filters, comma separated; empty where the picture is upright as stored. */
  filter: "" | "hflip" | "vflip" | "hflip,vflip" | `transpose=${"clock" | "cclock" | "clock_flip" | "cclock_flip"}`;
  swapsSides: boolean;
}

export const upright: Orientation = { filter: "", swapsSides: false };

/**
 * Orientation of a 3×3 display matrix of 32-bit integers (`AV_PKT_DATA_DISPLAYMATRIX`, 36 bytes, native order).
 * Angles that are no multiple of 90° go to the nearest one.
 * Source: https://github.com/FFmpeg/FFmpeg/blob/n8.0/libavutil/display.h
 */
export function orientationOfMatrix(matrix: Buffer): Orientation {
  // Stored (x, y) is shown at (a·x + c·y, b·x + d·y).
  const a = matrix.readInt32LE(0);
  const b = matrix.readInt32LE(4);
  const c = matrix.readInt32LE(12);
  const d = matrix.readInt32LE(16);
  if (Math.abs(a) + Math.abs(d) >= Math.abs(b) + Math.abs(c)) {
    if (a >= 0) return d >= 0 ? upright : { filter: "vflip", swapsSides: false };
    return { filter: d >= 0 ? "hflip" : "hflip,vflip", swapsSides: false };
  }
  if (b > 0) return { filter: c < 0 ? "transpose=clock" : "transpose=cclock_flip", swapsSides: true };
  return { filter: c > 0 ? "transpose=cclock" : "transpose=clock_flip", swapsSides: true };
}
