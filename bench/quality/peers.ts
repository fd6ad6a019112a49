// FFmpeg's own measures of the same films, and how many spoiled ones they tell from clean ones at the best limit each has.
import { mean } from "../../src/dataset/prepare/measures/measure.ts";
import { ffmpeg } from "./ffmpeg.ts";

export const peerNames = [
  "blurdetect",
  "blockdetect",
  "siti si",
  "siti ti",
  "signalstats ydif",
  "signalstats yavg",
] as const;
export type PeerName = (typeof peerNames)[number];
export type PeerValues = Partial<Record<PeerName, number>>;

const keys: Readonly<Record<PeerName, string>> = {
  blurdetect: "lavfi.blur",
  blockdetect: "lavfi.block",
  "siti si": "lavfi.siti.si",
  "siti ti": "lavfi.siti.ti",
  "signalstats ydif": "lavfi.signalstats.YDIF",
  "signalstats yavg": "lavfi.signalstats.YAVG",
};

/** Means over every sixth frame. */
export async function askPeers(film: string): Promise<PeerValues> {
  const chain = "siti,signalstats,select='eq(mod(n,6),5)',blurdetect,blockdetect,metadata=print:file=-";
  const text = await ffmpeg(["-loglevel", "error", "-i", film, "-vf", chain, "-f", "null", "-"]);
  const values: PeerValues = {};
  for (const name of peerNames) {
    const all = text
      .split("\n")
      .filter((line) => line.startsWith(`${keys[name]}=`))
      .map((line) => Number(line.slice(keys[name].length + 1)))
      .filter(Number.isFinite);
    const value = mean(all);
    if (value !== undefined) values[name] = value;
  }
  return values;
}

/** A limit on one side of a peer's value that no more than 2 % of the clean films are beyond. */
export interface PeerLimit {
  min?: number;
  max?: number;
}

const spared = 0.02;

export function peerLimits(clean: readonly PeerValues[], name: PeerName): { low: PeerLimit; high: PeerLimit } {
  const sorted = clean.flatMap((values) => values[name] ?? []).sort((a, b) => a - b);
  const at = Math.floor(spared * sorted.length);
  return { low: { min: sorted[at]! }, high: { max: sorted[sorted.length - 1 - at]! } };
}

export function isBeyond(values: PeerValues, name: PeerName, { min, max }: PeerLimit): boolean {
  const value = values[name];
  return value !== undefined && ((min !== undefined && value < min) || (max !== undefined && value > max));
}
