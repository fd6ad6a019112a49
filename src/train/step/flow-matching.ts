// The training objective: predict the velocity noise − x₀ at x_t = (1−σ)·x₀ + σ·noise (Lipman et al., arXiv 2210.02747;
// Liu et al., arXiv 2209.03003), as Wan was trained. t = σ·1000, not rounded.

/** x_t for one sample; σ in [0, 1], 1 is noise. */
export function noisyLatents(clean: Float32Array, noise: Float32Array, sigma: number): Float32Array {
  const result = new Float32Array(clean.length);
  for (let i = 0; i < result.length; i++) result[i] = (1 - sigma) * clean[i]! + sigma * noise[i]!;
  return result;
}

/** What the model should answer. */
export function velocityTarget(clean: Float32Array, noise: Float32Array): Float32Array {
  const result = new Float32Array(clean.length);
  for (let i = 0; i < result.length; i++) result[i] = noise[i]! - clean[i]!;
  return result;
}
