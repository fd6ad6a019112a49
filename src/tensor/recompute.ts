// Recomputation (gradient checkpointing): run a block without recording, keep only its inputs, run it again when its gradient is due.
// Chen et al., Training Deep Nets with Sublinear Memory Cost (arXiv 1604.06174).
import { openScope } from "./scope.ts";
import { record, Tape } from "./tape.ts";
import type { Tensor } from "./tensor.ts";

const nothing: Disposable = { [Symbol.dispose]() {} };

/**
 * `body` computes one tensor from `inputs` and from parameters it reaches by itself; it must compute the same twice.
 * Gradients of such parameters are gathered in their own slots. What `hold` returns ends when the body has run, and when
 * its gradient is computed: what body and gradient need beside the inputs, e.g. weights that come and go.
 */
export function recomputed(
  inputs: readonly Tensor[],
  body: (inputs: readonly Tensor[]) => Tensor,
  hold: (pass: "forward" | "backward") => Disposable = () => nothing,
): Tensor {
  const device = inputs[0]!.device;
  let noticed = false;
  let output: Tensor;
  {
    using _held = hold("forward");
    using paused = new Tape(device, { paused: true });
    using scope = openScope(device);
    output = scope.keep(body(inputs));
    noticed = paused.noticed;
  }
  if (!noticed) return output;
  // A parameter inside may be what needs the gradient, not an input: `trigger` makes the tape record all the same.
  const trigger = inputs.some((tensor) => tensor.requiresGrad) ? [] : [demanding(output)];
  const recorded = record("recomputed", output, [...inputs, ...trigger], inputs, (dy, needs, saved) => {
    using _held = hold("backward");
    using tape = new Tape(device);
    using scope = openScope(device);
    const leaves = saved.map((tensor, i) => {
      const leaf = tensor.alias(tensor.shape);
      // No parameter: its gradient is one of the step's temporaries.
      if (needs[i]) leaf.slot = { requiresGrad: true, leaf: false };
      return leaf;
    });
    const again = body(leaves);
    tape.backward(again, dy);
    return leaves.map((leaf) => {
      const gradient = leaf.gradient;
      if (!gradient) return undefined;
      leaf.slot!.gradient = undefined;
      scope.adopt(gradient);
      return scope.keep(gradient);
    });
  });
  for (const tensor of trigger) tensor[Symbol.dispose]();
  return recorded;
}

function demanding(tensor: Tensor): Tensor {
  const handle = tensor.retain();
  handle.slot = { requiresGrad: true, leaf: false };
  return handle;
}
