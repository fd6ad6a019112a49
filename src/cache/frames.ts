// The pixels of dataset items: their frames of the file, scaled to cover the bucket and cropped. One pass over a file
// gives all of its items. Not their planning (dataset/), not their encoding (latents.ts).
import { KinoraError } from "../base/errors.ts";
import { type DatasetItem, sourceFrames } from "../dataset/items.ts";
import { listFolder, mediaKind } from "../dataset/media-files.ts";
import { ImageReader } from "../io/image/read.ts";
import { conversionChain } from "../io/video/conversion.ts";
import { FrameFilter } from "../io/video/frame-filter.ts";
import { packed, sampledFrames } from "../io/video/read.ts";
import { VideoReader } from "../io/video/reader.ts";

export interface ItemFrames {
  item: DatasetItem;
  /** [H, W, 3] bytes of the bucket's size, one for each frame. Shared between items: not to be changed. */
  frames: Uint8Array[];
}

/** Items that one pass over one file gives. */
export function byFile(items: readonly DatasetItem[]): DatasetItem[][] {
  const groups = new Map<string, DatasetItem[]>();
  for (const item of items) {
    const key = JSON.stringify([item.file, item.cut]);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return [...groups.values()];
}

const geometryKey = ({ crop }: DatasetItem): string =>
  `${crop.scaled.width}x${crop.scaled.height}+${crop.left}+${crop.top}:${crop.size.width}x${crop.size.height}`;

/** The bucket's part of a scaled picture. */
function cropped(pixels: Uint8Array, { crop }: DatasetItem): Uint8Array {
  const { scaled, left, top, size } = crop;
  if (scaled.width === size.width && scaled.height === size.height) return pixels;
  const result = new Uint8Array(size.width * size.height * 3);
  for (let y = 0; y < size.height; y++) {
    const start = ((y + top) * scaled.width + left) * 3;
    result.set(pixels.subarray(start, start + size.width * 3), y * size.width * 3);
  }
  return result;
}

/**
 * The frames of `items`, which are all of one file (see {@link byFile}); each item as soon as it is complete.
 * @throws KinoraError `media.*`, `image.*`, `cache.file-changed` where the file has fewer frames than it was planned with.
 */
export async function* itemFrames(items: readonly DatasetItem[], signal?: AbortSignal): AsyncGenerator<ItemFrames> {
  const [first] = items;
  if (!first) return;
  if (first.kind === "image") yield* pictureItems(items);
  else if (first.frameFolder) yield* folderItems(items);
  else yield* filmItems(items, signal);
}

async function scaledPicture(file: string, item: DatasetItem): Promise<Uint8Array> {
  using reader = await ImageReader.open(file);
  const { scaled } = item.crop;
  const crop = item.cut?.crop;
  const picture = await reader.picture({ width: scaled.width, height: scaled.height, ...(crop ? { crop } : {}) });
  return cropped(picture.data, item);
}

async function* pictureItems(items: readonly DatasetItem[]): AsyncGenerator<ItemFrames> {
  for (const item of items) yield { item, frames: [await scaledPicture(item.file, item)] };
}

async function* folderItems(items: readonly DatasetItem[]): AsyncGenerator<ItemFrames> {
  const pictures = (await listFolder(items[0]!.file)).filter(({ path }) => mediaKind(path) === "image");
  for (const item of items) {
    const frames: Uint8Array[] = [];
    for (const index of sourceFrames(item)) {
      const picture = pictures[index];
      if (!picture) throw changed(item, pictures.length);
      frames.push(await scaledPicture(picture.path, item));
    }
    yield { item, frames };
  }
}

function changed(item: DatasetItem, frames: number): KinoraError {
  return new KinoraError("cache.file-changed", `${item.file} has fewer frames than when it was inspected`, {
    expected: `${Math.max(...sourceFrames(item)) + 1}`,
    actual: `${frames}`,
    hint: "it may have been replaced in the meantime: run the command again",
  });
}

/** An item whose frames are coming in. */
interface Gathering {
  item: DatasetItem;
  wanted: ReadonlySet<number>;
  frames: Uint8Array[];
}

async function* filmItems(items: readonly DatasetItem[], signal?: AbortSignal): AsyncGenerator<ItemFrames> {
  const [first] = items;
  const { file, cut } = first!;
  let waiting: Gathering[] = items.map((item) => ({ item, wanted: new Set(sourceFrames(item)), frames: [] }));
  await using reader = await VideoReader.open(file);
  const filters = new Map<string, FrameFilter<true>>();
  const range = cut ? { start: cut.in, end: cut.out, fps: cut.fps } : {};
  let index = 0;
  try {
    for await (const { frame } of sampledFrames(reader, { ...range, ...(signal ? { signal } : {}) })) {
      const converted = new Map<string, Uint8Array>();
      for (const gathering of waiting) {
        if (!gathering.wanted.has(index)) continue;
        const { item } = gathering;
        const key = geometryKey(item);
        let pixels = converted.get(key);
        if (!pixels) {
          let filter = filters.get(key);
          if (!filter) {
            const { scaled } = item.crop;
            const conversion = {
              width: scaled.width,
              height: scaled.height,
              format: "rgb24" as const,
              ...(cut?.crop ? { crop: cut.crop } : {}),
            };
            filter = new FrameFilter((shape) => conversionChain(shape, reader.video, conversion));
            filters.set(key, filter);
          }
          for (const out of await filter.push(frame, true)) {
            using ready = out.frame;
            pixels = cropped(packed(ready), item);
          }
          converted.set(key, pixels!);
        }
        gathering.frames.push(pixels!);
        if (gathering.frames.length === gathering.wanted.size) yield { item, frames: gathering.frames };
      }
      waiting = waiting.filter(({ frames, wanted }) => frames.length < wanted.size);
      if (waiting.length === 0) return;
      index++;
    }
  } finally {
    for (const filter of filters.values()) filter[Symbol.dispose]();
  }
  throw changed(waiting[0]!.item, index);
}
