// A source of noise as a row of the table (index.ts).

/** Gives a generation the noise it starts from. */
export type NoiseSource = (seed: bigint, count: number) => Float32Array;

export interface NoiseRow<N extends string = string> {
  readonly name: N;
  /** A few words for help texts. */
  readonly help: string;
  /** What may stand behind the name and a colon, in words; absent where nothing may. */
  readonly takes?: string;
  /** `argument`: what stands behind the colon. Throws `noise.*`. */
  create(argument: string | undefined): NoiseSource;
}
