// Cases that a device does not run, and why.

export const cudaSkips: Readonly<Record<string, string>> = {
  "f64 operands of products, norms, activations, arithmetic and sums": "the cuda device computes in float32",
  "cast f64 → f64 rounds to nearest even, as the host does": "values pass through float32",
};
