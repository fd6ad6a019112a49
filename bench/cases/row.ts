// One line of the table: what we took, what the peer took, how far the results are apart.
import type { PeerRun } from "../peer.ts";

export interface Row {
  name: string;
  /** Best of the runs, seconds. */
  ours: number;
  peer: number;
  /** ‖ours − peer‖ / ‖peer‖ of the results. */
  difference: number;
  /** Arithmetic of one run, where it is known. */
  flops?: number;
  notes: string[];
}

export const best = (seconds: readonly number[]): number => Math.min(...seconds);

export async function timed(repeat: number, body: () => Promise<void>): Promise<number[]> {
  const seconds: number[] = [];
  for (let i = 0; i < repeat; i++) {
    const started = performance.now();
    await body();
    seconds.push((performance.now() - started) / 1000);
  }
  return seconds;
}

export function row(
  name: string,
  seconds: readonly number[],
  peer: PeerRun,
  difference: number,
  more: { flops?: number; notes?: string[] } = {},
): Row {
  return {
    name,
    ours: best(seconds),
    peer: best(peer.seconds),
    difference,
    notes: more.notes ?? [],
    ...(more.flops ? { flops: more.flops } : {}),
  };
}

export function format({ name, ours, peer, difference, flops, notes }: Row): string {
  const rate = flops ? `, ${(flops / ours / 1e9).toFixed(0)} against ${(flops / peer / 1e9).toFixed(0)} GFLOP/s` : "";
  const lines = [
    `${name}: ours ${ours.toPrecision(3)} s, peer ${peer.toPrecision(3)} s, ${(peer / ours).toFixed(2)}× as fast${rate}; results differ by ${difference.toExponential(1)}`,
    ...notes.map((note) => `    ${note}`),
  ];
  return lines.join("\n");
}
