// The reverse tape: operations note how to turn the gradient of their output into gradients of their inputs.
// Eager, first order, pruned: an operation none of whose inputs requires a gradient leaves no trace.
import { KinoraError } from "../base/errors.ts";
import { sameShape } from "../base/shape.ts";
import type { Device } from "../device/device.ts";
import { openScope } from "./scope.ts";
import { empty, filled, type GradientSlot, type Tensor } from "./tensor.ts";

/**
 * Gradients of the inputs, in their order; undefined where `needs` is false. `dy` may be returned itself.
 * Tensors made inside live in a scope of the tape.
 */
export type Vjp = (dy: Tensor, needs: readonly boolean[]) => readonly (Tensor | undefined)[];

interface Node {
  name: string;
  inputs: readonly (GradientSlot | undefined)[];
  output: GradientSlot;
  saved: readonly Tensor[];
  vjp: Vjp;
}

const tapes = new WeakMap<Device, Tape[]>();

function innermost(device: Device): Tape | undefined {
  return tapes.get(device)?.at(-1);
}

/** Records what is computed from tensors that require a gradient, while it is open: `using tape = new Tape(device)`. */
export class Tape implements Disposable {
  readonly #device: Device;
  readonly #stack: Tape[];
  readonly #nodes: Node[] = [];
  /** A paused tape records nothing but notices whether it would have. */
  readonly #paused: boolean;
  #noticed = false;

  constructor(device: Device, options: { paused?: boolean } = {}) {
    this.#device = device;
    this.#paused = options.paused ?? false;
    this.#stack = tapes.get(device) ?? [];
    tapes.set(device, this.#stack);
    this.#stack.push(this);
  }

  get recording(): boolean {
    return !this.#paused;
  }

  /** For a paused tape: whether something was computed from a tensor that requires a gradient. */
  get noticed(): boolean {
    return this.#noticed;
  }

  push(node: Node): void {
    this.#nodes.push(node);
  }

  notice(): void {
    this.#noticed = true;
  }

  /**
   * Runs backward from `output` (with gradient `dy`, or 1 for a scalar). Leaves gather their gradients: read them by
   * `tensor.gradient`. What the tape saved is freed as it goes; it can run once.
   */
  backward(output: Tensor, dy?: Tensor): void {
    const root = output.slot;
    if (!root?.requiresGrad) {
      throw new KinoraError("tape.no-gradient", "no tensor that requires a gradient led to this one", {
        hint: "mark parameters with requireGradient() and compute the loss while the tape is open",
      });
    }
    if (!dy && output.size !== 1) {
      throw new KinoraError("tape.not-scalar", "backward without a gradient needs a scalar", {
        actual: `[${output.shape}]`,
      });
    }
    // The gradients' own arithmetic is not recorded.
    using _paused = new Tape(this.#device, { paused: true });
    {
      using _scope = openScope(this.#device);
      accumulate(root, dy ?? filled(this.#device, output.shape, 1, output.dtype));
    }
    for (let node = this.#nodes.pop(); node; node = this.#nodes.pop()) {
      const gradient = node.output.gradient;
      if (gradient) {
        using _scope = openScope(this.#device);
        const needs = node.inputs.map((slot) => slot?.requiresGrad ?? false);
        const gradients = node.vjp(gradient, needs);
        for (const [i, slot] of node.inputs.entries()) {
          const part = gradients[i];
          if (slot?.requiresGrad && part) accumulate(slot, part);
        }
        node.output.gradient = undefined;
        gradient[Symbol.dispose]();
      }
      for (const tensor of node.saved) tensor[Symbol.dispose]();
    }
  }

  [Symbol.dispose](): void {
    const index = this.#stack.indexOf(this);
    if (index >= 0) this.#stack.splice(index, 1);
    for (const node of this.#nodes) {
      for (const tensor of node.saved) tensor[Symbol.dispose]();
      node.output.gradient?.[Symbol.dispose]();
      node.output.gradient = undefined;
    }
    this.#nodes.length = 0;
  }
}

/** The first gradient is taken over; later ones are added, in place where nobody else sees the memory. */
function accumulate(slot: GradientSlot, part: Tensor): void {
  const present = slot.gradient;
  if (!present) {
    slot.gradient = own(slot, part.retain());
    return;
  }
  if (!sameShape(present.shape, part.shape)) {
    throw new KinoraError("tape.shape", "two gradients of one tensor differ in shape", {
      expected: `[${present.shape}]`,
      actual: `[${part.shape}]`,
    });
  }
  const { kernels } = present.device;
  if (present.exclusive) {
    kernels.binary("add", present, part, present);
    return;
  }
  const total = empty(present.device, present.shape, present.dtype);
  kernels.binary("add", present, part, total);
  slot.gradient = own(slot, total.retain());
  present[Symbol.dispose]();
}

/** A parameter's gradient outlives the step's temporaries and is counted apart from them. */
function own(slot: GradientSlot, gradient: Tensor): Tensor {
  const { block, device } = gradient;
  if (slot.leaf && block.category === "activations") device.recategorize(block, "gradients");
  return gradient;
}

/** True where operations are recorded, should their inputs require a gradient. */
export function isRecording(device: Device): boolean {
  return innermost(device)?.recording ?? false;
}

/** True where an operation on these inputs will be recorded: fused, unrecordable shortcuts are then not allowed. */
export function isRecorded(device: Device, inputs: readonly (Tensor | undefined)[]): boolean {
  return isRecording(device) && inputs.some((tensor) => tensor?.requiresGrad);
}

/**
 * Notes an operation on the device's tape, if one is open and an input requires a gradient.
 * `saved` tensors stay alive until backward has used them; `vjp` must use the handles that it is given.
 */
export function record(
  name: string,
  output: Tensor,
  inputs: readonly (Tensor | undefined)[],
  saved: readonly Tensor[],
  vjp: (dy: Tensor, needs: readonly boolean[], saved: readonly Tensor[]) => readonly (Tensor | undefined)[],
): Tensor {
  const tape = innermost(output.device);
  if (!tape || !inputs.some((tensor) => tensor?.requiresGrad)) return output;
  if (!tape.recording) {
    tape.notice();
    return output;
  }
  output.slot = { requiresGrad: true, leaf: false };
  const kept = saved.map((tensor) => tensor.retain());
  tape.push({
    name,
    inputs: inputs.map((tensor) => tensor?.slot),
    output: output.slot,
    saved: kept,
    vjp: (dy, needs) => vjp(dy, needs, kept),
  });
  return output;
}
