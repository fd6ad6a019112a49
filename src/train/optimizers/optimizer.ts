// What the training loop asks of an optimizer, what a row of the table has, and what most optimizers share.
import type { z } from "zod";
import type { Device } from "../../device/device.ts";
import { openScope } from "../../tensor/scope.ts";
import { empty, ownedEmpty, type Tensor } from "../../tensor/tensor.ts";
import type { ChoiceRow } from "../choices.ts";

export interface OptimizerContext {
  device: Device;
  /** Float32, by name; they stay the caller's. */
  parameters: ReadonlyMap<string, Tensor>;
  /** Multiplies the learning rate of a parameter, by its name; 1 where absent. */
  rateOf?: (name: string) => number;
}

export interface Optimizer extends Disposable {
  readonly parameters: ReadonlyMap<string, Tensor>;
  /** Steps done. */
  readonly step: number;
  /**
   * One update from the gathered gradients, each multiplied by `gradientScale`; clears them. Returns the learning rate
   * that was in effect, for optimizers that find their own.
   */
  update(learningRate: number, gradientScale?: number): Promise<number>;
  /** All that a saved state must hold. */
  state(): OptimizerState;
  /** Puts saved numbers back; tensors are put back by writing to those of `state()`. */
  restore(numbers: Readonly<Record<string, number>>): void;
  /**
   * The values to validate, preview and write into files, where they are not those that train: float32, by parameter, in
   * the current scope.
   */
  shown?(): ReadonlyMap<string, Tensor>;
}

export interface OptimizerState {
  /** Of any shape and dtype, by name. */
  tensors: ReadonlyMap<string, Tensor>;
  /** Kept in float64: `step`, and what else an optimizer counts. */
  numbers: Readonly<Record<string, number>>;
}

/** A row of the table (index.ts). */
export interface OptimizerRow<S extends z.ZodObject = z.ZodObject> extends ChoiceRow<S> {
  /** The class by which other trainers name it in a file's metadata. */
  knownAs?: string;
  /** Where none is given. */
  learningRate: { lora: number; full: number };
  /** For an optimizer that has its own: why [schedule] does nothing; undefined where its settings leave it to [schedule]. */
  ownSchedule?: string | ((settings: z.infer<S>) => string | undefined);
  /** Why all parameters must have one learning rate; for LoRA+. */
  oneRate?: string;
  create(context: OptimizerContext, settings: z.infer<S>): Optimizer;
}

/** √Σ‖g‖² over all gathered gradients; read once, when all are summed. */
export async function globalNorm(device: Device, parameters: ReadonlyMap<string, Tensor>): Promise<number> {
  const gradients = [...parameters.values()].flatMap(({ gradient }) => gradient ?? []);
  if (gradients.length === 0) return 0;
  using _scope = openScope(device);
  const squares = empty(device, [gradients.length], "f32");
  for (const [i, gradient] of gradients.entries()) device.kernels.sumSquares(gradient, squares.rows(i, 1));
  return Math.sqrt((await squares.read()).reduce((sum, square) => sum + square, 0));
}

/** A tensor of an optimizer's state, every byte 0. */
export function zeroState(device: Device, shape: readonly number[], dtype: "f32" | "u8" = "f32"): Tensor {
  const tensor = ownedEmpty(device, shape, dtype, "optimizer");
  if (dtype === "f32") device.kernels.fill(tensor, 0);
  else tensor.writeBytes(new Uint8Array(tensor.byteLength));
  return tensor;
}

/** What one parameter's update needs to know of the step. */
export interface ParameterStep {
  /** 1 for the first. */
  step: number;
  /** The parameter's own factor is in it. */
  learningRate: number;
  gradientScale: number;
}

/** A parameter that has a gradient in a step. */
export interface MovingParameter<State> {
  parameter: Tensor;
  gradient: Tensor;
  state: State;
}

/** How a parameter moves by itself, without knowing of the others. */
export interface ParameterRule<State extends Readonly<Record<string, Tensor>>> {
  /** Fresh state of a parameter, the optimizer's own from here on. */
  fresh(parameter: Tensor, name: string): State;
  /**
   * Before the parameters of a step move: what is one for all of them. `learningRate` there is without parameters' own
   * factors. May return the rate in effect, for an optimizer that finds its own.
   */
  begin?(moving: readonly MovingParameter<State>[], step: ParameterStep): Promise<number | undefined> | undefined;
  apply(parameter: Tensor, gradient: Tensor, state: State, step: ParameterStep): void;
  /** What it counts, in float64; saved with the state and put back by writing into it. */
  numbers?: Record<string, number>;
  /** The value of a parameter to look at, in the current scope, where that is not the one that trains. */
  shown?(parameter: Tensor, state: State): Tensor;
}

/** An optimizer whose parameters move each by itself: what most of them are. State is named `<parameter>.<part>`. */
export class ParameterwiseOptimizer<State extends Readonly<Record<string, Tensor>>> implements Optimizer {
  readonly parameters: ReadonlyMap<string, Tensor>;
  readonly #rule: ParameterRule<State>;
  readonly #rateOf: (name: string) => number;
  readonly #states = new Map<string, State>();
  readonly shown?: () => ReadonlyMap<string, Tensor>;
  #step = 0;

  constructor({ parameters, rateOf = () => 1 }: OptimizerContext, rule: ParameterRule<State>) {
    this.parameters = parameters;
    this.#rule = rule;
    this.#rateOf = rateOf;
    for (const [name, parameter] of parameters) this.#states.set(name, rule.fresh(parameter, name));
    const { shown } = rule;
    if (!shown) return;
    this.shown = () =>
      new Map([...parameters].map(([name, parameter]) => [name, shown(parameter, this.#states.get(name)!)]));
  }

  get step(): number {
    return this.#step;
  }

  async update(learningRate: number, gradientScale = 1): Promise<number> {
    this.#step++;
    const moving = [...this.parameters].flatMap(([name, parameter]) => {
      const { gradient } = parameter;
      return gradient ? [{ name, parameter, gradient, state: this.#states.get(name)! }] : [];
    });
    const step = { step: this.#step, learningRate, gradientScale };
    const found = await this.#rule.begin?.(moving, step);
    for (const { name, parameter, gradient, state } of moving) {
      const own = { ...step, learningRate: learningRate * this.#rateOf(name) };
      this.#rule.apply(parameter, gradient, state, own);
      parameter.clearGradient();
    }
    return found ?? learningRate;
  }

  state(): OptimizerState {
    const tensors = [...this.#states].flatMap(([name, state]) =>
      Object.entries(state).map(([part, tensor]) => [`${name}.${part}`, tensor] as const),
    );
    return { tensors: new Map(tensors), numbers: { ...this.#rule.numbers, step: this.#step } };
  }

  restore({ step, ...numbers }: Readonly<Record<string, number>>): void {
    this.#step = step!;
    if (this.#rule.numbers) Object.assign(this.#rule.numbers, numbers);
  }

  [Symbol.dispose](): void {
    for (const state of this.#states.values()) for (const tensor of Object.values(state)) tensor[Symbol.dispose]();
    this.#states.clear();
  }
}

/** Puts the values to look at in the place of those that train, and those back when it is disposed. */
export function showing(device: Device, { parameters, shown }: Optimizer): Disposable {
  if (!shown) return { [Symbol.dispose]() {} };
  const kept: [Tensor, Tensor][] = [];
  using _scope = openScope(device);
  for (const [name, value] of shown()) {
    const parameter = parameters.get(name)!;
    const copy = ownedEmpty(device, parameter.shape, "f32", "optimizer");
    device.kernels.cast(parameter, copy);
    kept.push([parameter, copy]);
    device.kernels.cast(value, parameter);
  }
  return {
    [Symbol.dispose]() {
      for (const [parameter, copy] of kept.splice(0)) {
        device.kernels.cast(copy, parameter);
        copy[Symbol.dispose]();
      }
    },
  };
}
