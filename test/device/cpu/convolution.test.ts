// Convolutions of the cpu device against the reference at random windows: odd channels, any stride, one-sided padding.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { openCpu, Pair } from "./pair.ts";

const { device, reason } = await openCpu();

describe.skipIf(!device)(`convolution of the cpu device ${reason}`, () => {
  test("forward and gradients", () => {
    const axis = fc.record({
      size: fc.integer({ min: 1, max: 7 }),
      kernel: fc.integer({ min: 1, max: 3 }),
      stride: fc.integer({ min: 1, max: 2 }),
      before: fc.integer({ min: 0, max: 2 }),
      after: fc.integer({ min: 0, max: 2 }),
    });
    const channels = fc.constantFrom(1, 2, 3, 5, 8, 12, 16, 17, 33);
    fc.assert(
      fc.property(
        fc.tuple(axis, axis, axis),
        fc.integer({ min: 1, max: 2 }),
        channels,
        channels,
        fc.constantFrom<"f32" | "bf16">("f32", "bf16"),
        fc.nat(),
        (axes, batch, inputs, outputs, dtype, seed) => {
          const sizes = axes.map((a) => Math.floor((a.size + a.before + a.after - a.kernel) / a.stride) + 1);
          fc.pre(sizes.every((size) => size > 0));
          using pair = new Pair(device!, seed);
          const options = {
            stride: axes.map((a) => a.stride) as [number, number, number],
            padding: axes.map((a) => [a.before, a.after]) as [[number, number], [number, number], [number, number]],
          };
          const x = pair.random(dtype, [batch, ...axes.map((a) => a.size), inputs]);
          const weight = pair.random(dtype, [outputs, inputs, ...axes.map((a) => a.kernel)]);
          const bias = pair.random("f32", [outputs]);
          const dy = pair.random(dtype, [batch, ...sizes, outputs]);
          const results = () => ({
            out: pair.blank(dtype, dy.shape),
            dx: pair.blank(dtype, x.shape),
            dweight: pair.blank("f32", weight.shape),
            dbias: pair.blank("f32", [outputs]),
          });
          const [ours, theirs] = [results(), results()];
          for (const [kernels, made] of [
            [pair.cpu, ours],
            [pair.reference, theirs],
          ] as const) {
            kernels.conv3d(x, weight, bias, made.out, options);
            kernels.conv3dBackwardData(dy, weight, made.dx, options);
            kernels.conv3dBackwardWeights(x, dy, made.dweight, made.dbias, options);
          }
          for (const name of ["out", "dx", "dweight", "dbias"] as const) {
            const tolerance = dtype === "bf16" && (name === "out" || name === "dx") ? 1e-2 : 5e-6;
            expect([name, pair.distance(ours[name], theirs[name], 0.1) < tolerance]).toEqual([name, true]);
          }
        },
      ),
      { numRuns: 150 },
    );
  });
});
