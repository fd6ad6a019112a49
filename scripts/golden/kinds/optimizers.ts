// Fixtures of optimizers: parameters and state after every step, from recorded gradients.
import type { Device } from "../../../src/device/device.ts";
import { openScope } from "../../../src/tensor/scope.ts";
import { fromValues, ownedEmpty, type Tensor } from "../../../src/tensor/tensor.ts";
import { rootMeanSquare } from "../../../src/train/optimizers/arithmetic.ts";
import { createOptimizer, optimizers } from "../../../src/train/optimizers/index.ts";
import { type Optimizer, showing } from "../../../src/train/optimizers/optimizer.ts";
import type { Fixture } from "../fixture.ts";

// biome-ignore lint/suspicious/noExplicitAny: each optimizer's own hyperparameters, as recorded
type Case = any;

interface OptimizerKind {
  /** The row of the table. */
  row: string;
  /** Settings by our names; what is not named is the same word upstream. */
  settings?(given: Case): Record<string, unknown>;
  /** Upstream's names of the parts of our state, or of its numbers. */
  parts: Readonly<Record<string, string>>;
  numbers?: Readonly<Record<string, string>>;
}

const own = (row: string, given: Case): Record<string, unknown> => {
  const names = Object.keys(optimizers[row]!.settings.shape);
  return Object.fromEntries(names.flatMap((name) => (given[name] == null ? [] : [[name, given[name]]])));
};

const kinds = {
  adamw: { row: "adamw", parts: { exp_avg: "m", exp_avg_sq: "v", max_exp_avg_sq: "vMax" } },
  adamw8bit: { row: "adamw8bit", parts: { state1: "m", state2: "v", absmax1: "mScale", absmax2: "vScale" } },
  adafactor: {
    row: "adafactor",
    parts: { exp_avg_sq_row: "row", exp_avg_sq_col: "column", exp_avg_sq: "v", exp_avg: "m" },
  },
  lion: { row: "lion", parts: { exp_avg: "m" } },
  came: {
    row: "came",
    parts: {
      exp_avg: "m",
      exp_avg_sq: "v",
      exp_avg_sq_row: "row",
      exp_avg_sq_col: "column",
      exp_avg_res_row: "strayRow",
      exp_avg_res_col: "strayColumn",
    },
  },
  muon: {
    row: "muon",
    settings: (given) => ({ adjust_lr: given.adjust_lr_fn ?? "original" }),
    parts: { momentum_buffer: "momentum" },
  },
  prodigy: {
    row: "prodigy",
    settings: (given) => (given.growth_rate === "inf" ? { growth_rate: undefined } : {}),
    parts: { exp_avg: "m", exp_avg_sq: "v", s: "s", p0: "start" },
    numbers: {
      d: "d",
      d_max: "dMax",
      d_numerator: "numerator",
      d_denom: "denominator",
      d_hat: "dHat",
      k: "step",
    },
  },
  schedulefree: {
    row: "adamw_schedulefree",
    parts: { z: "z", exp_avg_sq: "v" },
    numbers: { weight_sum: "weights", lr_max: "highest", k: "step" },
  },
} satisfies Record<string, OptimizerKind>;

/** The values of every step, in a row. */
class Series {
  readonly #rows = new Map<string, number[][]>();

  add(name: string, values: ArrayLike<number>): void {
    const rows = this.#rows.get(name) ?? [];
    rows.push(Array.from(values));
    this.#rows.set(name, rows);
  }

  compare(fixture: Fixture): void {
    for (const [name, rows] of this.#rows) if (fixture.has(`outputs.${name}`)) fixture.compare(name, rows.flat());
  }
}

/** The group values that a fixture records, and our numbers under these names. */
function addNumbers(
  series: Series,
  prefix: string,
  optimizer: Optimizer,
  names: Readonly<Record<string, string>>,
): void {
  const { numbers } = optimizer.state();
  for (const [theirs, ours] of Object.entries(names)) series.add(`${prefix}group.${theirs}`, [numbers[ours]!]);
}

async function runCase(
  fixture: Fixture,
  device: Device,
  { row, settings, parts, numbers }: OptimizerKind,
  prefix: string,
  given: Case,
): Promise<void> {
  const { params, steps } = fixture.config as { params: string[]; steps: number };
  const parameters = new Map<string, Tensor>();
  for (const name of params) {
    const tensor = ownedEmpty(device, fixture.shape(`inputs.start.${name}`), "f32", "weights").requireGradient();
    const start = fixture.values(`inputs.start.${name}`);
    tensor.write(typeof given.start === "string" ? start.fill(0) : start);
    parameters.set(name, tensor);
  }
  const schema = optimizers[row]!.settings;
  const choice = { kind: row, settings: schema.parse({ ...own(row, given), ...settings?.(given) }) };
  using optimizer = createOptimizer({ device, parameters }, choice);
  const series = new Series();
  const add = async (kind: string, tensors: ReadonlyMap<string, Tensor>) => {
    for (const [name, tensor] of tensors) series.add(`${prefix}${kind}.${name}`, await tensor.read());
  };
  for (let k = 0; k < steps; k++) {
    for (const [name, parameter] of parameters) {
      const { size } = parameter;
      const all = fixture.values(`inputs.grad.${name}`);
      parameter.slot!.gradient = fromValues(device, all.subarray(k * size, (k + 1) * size), parameter.shape);
      using _scope = openScope(device);
      series.add(`${prefix}state.${name}.RMS`, await rootMeanSquare(parameter).read());
    }
    // A fixture may jump ahead in a long run.
    if (k === 1 && given.set_step_before_second_step !== undefined)
      optimizer.restore({ ...optimizer.state().numbers, step: given.set_step_before_second_step });
    const used = await optimizer.update(given.lr_per_step?.[k] ?? given.lr ?? 0);
    series.add(`${prefix}group.scheduled_lr`, [used]);
    await add("param", parameters);
    {
      using _shown = showing(device, optimizer);
      await add("eval", parameters);
    }
    const { tensors } = optimizer.state();
    for (const name of params) {
      for (const [theirs, ours] of Object.entries(parts)) {
        const tensor = tensors.get(`${name}.${ours}`);
        if (!tensor) continue;
        const values = tensor.dtype === "u8" ? await tensor.readBytes() : await tensor.read();
        series.add(`${prefix}state.${name}.${theirs}`, values);
      }
    }
    addNumbers(series, prefix, optimizer, numbers ?? {});
  }
  series.compare(fixture);
  for (const tensor of parameters.values()) tensor[Symbol.dispose]();
}

/** The kinds of fixtures, `optimizer-NAME`. */
export const optimizerKinds = Object.fromEntries(
  Object.entries(kinds).map(([name, kind]: [string, OptimizerKind]) => [
    `optimizer-${name}`,
    {
      async run(fixture: Fixture, device: Device): Promise<void> {
        const { cases } = fixture.config as { cases?: Record<string, Case> };
        if (!cases) return runCase(fixture, device, kind, "", fixture.config);
        for (const [name, given] of Object.entries(cases)) await runCase(fixture, device, kind, `${name}.`, given);
      },
    },
  ]),
);
