// A thousand training steps leave the device and the process as large as the first ones did.
import { describe, expect, it } from "vitest";
import { openDevice } from "../../src/device/open-device.ts";
import { fromValues } from "../../src/tensor/tensor.ts";
import { createAdamW } from "../../src/train/optimizers/adamw.ts";
import { gatherGradients } from "../../src/train/step/gradients.ts";
import { tinyDit, tinyDitConfig, tinySample } from "../support/tiny-dit.ts";

describe("1,000 steps of full fine-tuning", () => {
  it.each(["auto", "reference"] as const)(
    "grow neither device bytes nor resident memory on the %s device",
    async (name) => {
      const { device } = await openDevice(name);
      const start = device.memory().live;
      {
        const { model, weights } = tinyDit(device, { trainable: true });
        using _model = model;
        using optimizer = createAdamW(
          { device, parameters: weights.parameters },
          { betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.01 },
        );
        const values = tinySample(1);
        using clean = fromValues(device, values.clean, values.shape);
        using noise = fromValues(device, values.noise, values.shape);
        using text = fromValues(device, values.text, [3, tinyDitConfig.textDim]);
        const losses: number[] = [];
        let live = 0;
        const resident: number[] = [];
        for (let step = 0; step < 1000; step++) {
          const sample = { clean, noise, sigma: (step % 10) / 10 + 0.05, text };
          losses.push(await gatherGradients(model, sample, { recompute: step % 2 === 0 }));
          await optimizer.update(1e-3);
          if (step === 1) live = device.memory().live;
          if (step > 1) expect(device.memory().live).toBe(live);
          if ([300, 650, 999].includes(step)) {
            globalThis.gc?.();
            resident.push(process.memoryUsage.rss());
          }
        }
        // A leak grows all the time; the collector's heap grows now and then.
        expect(Math.min(resident[1]! - resident[0]!, resident[2]! - resident[1]!)).toBeLessThan(24e6);
        const mean = (part: number[]) => part.reduce((sum, loss) => sum + loss, 0) / part.length;
        expect(mean(losses.slice(-20))).toBeLessThan(mean(losses.slice(0, 20)) / 4);
      }
      expect(device.memory().live).toBe(start);
      device[Symbol.dispose]();
    },
    300_000,
  );
});
