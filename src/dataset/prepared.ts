// The items of a folder that `kinora dataset prepare` wrote, from its manifest: what need not be looked into again.
import { join, resolve } from "node:path";
import { DiskNames, spellingKey } from "../io/disk-names.ts";
import type { DatasetManifest } from "../protocol/dataset-manifest.ts";
import type { Size } from "./buckets.ts";
import type { DatasetSection } from "./config.ts";
import { emptyListing, noCaption, readCaption, type SourceListing, sizeOf } from "./listing.ts";
import type { MediaFacts } from "./probe.ts";

/** What the folder was prepared for. */
export function preparedFor({ model, settings }: DatasetManifest): NonNullable<SourceListing["prepared"]> {
  const { resolution } = settings;
  const [width, height]: unknown[] = Array.isArray(resolution) ? resolution : [];
  const known = [width, height].every((side) => Number.isInteger(side) && Number(side) >= 16 && Number(side) <= 16_384);
  return { model, resolution: known ? [Number(width), Number(height)] : undefined };
}

export interface Known {
  bytes: number;
  facts: MediaFacts;
}

const factsOf = (size: Size, frames: number, fps: number | undefined): MediaFacts => ({
  width: size.width,
  height: size.height,
  frames,
  fps,
  variableRate: false,
  damaged: false,
});

/** What the manifest tells of the files it wrote, by the keys (`spellingKey`) of their absolute paths. */
export function knownFacts(place: string, { items, fps }: DatasetManifest): Map<string, Known> {
  const known = new Map<string, Known>();
  for (const { kind, file, size, bytes, frames } of items) {
    if (file === undefined || size === undefined || bytes === undefined) continue;
    known.set(spellingKey(resolve(place, file)), {
      bytes,
      facts: factsOf(size, frames, kind === "video" ? fps : undefined),
    });
  }
  return known;
}

/** The items of a set prepared in place: parts of the original files, with captions where the files would be. */
export async function listInPlace(
  { media, captionExtension }: DatasetSection,
  place: string,
  manifest: DatasetManifest,
): Promise<SourceListing> {
  const listing = emptyListing(place, preparedFor(manifest));
  const names = new DiskNames();
  for (const item of manifest.items) {
    if (item.verdict !== "keep" || !media[item.kind === "image" ? "images" : "videos"]) continue;
    const source = manifest.sources[item.source];
    const shown = item.crop ?? source;
    if (source === undefined || shown?.width === undefined || shown.height === undefined) continue;
    const name = `${item.kind === "video" ? "videos" : "images"}/${item.id}`;
    const file = await names.spelled(resolve(place, source.path));
    const bytes = await sizeOf(file);
    if (bytes !== source.bytes) {
      const missing = bytes === undefined;
      const reason = missing ? `${file} does not exist` : `${file} has changed since the set was prepared`;
      listing.ignored.push({ name, file, code: missing ? "missing" : "changed", reason, asked: item.kind });
      continue;
    }
    const paths = [`${name}${captionExtension}`, `captions/${item.id}${captionExtension}`].map((path) =>
      join(place, path),
    );
    const captionPath = (await names.find(paths[0]!)) ?? (await names.find(paths[1]!));
    const caption =
      captionPath === undefined ? noCaption : await readCaption(listing, captionPath, { name, file, asked: item.kind });
    if (caption === undefined) continue;
    const size = { width: Math.round(shown.width), height: Math.round(shown.height) };
    listing.entries.push({
      name,
      file,
      kind: item.kind,
      frameFolder: false,
      cut: { in: item.in, out: item.out, fps: manifest.fps, crop: item.crop },
      known: factsOf(size, item.frames, item.kind === "video" ? manifest.fps : undefined),
      caption,
      control: undefined,
    });
  }
  return listing;
}
