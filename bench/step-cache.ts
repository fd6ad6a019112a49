// What a step cache, CFG and NAG take of a film's time: tsx bench/step-cache.ts [--layers N] [--rounds N]. A transformer with
// the shapes of the 1.3B and random weights, some of its layers, at 416×240×9 in bf16. A cache that skips half of the steps
// is to take at most 53 % of the time.
import { parseArgs } from "node:util";
import { openDevice } from "../src/device/open-device.ts";
import type { LatentShape } from "../src/models/wan/conditioning.ts";
import { WanDit } from "../src/models/wan/dit/dit.ts";
import { wanModels } from "../src/models/wan/params.ts";
import { RandomWeights } from "../src/nn/random-weights.ts";
import type { StepCache } from "../src/sample/caches/cache.ts";
import { keptOf } from "../src/sample/caches/cache.ts";
import { FilmRun } from "../src/sample/film-run.ts";
import { filmSettings } from "../src/sample/film-settings.ts";
import type { GuidanceChoice } from "../src/sample/guidance/index.ts";

const { values } = parseArgs({
  options: { layers: { type: "string", default: "4" }, rounds: { type: "string", default: "3" } },
});
const STEPS = 4;
const shape: LatentShape = [16, 3, 30, 52];
const { device } = await openDevice("auto");
const config = { ...wanModels["t2v-1.3B"].dit, layers: Number(values.layers) };
using model = new WanDit(new RandomWeights(device, { seed: 1n }), config, { dtype: "bf16" });
const text = (tokens: number, phase: number) => ({
  values: Float32Array.from({ length: tokens * config.textDim }, (_, i) => Math.sin(i * 0.37 + phase)),
  shape: [tokens, config.textDim],
});

/** Every second step is answered from what was kept, as TeaCache and MagCache keep it or as EasyCache does. */
const everyOther = (keeps: "blocks" | "pass"): StepCache => ({
  keeps,
  decide: ({ place, passes }, memory) =>
    passes.map((pass) => ({ skip: place.step % 2 === 1 && memory.has(keptOf(pass)) })),
});

async function seconds(guidance: GuidanceChoice, cache?: StepCache): Promise<number> {
  const settings = filmSettings({
    ...{ sampler: "euler", steps: STEPS, shift: 5, noise: "kinora", seed: 1n, cache },
    guidance: { low: guidance, high: guidance },
  });
  using film = new FilmRun(device, settings, { shape, text: { positive: text(120, 0), negative: text(90, 1) } });
  while (film.expert) await film.step(model);
  return film.seconds;
}

const cases: [what: string, run: () => Promise<number>][] = [
  ["CFG, no cache", () => seconds(5)],
  ["CFG, every other step from the blocks' cache", () => seconds(5, everyOther("blocks"))],
  ["CFG, every other step from the passes' cache", () => seconds(5, everyOther("pass"))],
  ["one pass", () => seconds(1)],
  ["one pass with NAG", () => seconds({ kind: "nag", over: 1 })],
];
const times = cases.map((): number[] => []);
for (let round = -1; round < Number(values.rounds); round++) {
  for (const [i, [, run]] of cases.entries()) {
    const time = await run();
    if (round >= 0) times[i]!.push(time);
  }
}
const median = (all: readonly number[]) => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)]!;
const whole = median(times[0]!);
console.log(
  `${config.layers} layers of the 1.3B's, 416×240×9, ${STEPS} steps, bf16 on ${device.name}; medians of ${values.rounds}`,
);
for (const [i, [what]] of cases.entries()) {
  const time = median(times[i]!);
  console.log(`${what.padEnd(48)} ${time.toFixed(2)} s  ${((100 * time) / whole).toFixed(1)} % of CFG without a cache`);
}
device[Symbol.dispose]();
