// A scope owns the temporaries made while it is the device's innermost one and frees them at its end.
// Scopes nest like blocks: `using scope = openScope(device)`. One flow of work drives a device at a time.
import { KinoraError } from "../base/errors.ts";
import type { Device } from "../device/device.ts";
import type { Tensor } from "./tensor.ts";

const stacks = new WeakMap<Device, Scope[]>();

/** Owns the temporaries made while it is the device's innermost scope, and frees them at its end. */
export class Scope implements Disposable {
  readonly #device: Device;
  readonly #stack: Scope[];
  readonly #tensors = new Set<Tensor>();

  constructor(device: Device, stack: Scope[]) {
    this.#device = device;
    this.#stack = stack;
    stack.push(this);
  }

  adopt(tensor: Tensor): void {
    this.#tensors.add(tensor);
  }

  /** Hands a temporary to the enclosing scope (to the caller where there is none): a function's result. */
  keep(tensor: Tensor): Tensor {
    if (!this.#tensors.delete(tensor)) return tensor;
    const outer = this.#stack[this.#stack.indexOf(this) - 1];
    outer?.adopt(tensor);
    return tensor;
  }

  /** Hands a temporary to the caller for good: nobody but its new owner frees it. */
  release(tensor: Tensor): Tensor {
    this.#tensors.delete(tensor);
    return tensor;
  }

  [Symbol.dispose](): void {
    if (this.#stack.pop() !== this) {
      throw new KinoraError("scope.order", `scopes of device ${this.#device.name} were closed out of order`, {
        hint: "only one task may use a device at a time; await it before starting another",
      });
    }
    for (const tensor of this.#tensors) tensor[Symbol.dispose]();
    this.#tensors.clear();
  }
}

/**
 * A new innermost scope of the device: `using scope = openScope(device)`.
 * @throws KinoraError `scope.order` at its end, where scopes are closed out of order.
 */
export function openScope(device: Device): Scope {
  let stack = stacks.get(device);
  if (!stack) {
    stack = [];
    stacks.set(device, stack);
  }
  return new Scope(device, stack);
}

/** Gives a new tensor to the innermost scope. */
export function adopt(device: Device, tensor: Tensor): Tensor {
  stacks.get(device)?.at(-1)?.adopt(tensor);
  return tensor;
}

/** Runs `body` in its own scope and keeps only its result. */
export function scoped(device: Device, body: () => Tensor): Tensor {
  using scope = openScope(device);
  return scope.keep(body());
}
