// One picture: where it lies between bars, its size, its measures, and the PNG that trains.

import { ImageReader, type RgbImage } from "../../io/image/read.ts";
import { writePng } from "../../io/image/write.ts";
import type { Rect } from "../../io/video/conversion.ts";
import { ClipBuilder, type ClipRecord } from "./clip.ts";
import { type Geometry, planGeometry, scaleOf, type Window } from "./geometry.ts";
import { marksOf } from "./look.ts";
import { contentOf, settleContent } from "./measures/bars.ts";
import type { LumaPlane, SourceMarks } from "./measures/measure.ts";
import type { ToneShift } from "./render.ts";
import type { PrepareSettings } from "./settings.ts";
import { type SmallPicture, smallSize, toneOf } from "./small.ts";
import { writeStrip } from "./strip.ts";

/** The side pictures are looked at for black bars, and the part of their middle that is searched for blocks, pixels. */
const lookSide = 1024;

/** Limited-range BT.601 luma, [H, W]. */
function lumaPlane({ width, height, data }: RgbImage): LumaPlane {
  const luma = new Uint8Array(width * height);
  for (let i = 0, at = 0; i < luma.length; i++, at += 3)
    luma[i] = 16.5 + 0.2568 * data[at]! + 0.5041 * data[at + 1]! + 0.0979 * data[at + 2]!;
  return { data: luma, width, height, stride: width };
}

/** Means over boxes: what FFmpeg's area scaling gives films. */
function shrink({ width, height, data }: RgbImage): SmallPicture {
  const small = smallSize(width, height);
  const size = small.width * small.height;
  const sums = new Float64Array(size * 3);
  const counts = new Uint32Array(size);
  for (let y = 0; y < small.height; y++) {
    const [y0, y1] = span(y, small.height, height);
    for (let x = 0; x < small.width; x++) {
      const [x0, x1] = span(x, small.width, width);
      const into = y * small.width + x;
      for (let row = y0; row < y1; row++)
        for (let column = x0; column < x1; column++) {
          const at = (row * width + column) * 3;
          for (let c = 0; c < 3; c++) sums[into * 3 + c]! += data[at + c]!;
          counts[into]!++;
        }
    }
  }
  const result: SmallPicture = {
    ...small,
    y: new Uint8Array(size),
    u: new Uint8Array(size / 4),
    v: new Uint8Array(size / 4),
  };
  for (let i = 0; i < size; i++) {
    const [r, g, b] = [0, 1, 2].map((c) => sums[i * 3 + c]! / counts[i]!) as [number, number, number];
    result.y[i] = 16.5 + 0.2568 * r + 0.5041 * g + 0.0979 * b;
    const [x, y] = [i % small.width, Math.floor(i / small.width)];
    if (x % 2 === 1 || y % 2 === 1) continue;
    const chroma = (y / 2) * (small.width / 2) + x / 2;
    result.u[chroma] = 128.5 - 0.1482 * r - 0.291 * g + 0.4392 * b;
    result.v[chroma] = 128.5 + 0.4392 * r - 0.3678 * g - 0.0714 * b;
  }
  return result;
}

/** Source pixels [from, to) of box `i` of `count`; at least one. */
function span(i: number, count: number, length: number): [number, number] {
  const from = Math.min(length - 1, Math.floor((i * length) / count));
  return [from, Math.max(from + 1, Math.floor(((i + 1) * length) / count))];
}

async function contentOfPicture(reader: ImageReader): Promise<Rect> {
  const { width, height } = reader.info;
  const scale = Math.min(1, lookSide / Math.max(width, height));
  const look = { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
  const seen = settleContent(
    contentOf(lumaPlane(await reader.picture({ ...look, scaler: "area" }))),
    look.width,
    look.height,
  );
  const [x, y] = [width / look.width, height / look.height];
  const left = Math.ceil(seen.x * x);
  const top = Math.ceil(seen.y * y);
  return {
    x: left,
    y: top,
    width: Math.floor((seen.x + seen.width) * x) - left,
    height: Math.floor((seen.y + seen.height) * y) - top,
  };
}

async function marksOfPicture(reader: ImageReader, content: Rect): Promise<SourceMarks | undefined> {
  // Blocks are counted from the picture's own corner: the part starts on a multiple of 8.
  const part = (start: number, side: number) => {
    const kept = Math.min(side, lookSide);
    return [8 * Math.ceil((start + (side - kept) / 2) / 8), kept - 8] as const;
  };
  const [x, width] = part(content.x, content.width);
  const [y, height] = part(content.y, content.height);
  if (width < 64 || height < 64) return undefined;
  return marksOf(lumaPlane(await reader.picture({ crop: { x, y, width, height } })));
}

/** Undefined where the picture is smaller than one step of the model. */
export async function analysePicture(
  path: string,
  settings: PrepareSettings,
  stripPath: string,
): Promise<ClipRecord | undefined> {
  using reader = await ImageReader.open(path);
  const content = await contentOfPicture(reader);
  const geometry = planGeometry(content, settings);
  if (!geometry) return undefined;
  const scaled = await reader.picture({ crop: content, ...geometry.scaled });
  const small = shrink(scaled);
  const marks = await marksOfPicture(reader, content);
  const builder = new ClipBuilder(0, geometry, { fps: settings.fps, kind: "image", scale: scaleOf(geometry) });
  builder.addPicture(small, toneOf(small), { luma: lumaPlane(scaled), chroma: undefined }, marks);
  await writeStrip(stripPath, builder.strip());
  return builder.finish(0, settings.crop);
}

/** Cuts the window out of the scaled picture, shifting tones where asked. */
function cut(image: RgbImage, { bucket }: Geometry, { left, top }: Window, shift: ToneShift | undefined): RgbImage {
  const { width, height } = bucket;
  const data = new Uint8Array(width * height * 3);
  for (let row = 0; row < height; row++) {
    const from = ((top + row) * image.width + left) * 3;
    data.set(image.data.subarray(from, from + width * 3), row * width * 3);
  }
  if (shift) {
    const byte = (value: number) => Math.max(0, Math.min(255, Math.round(value)));
    // The chroma shift of films, seen in RGB (BT.601).
    const [dr, dg, db] = [1.596 * shift.v, -0.392 * shift.u - 0.813 * shift.v, 2.017 * shift.u];
    for (let at = 0; at < data.length; at += 3) {
      data[at] = byte(data[at]! * shift.exposure + dr);
      data[at + 1] = byte(data[at + 1]! * shift.exposure + dg);
      data[at + 2] = byte(data[at + 2]! * shift.exposure + db);
    }
  }
  return { width, height, data };
}

export async function renderPicture(path: string, clip: ClipRecord, target: string, shift?: ToneShift): Promise<void> {
  using reader = await ImageReader.open(path);
  const geometry = clip.geometry!;
  const scaled = await reader.picture({ crop: geometry.content, ...geometry.scaled });
  await writePng(target, cut(scaled, geometry, clip.window!, shift));
}
