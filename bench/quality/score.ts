// From a manifest to what was said of each film: whether its fault was named, and whether it was dropped.
import { basename } from "node:path";
import type { DatasetManifest, ManifestItem } from "../../src/protocol/dataset-manifest.ts";
import type { Fault } from "./faults.ts";

export interface Outcome {
  /** The film's name. */
  film: string;
  /** Told as a reason or a finding of an item. */
  named: boolean;
  /** Nothing of it was kept. */
  dropped: boolean;
  /** Has no item, or lost more than a quarter of its length to gaps. */
  vanished: boolean;
  codes: string[];
}

const barSoftness = 4;

/** Whether the bars came off: nothing of them left, and no more than a few pixels of the picture gone with them. */
function isCropped(
  { content }: ManifestItem,
  width: number,
  height: number,
  left: { width: number; height: number },
): boolean {
  if (!content) return false;
  const off = (is: number, wanted: number) => wanted + 1 - is;
  const [across, down] = [off(content.width, left.width * width), off(content.height, left.height * height)];
  const near = (value: number) => value >= -1 && value <= 2 * barSoftness;
  return near(across) && near(down);
}

/** What was said of every source; `fault` is what was done to all of them, undefined for clean ones. */
export function outcomes(manifest: DatasetManifest, fault?: Fault, strength = 0): Outcome[] {
  return manifest.sources.map((source, index) => {
    const items = manifest.items.filter((item) => item.source === index);
    const told = items.flatMap(({ reasons, findings = [] }) => [...reasons, ...findings]).map(({ code }) => code);
    const codes = [...new Set(told)];
    const gone = (source.gaps ?? []).reduce((sum, gap) => sum + gap.out - gap.in, 0);
    const content = fault?.content?.(strength);
    return {
      film: basename(source.path).replace(/\.\w+$/, ""),
      named: content
        ? items.length > 0 && items.every((item) => isCropped(item, source.width!, source.height!, content))
        : codes.some((code) => fault?.named.includes(code)),
      dropped: items.every((item) => item.verdict === "drop"),
      vanished: items.length === 0 || gone > 0.25 * (source.duration ?? 0),
      codes,
    };
  });
}

/** "83 %", or "–" of none. */
export function share(list: readonly Outcome[], is: (outcome: Outcome) => boolean): string {
  return list.length === 0 ? "–" : `${Math.round((100 * list.filter(is).length) / list.length)} %`;
}
