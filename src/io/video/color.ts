// What the numbers of a frame mean as colour: matrix, range and transfer, resolved where a file leaves them out.
import {
  AVCOL_PRI_BT470BG,
  AVCOL_PRI_BT2020,
  AVCOL_PRI_SMPTE170M,
  AVCOL_RANGE_JPEG,
  AVCOL_SPC_BT470BG,
  AVCOL_SPC_BT709,
  AVCOL_SPC_BT2020_CL,
  AVCOL_SPC_BT2020_NCL,
  AVCOL_SPC_FCC,
  AVCOL_SPC_RGB,
  AVCOL_SPC_SMPTE170M,
  AVCOL_SPC_UNSPECIFIED,
  AVCOL_TRC_ARIB_STD_B67,
  AVCOL_TRC_SMPTE2084,
} from "node-av/constants";

export interface ColorInfo {
  matrix: "bt601" | "bt709" | "bt2020" | "rgb" | "other";
  range: "limited" | "full";
  /** `pq` and `hlg` are high dynamic range and get tone-mapped on reading. */
  transfer: "sdr" | "pq" | "hlg";
  /** True where the file names no matrix and the usual rule by size decided. */
  assumed: boolean;
}

interface Tagged {
  colorSpace: number;
  colorRange: number;
  colorTrc: number;
  colorPrimaries: number;
}

/**
 * The colour of a stream or frame. Where the matrix is not given: BT.709 from 1280 wide or above 576 lines,
 * BT.601 below (the rule players follow); where the range is not given: limited, full for RGB and `yuvj` formats.
 */
export function colorOf(tags: Tagged, width: number, height: number, pixelFormat: string): ColorInfo {
  const isRgb = /^(rgb|bgr|gbr|argb|abgr|rgba|bgra|pal8|0rgb|0bgr|x2rgb|x2bgr|mono)/.test(pixelFormat);
  const transfer =
    tags.colorTrc === AVCOL_TRC_SMPTE2084 ? "pq" : tags.colorTrc === AVCOL_TRC_ARIB_STD_B67 ? "hlg" : "sdr";
  const range = isRgb || tags.colorRange === AVCOL_RANGE_JPEG || pixelFormat.startsWith("yuvj") ? "full" : "limited";
  if (isRgb || tags.colorSpace === AVCOL_SPC_RGB) return { matrix: "rgb", range: "full", transfer, assumed: false };
  switch (tags.colorSpace) {
    case AVCOL_SPC_BT709:
      return { matrix: "bt709", range, transfer, assumed: false };
    case AVCOL_SPC_BT470BG:
    case AVCOL_SPC_SMPTE170M:
    case AVCOL_SPC_FCC:
      return { matrix: "bt601", range, transfer, assumed: false };
    case AVCOL_SPC_BT2020_NCL:
    case AVCOL_SPC_BT2020_CL:
      return { matrix: "bt2020", range, transfer, assumed: false };
    case AVCOL_SPC_UNSPECIFIED: {
      const byPrimaries =
        tags.colorPrimaries === AVCOL_PRI_BT2020
          ? "bt2020"
          : tags.colorPrimaries === AVCOL_PRI_SMPTE170M || tags.colorPrimaries === AVCOL_PRI_BT470BG
            ? "bt601"
            : undefined;
      const bySize = width >= 1280 || height > 576 ? "bt709" : "bt601";
      return { matrix: byPrimaries ?? bySize, range, transfer, assumed: true };
    }
    default:
      return { matrix: "other", range, transfer, assumed: false };
  }
}

/** The matrix a new file of this size gets: what players assume for it, so that even a reader that ignores tags agrees. */
export function matrixForSize(width: number, height: number): "bt601" | "bt709" {
  return width >= 1280 || height > 576 ? "bt709" : "bt601";
}
