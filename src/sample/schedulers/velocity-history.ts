// What multistep samplers keep of the steps before: their velocities, newest first.

export const velocityNames = (count: number): string[] => Array.from({ length: count }, (_, i) => `velocity${i + 1}`);

/** Newest first. */
export const velocitiesOf = (kept: Readonly<Record<string, Float32Array>>): Float32Array[] =>
  velocityNames(Object.keys(kept).length).map((name) => kept[name]!);

/** With a new one in front, at most `count`. */
export function pushVelocity(
  kept: Readonly<Record<string, Float32Array>>,
  velocity: Float32Array,
  count: number,
): Record<string, Float32Array> {
  // The answer is not the sampler's to keep.
  const all = [velocity.slice(), ...velocitiesOf(kept)].slice(0, count);
  return Object.fromEntries(all.map((each, i) => [`velocity${i + 1}`, each]));
}
