// The planner against the published cost of a forward pass, and against itself.
import { describe, expect, it } from "vitest";
import { planForward } from "../../src/models/wan/forward-cost.ts";
import { latentSize } from "../../src/models/wan/geometry.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import { planLoraStep } from "../../src/train/plan/lora-step.ts";

describe("planForward", () => {
  it.each([
    ["ti2v-5B", 1280, 704, 121, 517e12],
    ["t2v-A14B", 1280, 720, 81, 6523e12],
  ] as const)("counts %s at %i×%i×%i within 2 %% of the table", (name, width, height, frames, flops) => {
    const plan = planForward(wanModels[name], { width, height, frames }, { dtype: "bf16" });
    expect(Math.abs(plan.flops.forward / flops - 1)).toBeLessThan(0.02);
  });

  it.each([
    ["t2v-1.3B", 1.42e9],
    ["t2v-14B", 14.29e9],
    ["i2v-14B", 16.4e9],
    ["ti2v-5B", 5.0e9],
  ] as const)("knows the parameters of %s", (name, parameters) => {
    const model = wanModels[name];
    const plan = planForward(model, { width: 128, height: 128, frames: 5 }, { dtype: "bf16" });
    expect(Math.abs(plan.parameters / parameters - 1)).toBeLessThan(0.01);
  });

  it("needs less memory in bf16, and more for more frames", () => {
    const size = { width: 832, height: 480, frames: 17 };
    const model = wanModels["t2v-1.3B"];
    const half = planForward(model, size, { dtype: "bf16" });
    const full = planForward(model, size, { dtype: "f32" });
    const longer = planForward(model, { ...size, frames: 33 }, { dtype: "bf16" });
    expect(half.bytes.weights).toBeLessThan(full.bytes.weights * 0.6);
    expect(longer.bytes.activations).toBeGreaterThan(half.bytes.activations);
    expect(longer.bytes.weights).toBe(half.bytes.weights);
  });
});

describe("latentSize", () => {
  it("refuses what does not divide and names what would", () => {
    const model = wanModels["ti2v-5B"];
    expect(() => latentSize(model, { width: 1280, height: 720, frames: 121 })).toThrowError(/multiples of 32×32/);
    expect(() => latentSize(model, { width: 1280, height: 704, frames: 120 })).toThrowError(/4n \+ 1/);
    expect(latentSize(model, { width: 1280, height: 704, frames: 121 })).toEqual({
      shape: [48, 31, 44, 80],
      tokens: 27_280,
    });
  });
});

describe("planLoraStep", () => {
  it("sees what checkpointing saves and what it costs", async () => {
    const size = { width: 256, height: 256, frames: 9 };
    const model = wanModels["t2v-1.3B"];
    const options = { dtype: "bf16", rank: 32 } as const;
    const kept = await planLoraStep(model, size, { ...options, recompute: false });
    const again = await planLoraStep(model, size, { ...options, recompute: true });
    expect(again.bytes.activations).toBeLessThan(kept.bytes.activations / 3);
    expect(again.flops.step).toBeGreaterThan(kept.flops.step * 1.2);
    // 300 modules, rank 32: 8·30 of 1536→1536, 30 of 1536→8960 and 30 of 8960→1536.
    expect(again.trained).toBe(32 * 30 * (8 * 2 * 1536 + 2 * (1536 + 8960)));
  });
});
