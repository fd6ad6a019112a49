// Costs of many sizes from four plans: against planning each of them.
import { describe, expect, it } from "vitest";
import { latentSize, type VideoSize } from "../../src/models/wan/geometry.ts";
import { type WanModel, wanModels } from "../../src/models/wan/params.ts";
import { planLoraStep } from "../../src/train/plan/lora-step.ts";
import { type CountedSize, type StepCost, stepCosts } from "../../src/train/plan/step-costs.ts";

/** The 1.3B and the 5B with two narrow layers: the same arithmetic, planned in a moment. */
const narrow = (model: WanModel): WanModel => ({
  ...model,
  dit: { ...model.dit, dim: 256, ffnDim: 1024, heads: 2, layers: 2, textDim: 64 },
});
const options = { dtype: "bf16", rank: 4, recompute: true } as const;

async function costs(model: WanModel, sizes: readonly VideoSize[]) {
  const planned: string[] = [];
  const counted: CountedSize[] = sizes.map((size) => ({ size, tokens: latentSize(model, size).tokens }));
  const run = stepCosts(counted, (size) => {
    planned.push(`${size.width}x${size.height}x${size.frames}`);
    return planLoraStep(model, size, options);
  });
  for (;;) {
    const next = await run.next();
    if (next.done) return { planned, counted, cost: next.value as (tokens: number) => StepCost };
  }
}

describe("step costs", () => {
  it.each(["t2v-1.3B", "ti2v-5B"] as const)("of %s are those of a plan of each size", async (name) => {
    const model = narrow(wanModels[name]);
    const sizes = [64, 128, 256, 512, 832].flatMap((width) =>
      [1, 5, 21, 81].map((frames) => ({ width, height: width / 2, frames })),
    );
    const { planned, counted, cost } = await costs(model, sizes);
    expect(planned).toHaveLength(4);
    for (const { size, tokens } of counted) {
      const exact = await planLoraStep(model, size, options);
      expect(cost(tokens).flops / exact.flops.step).toBeCloseTo(1, 6);
      expect(cost(tokens).peak / exact.bytes.peak, `${size.width}x${size.frames}`).toBeCloseTo(1, 2);
    }
  });

  it("of few sizes are planned as they are", async () => {
    const model = narrow(wanModels["t2v-1.3B"]);
    for (const count of [1, 2, 3]) {
      const sizes = [21, 5, 1].slice(0, count).map((frames) => ({ width: 64, height: 64, frames }));
      const { planned, counted, cost } = await costs(model, [...sizes, ...sizes]);
      expect(planned).toHaveLength(count);
      for (const { size, tokens } of counted) {
        const exact = await planLoraStep(model, size, options);
        expect(cost(tokens).peak).toBeCloseTo(exact.bytes.peak, 0);
      }
    }
  });
});
