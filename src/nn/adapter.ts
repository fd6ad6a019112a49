// What stands on a frozen parameter and changes it: the one interface of every kind of adapter. The kinds: lora/adapters.
import type { Tensor } from "../tensor/tensor.ts";

/**
 * A change of one parameter, after those that were put on before it. The layer below knows nothing of its mathematics.
 * Disposing frees its tensors; whoever put it on takes it off first.
 */
export interface Adapter extends Disposable {
  /**
   * Changes `total` (float32, the parameter's shape, a Linear's weight as [N, K]) from the value before this adapter to
   * the value with it.
   */
  delta(total: Tensor): void;
  /**
   * A Linear's adapter that only adds: `addend` (what earlier ones add; consumed) + what this one adds for x [..., K],
   * [..., N] in x's dtype. Recorded by an open tape. Where absent, the Linear multiplies by the changed weight.
   */
  apply?(x: Tensor, addend: Tensor | undefined): Tensor;
  /** Its tensors by part, e.g. `down`; the leaves of a gradient where it trains. */
  parameters(): ReadonlyMap<string, Tensor>;
}

/** A place that adapters stand on, in order. */
export interface Seam {
  readonly name: string;
  readonly adapters: Adapter[];
}
