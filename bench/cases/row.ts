// One line of the table: what we took, what the peer took, how far the results are apart.
import { type Contender, formatRatio, interleaved, load, ratioOf, type Times } from "../rounds.ts";

export interface Row {
  name: string;
  ours: Times;
  peer: Times;
  /** ‖ours − peer‖ / ‖peer‖ of the results, where the peer hands them over. */
  difference?: number;
  /** Arithmetic of one run, where it is known. */
  flops?: number;
  notes: string[];
}

/** How often and how many at a time. */
export interface Pace {
  rounds: number;
  /** Runs a turn, for what is over in a moment; a turn's time is that of one run. */
  passes?: number;
}

/** The peer and ours in turn. What else a row tells is known after the last round. */
export async function compare(
  name: string,
  { rounds, passes = 1 }: Pace,
  peer: Contender,
  ours: () => Promise<void>,
  more: () => Partial<Row> = () => ({}),
): Promise<Row> {
  const turn = async () => {
    const started = performance.now();
    for (let pass = 0; pass < passes; pass++) await ours();
    return (performance.now() - started) / 1000 / passes;
  };
  const times = await interleaved({ peer, ours: turn }, rounds);
  return { name, notes: [], ...times, ...more() };
}

export function format({ name, ours, peer, difference, flops, notes }: Row): string {
  const gigaflops = ({ median }: Times) => (flops! / median / 1e9).toFixed(0);
  const lines = [
    `${name}: ours ${ours}, peer ${peer}, ${formatRatio(ratioOf(peer, ours))} times as fast`,
    ...(flops ? [`    ${gigaflops(ours)} against ${gigaflops(peer)} GFLOP/s`] : []),
    ...(difference === undefined ? [] : [`    results differ by ${difference.toExponential(1)}`]),
    ...notes.map((note) => `    ${note}`),
    `    ${ours.seconds.length} rounds, ${load()}`,
  ];
  return lines.join("\n");
}
