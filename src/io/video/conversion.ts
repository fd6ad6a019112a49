// From a frame as stored to a picture as wanted: upright, cropped, scaled, the right colours. Only the filters' text.
import type { Frame } from "node-av/lib";
import { avGetPixFmtName } from "node-av/lib";
import { type ColorInfo, colorOf } from "./color.ts";
import type { Orientation } from "./orientation.ts";

/** A rectangle in pixels of the picture as shown (upright, square pixels). */
export interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Conversion {
  /** The part to keep; the whole picture by default. */
  crop?: Rect;
  /** The size to scale that part to; its own size by default. */
  width?: number;
  height?: number;
  format: "rgb24" | "rgba" | "gray" | "yuv420p" | "yuv444p";
  /** Lanczos where absent; `area` is the quick one for thumbnails and measures. */
  scaler?: "lanczos" | "area";
  /** The matrix of YUV output. Absent: the source's own where that is BT.601 or BT.709, else BT.709. */
  matrix?: "bt601" | "bt709";
}

export interface Geometry {
  orientation: Orientation;
  pixelAspect: number;
}

/** Size as shown of a stored frame: pixels made square, turned upright. */
export function shownSize(width: number, height: number, { orientation, pixelAspect }: Geometry) {
  const square = Math.max(1, Math.round(width * pixelAspect));
  return orientation.swapsSides ? { width: height, height: square } : { width: square, height };
}

/** Where a rectangle of the stored picture lies in the picture as shown. */
export function shownRect(rect: Rect, width: number, height: number, { orientation, pixelAspect }: Geometry): Rect {
  const turn = (x: number, y: number): [number, number] => {
    switch (orientation.filter) {
      case "hflip":
        return [width - x, y];
      case "vflip":
        return [x, height - y];
      case "hflip,vflip":
        return [width - x, height - y];
      case "transpose=clock":
        return [height - y, x];
      case "transpose=cclock":
        return [y, width - x];
      case "transpose=cclock_flip":
        return [y, x];
      case "transpose=clock_flip":
        return [height - y, width - x];
      default:
        return [x, y];
    }
  };
  const [across, down] = orientation.swapsSides ? [1, pixelAspect] : [pixelAspect, 1];
  const [x0, y0] = turn(rect.x, rect.y);
  const [x1, y1] = turn(rect.x + rect.width, rect.y + rect.height);
  const [left, right] = [Math.min(x0, x1) * across, Math.max(x0, x1) * across];
  const [top, bottom] = [Math.min(y0, y1) * down, Math.max(y0, y1) * down];
  return { x: left, y: top, width: right - left, height: bottom - top };
}

/** The matrix of YUV frames that `conversionChain` makes from this colour. */
export function outputMatrix(color: ColorInfo, wanted?: "bt601" | "bt709"): "bt601" | "bt709" {
  return wanted ?? (color.matrix === "bt601" && color.transfer === "sdr" ? "bt601" : "bt709");
}

const swscaleMatrix = { bt601: "smpte170m", bt709: "bt709" } as const;
const zscaleMatrix = { bt601: "170m", bt709: "709" } as const;

/** Formats whose pixels may be seen through. */
export const withAlpha = /^(yuva|rgba|bgra|argb|abgr|gbrap|ya8|ya16|pal8)/;

/** Lays a picture that may be seen through on white, as RGB: players and models know no transparency. */
function onWhite({ matrix, range }: ColorInfo): string {
  const from = matrix === "bt601" || matrix === "bt709" ? `in_color_matrix=${swscaleMatrix[matrix]}:` : "";
  const rgba = `scale=${from}in_range=${range},format=rgba`;
  return `${rgba},split[fore][back];[back]drawbox=color=white:t=fill:replace=1[white];[white][fore]overlay=format=gbrp,format=rgb24`;
}

/** Formats with fewer colours than pixels, which can be cropped between colours only. */
const halfColors = /^(yuva?j?4(20|22|40|11|10)p|nv12|nv16|nv21|p[02][0-9]+)/;

/** The filters that turn stored frames like `frame` into pictures as `conversion` wants them. YUV comes out in limited range. */
export function conversionChain(frame: Frame, geometry: Geometry, conversion: Conversion): string {
  const { width: storedWidth, height: storedHeight } = frame;
  const shown = shownSize(storedWidth, storedHeight, geometry);
  const crop = conversion.crop ?? { x: 0, y: 0, ...shown };
  const width = conversion.width ?? crop.width;
  const height = conversion.height ?? crop.height;
  const stored = avGetPixFmtName(frame.format as never) ?? "";
  const seeThrough = withAlpha.test(stored) && conversion.format !== "rgba";
  const pixelFormat = seeThrough ? "rgb24" : stored;
  const own = colorOf(frame, storedWidth, storedHeight, stored);
  const color = seeThrough ? colorOf(frame, storedWidth, storedHeight, pixelFormat) : own;
  const filters: string[] = seeThrough ? [onWhite(own)] : [];
  if (geometry.orientation.filter) filters.push(geometry.orientation.filter);
  if (crop.x !== 0 || crop.y !== 0 || crop.width !== shown.width || crop.height !== shown.height) {
    // Crop in stored pixels; the later scaling makes them square.
    const [across, down] = geometry.orientation.swapsSides ? [1, geometry.pixelAspect] : [geometry.pixelAspect, 1];
    // Where colours have half the size FFmpeg floors to whole ones of them: the nearest is better.
    const grid = halfColors.test(pixelFormat) ? 2 : 1;
    const whole = (value: number) => grid * Math.round(value / grid);
    const [x, y] = [whole(crop.x / across), whole(crop.y / down)];
    const [right, bottom] = geometry.orientation.swapsSides ? [storedHeight, storedWidth] : [storedWidth, storedHeight];
    const w = Math.max(1, Math.min(whole(crop.width / across), right - x));
    const h = Math.max(1, Math.min(whole(crop.height / down), bottom - y));
    filters.push(`crop=${w}:${h}:${x}:${y}`);
  }
  const scaler = conversion.scaler ?? "lanczos";
  const matrix = outputMatrix(color, conversion.matrix);
  const toRgb = conversion.format === "rgb24" || conversion.format === "rgba";
  if (color.transfer !== "sdr" || color.matrix === "bt2020") {
    const transfer = color.transfer === "pq" ? "smpte2084" : color.transfer === "hlg" ? "arib-std-b67" : "2020_10";
    const source = `tin=${transfer}:pin=2020:min=${color.matrix === "bt709" ? "709" : "2020_ncl"}:rin=${color.range}`;
    const kernel = scaler === "area" ? "bilinear" : "lanczos";
    // What comes out is named in full: zscale takes what is left out from the frame, which may say nothing.
    filters.push(`zscale=w=${width}:h=${height}:filter=${kernel}:${source}:t=linear:p=709:m=gbr:npl=203`);
    filters.push("format=gbrpf32le");
    // Mobius leaves the tones below a third alone and bends only the highlights; 203 nits is HDR's paper white.
    if (color.transfer !== "sdr") filters.push("tonemap=tonemap=mobius:desat=0");
    filters.push(
      toRgb ? "zscale=t=709:p=709:m=gbr:r=full,format=gbrp" : `zscale=t=709:p=709:m=${zscaleMatrix[matrix]}:r=limited`,
    );
    // zscale makes no halved colours of odd sides, such as 853 pixels across: swscale does.
    if (!toRgb && (width % 2 !== 0 || height % 2 !== 0)) {
      const same = swscaleMatrix[matrix];
      filters.push("format=yuv444p");
      filters.push(`scale=in_color_matrix=${same}:out_color_matrix=${same}:in_range=limited:out_range=limited`);
    }
    filters.push(`format=${conversion.format}`);
  } else {
    const flags = scaler === "area" ? "area" : "lanczos+accurate_rnd+full_chroma_int+full_chroma_inp";
    const from =
      color.matrix === "bt601" || color.matrix === "bt709"
        ? `:in_color_matrix=${swscaleMatrix[color.matrix]}:in_range=${color.range}`
        : `:in_range=${color.range}`;
    const to = toRgb ? "" : `:out_color_matrix=${swscaleMatrix[matrix]}:out_range=limited`;
    filters.push(`scale=${width}:${height}:flags=${flags}${from}${to}`, `format=${conversion.format}`);
  }
  filters.push("setsar=1");
  return filters.join(",");
}
