// A row is all that an optimizer, a schedule or a time sampling needs: each is added here as docs/extending.md says, and
// the configuration, a run, its state and its log know it. The page's tables agree with the code's.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { withTables } from "../../scripts/docs-tables.ts";
import type { LoraValues } from "../../src/lora/adapters/lora.ts";
import { readLora } from "../../src/lora/read.ts";
import type { ChoiceRow, ChoiceTable } from "../../src/train/choices.ts";
import { settleTrainConfig } from "../../src/train/config/read.ts";
import { optimizers } from "../../src/train/optimizers/index.ts";
import {
  type Optimizer,
  type OptimizerRow,
  ParameterwiseOptimizer,
  zeroState,
} from "../../src/train/optimizers/optimizer.ts";
import { schedules } from "../../src/train/optimizers/schedules/index.ts";
import type { ScheduleRow } from "../../src/train/optimizers/schedules/schedule.ts";
import { type TimeSamplingRow, timeSamplings } from "../../src/train/step/time-samplings.ts";
import { clips } from "../dataset/dataset-files.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import {
  narrowSettings,
  outcome,
  stepsOf,
  tensorsOf,
  trainAll,
  writeNarrowCheckpoint,
} from "../support/training-run.ts";

const path = temporaryFolder();
const folder = path("runs");
const both = ["style_high_noise.safetensors", "style_low_noise.safetensors"];

/** A parameter's velocity, and a device-wide number: state of both kinds. */
const momentumSettings = z.strictObject({
  momentum: z.number().min(0).lt(1).default(0.9).describe("how much of the last step is kept"),
});
const momentum: OptimizerRow<typeof momentumSettings> = {
  help: "stochastic gradient descent with momentum",
  settings: momentumSettings,
  learningRate: { lora: 1e-2, full: 1e-3 },
  create(context, { momentum: keep }) {
    const { device } = context;
    return new ParameterwiseOptimizer(context, {
      fresh: ({ shape }) => ({ velocity: zeroState(device, shape) }),
      apply(parameter, gradient, { velocity }, { learningRate, gradientScale }) {
        device.kernels.affine(velocity, keep, gradient, gradientScale, velocity);
        device.kernels.affine(parameter, 1, velocity, -learningRate, parameter);
      },
    });
  },
};

/** Finds its own rate: the step is as long as asked for, whatever the gradients are. It counts in float64. */
const normedSettings = z.strictObject({
  decay: z.number().min(0).max(1).default(0.9).describe("how slowly the norm that it divides by follows"),
});
const normed: OptimizerRow<typeof normedSettings> = {
  help: "steps of one length",
  settings: normedSettings,
  learningRate: { lora: 1e-2, full: 1e-3 },
  ownSchedule: "its steps are of one length",
  create({ device, parameters }, { decay }): Optimizer {
    let [step, norm] = [0, 0];
    const square = zeroState(device, [1]);
    const codes = zeroState(device, [3], "u8");
    return {
      parameters,
      get step() {
        return step;
      },
      async update(learningRate, gradientScale = 1) {
        step++;
        let sum = 0;
        for (const { gradient } of parameters.values()) {
          if (!gradient) continue;
          device.kernels.sumSquares(gradient, square);
          sum += await square.item();
        }
        norm = step === 1 ? Math.sqrt(sum) : decay * norm + (1 - decay) * Math.sqrt(sum);
        codes.writeBytes(Uint8Array.of(step, step + 1, step + 2));
        const rate = norm > 0 ? learningRate / norm : 0;
        for (const parameter of parameters.values()) {
          if (!parameter.gradient) continue;
          device.kernels.affine(parameter, 1, parameter.gradient, -rate * gradientScale, parameter);
          parameter.clearGradient();
        }
        return rate;
      },
      state: () => ({ tensors: new Map([["codes", codes]]), numbers: { step, norm } }),
      restore(numbers) {
        step = numbers.step!;
        norm = numbers.norm!;
      },
      [Symbol.dispose]() {
        square[Symbol.dispose]();
        codes[Symbol.dispose]();
      },
    };
  },
};

const straightSettings = z.strictObject({
  last_share: z.number().min(0).max(1).default(0).describe("of the highest rate, at the end"),
});
const straight: ScheduleRow<typeof straightSettings> = {
  help: "a straight line down to `last_share` of the rate",
  settings: straightSettings,
  rate: ({ highest, progress }, { last_share }) => highest * (1 - (1 - last_share) * Math.min(1, progress)),
};

const poweredSettings = z.strictObject({
  power: z.number().positive().default(2).describe("above 1 the noisy levels are drawn more often"),
});
const powered: TimeSamplingRow<typeof poweredSettings> = {
  help: "σ = u^(1/power)",
  settings: poweredSettings,
  sampler: ({ power }) => ({ draw: (rng) => rng.uniform() ** (1 / power), shareBelow: (sigma) => sigma ** power }),
};

const added: readonly [ChoiceTable, string, ChoiceRow][] = [
  [optimizers, "momentum", momentum],
  [optimizers, "normed", normed],
  [schedules, "straight", straight],
  [timeSamplings, "powered", powered],
];

beforeAll(async () => {
  await writeNarrowCheckpoint(folder);
  await clips(join(folder, "clips"), 3, { frames: 5, width: 32, height: 32 });
  for (const [table, name, row] of added) (table as Record<string, ChoiceRow>)[name] = row;
});
afterAll(() => {
  for (const [table, name] of added) delete (table as Record<string, ChoiceRow>)[name];
});

/** What `--explain` shows of a configuration. */
async function explained(more: Record<string, unknown>) {
  const root = { dataset: "clips", model: { name: "tiny-t2v", checkpoint: "checkpoint" }, ...more };
  const { explained: rows } = await settleTrainConfig(root, { base: folder, name: "style" });
  return (key: string) => rows.find((row) => row.key === key);
}

/** The same run in one go and in two; its steps. */
async function wholeAndParted(name: string, more: Record<string, unknown>) {
  const whole = await narrowSettings(folder, { ...more, output: `${name}-whole` });
  const { events } = await trainAll(whole);
  const parts = await narrowSettings(folder, { ...more, output: `${name}-parts` });
  const stop = new AbortController();
  await trainAll(parts, { stop, onEvent: (event) => event.type === "step" && event.line.step === 5 && stop.abort() });
  await trainAll(parts);
  expect(outcome(parts.output, both)).toEqual(outcome(whole.output, both));
  return stepsOf(events);
}

describe("an optimizer", () => {
  it("is chosen by its name, with its own settings and their defaults", async () => {
    const row = await explained({ optimizer: { kind: "momentum", betas: [0.9, 0.9] } });
    expect(row("optimizer.kind")).toMatchObject({ value: "momentum", note: momentum.help });
    expect(row("optimizer.momentum")).toMatchObject({ value: "0.9", from: "default" });
    expect(row("optimizer.learning_rate")).toMatchObject({ value: "0.01", from: "default" });
    expect(row("optimizer.betas")!.idle).toMatch(/^only with adamw or adamw8bit/);
    await expect(explained({ optimizer: { kind: "momentum", momentum: 1 } })).rejects.toMatchObject({
      code: "train-config.invalid",
      message: expect.stringContaining("optimizer.momentum must be below 1 (it is 1)"),
    });
    await expect(explained({ optimizer: { kind: "momentun" } })).rejects.toMatchObject({
      message: expect.stringContaining("optimizer.kind must be one of adamw, adamw8bit"),
      hint: "did you mean momentum?",
    });
    await expect(explained({ optimizer: { momentm: 1 } })).rejects.toMatchObject({ hint: "did you mean momentum?" });
  });

  it("trains, and goes on from its saved state with the same bits", async () => {
    const steps = await wholeAndParted("momentum", { optimizer: { kind: "momentum", learning_rate: 0.05 } });
    expect(steps).toHaveLength(8);
    await expect(
      trainAll(
        await narrowSettings(folder, {
          output: "momentum-whole",
          steps: 9,
          optimizer: { kind: "momentum", momentum: 0.5, learning_rate: 0.05 },
        }),
      ),
    ).rejects.toMatchObject({
      code: "train.other-config",
      message: expect.stringContaining("optimizer.momentum was 0.9, is 0.5"),
    });
  });

  it("may find its own rate, count in numbers and have state of any shape and dtype", async () => {
    const optimizer = { kind: "normed", learning_rate: 0.01 };
    const steps = await wholeAndParted("normed", { optimizer, schedule: { warmup: 3 } });
    // The first step is as long as was asked for, warm-up or not: clipping has its part.
    const { gradientNorm, learningRate } = steps[0]!;
    expect(learningRate * gradientNorm).toBeCloseTo(0.01, 6);
    const row = await explained({ optimizer, schedule: { kind: "cosine", warmup: 3 } });
    expect(row("schedule.kind")!.idle).toBe(normed.ownSchedule);
    expect(row("schedule.warmup")!.idle).toBe(normed.ownSchedule);
  });
});

describe("a schedule", () => {
  it("sets the rates of a run", async () => {
    const schedule = { kind: "straight", last_share: 0.5, warmup: 2 };
    const steps = await wholeAndParted("straight", { schedule, optimizer: { learning_rate: 0.01 } });
    expect(steps.map(({ learningRate }) => Number(learningRate.toFixed(6)))).toEqual([
      0, 0.005, 0.01, 0.009167, 0.008333, 0.0075, 0.006667, 0.005833,
    ]);
    expect((await explained({ schedule: { kind: "cosine", last_share: 0.5 } }))("schedule.last_share")!.idle).toBe(
      "only with straight",
    );
  });
});

describe("a time sampling", () => {
  it("draws the levels of a run and gives the experts their share", async () => {
    const time = { sampling: "powered", power: 3 };
    const row = await explained({ time });
    // Above the boundary of 0.875 are 1 − 0.875³ of the draws.
    expect(Number(row("experts.high_share")!.value)).toBeCloseTo(1 - 0.875 ** 3, 6);
    const steps = await wholeAndParted("powered", { time });
    for (const { expert, sigmas } of steps)
      for (const sigma of sigmas) expect(sigma >= 0.875 ? "high" : "low").toBe(expert);
  });
});

it("docs/training.md has the tables of the code", () => {
  for (const [table, name] of added) delete (table as Record<string, ChoiceRow>)[name];
  const page = readFileSync(fileURLToPath(new URL("../../docs/training.md", import.meta.url)), "utf8");
  expect(page).toBe(withTables(page));
});

describe("LoRA+ and rsLoRA", () => {
  it("train, stopped or not, and write an alpha that gives every reader the scale", async () => {
    const lora = { rank: 4, alpha: 2, rslora: true, plus_ratio: 16 };
    await wholeAndParted("plus", { lora });
    const [file] = readLora(join(folder, "plus-whole", both[0]!));
    expect(file).toMatchObject({ kind: "lora", rank: 4, alpha: 4 });
    // Up matrices begin at 0, and AdamW's steps have the size of the rate.
    const size = (name: string) => {
      const [first] = readLora(join(folder, name, both[0]!)) as LoraValues[];
      return Math.hypot(...first!.up);
    };
    await wholeAndParted("unplus", { lora: { ...lora, plus_ratio: 1 } });
    expect(size("plus-whole") / size("unplus-whole")).toBeGreaterThan(4);
    const row = await explained({ lora });
    expect(row("lora.alpha")!.note).toBe("the scale alpha/√rank is 1");
    await expect(explained({ lora, optimizer: { kind: "prodigy" } })).rejects.toMatchObject({
      code: "train-config.invalid",
      hint: "Prodigy finds one rate for all parameters",
    });
  });
});

describe("a moving average of the weights", () => {
  it("is what a run writes; what trains is the same with it and without, stopped or not", async () => {
    const steps = await wholeAndParted("averaged", { ema: { decay: 0.9 } });
    const plain = await narrowSettings(folder, { output: "unaveraged" });
    const { events } = await trainAll(plain);
    expect(steps.map(({ loss }) => loss)).toEqual(stepsOf(events).map(({ loss }) => loss));
    const tensors = (output: string) => tensorsOf(join(folder, output, both[0]!));
    expect(tensors("averaged-whole")).not.toEqual(tensors("unaveraged"));
    await expect(
      trainAll(await narrowSettings(folder, { output: "averaged-whole", steps: 9, ema: { decay: 0.8 } })),
    ).rejects.toMatchObject({ code: "train.other-config" });
  });
});

describe("each optimizer of the table", () => {
  it.each(Object.keys(optimizers))(
    "%s trains, is stopped and goes on, and leaves the file of the unbroken run",
    async (kind) => {
      const optimizer = { kind, learning_rate: kind === "prodigy" ? 1 : 1e-3 };
      const steps = await wholeAndParted(`each-${kind}`, { optimizer });
      expect(steps).toHaveLength(8);
    },
    60_000,
  );
});
