// npm run bench:step-cache -- [--layers N] [--size W*H] [--frames N] [--rounds N]: what step caches, CFG and NAG take of a
// film's time, on random weights in the shapes of the 1.3B. A cache that skips half of the steps is to take at most 53 %, CFG
// twice one pass.
import { parseArgs } from "node:util";
import { parseSize, parseWholeNumber } from "../src/cli/parse.ts";
import { openDevice } from "../src/device/open-device.ts";
import { WanDit } from "../src/models/wan/dit/dit.ts";
import { latentSize } from "../src/models/wan/geometry.ts";
import { type WanModel, wanModels } from "../src/models/wan/params.ts";
import { RandomWeights } from "../src/nn/random-weights.ts";
import { keptOf, type StepCache } from "../src/sample/caches/cache.ts";
import { FilmRun } from "../src/sample/film-run.ts";
import { filmSettings } from "../src/sample/film-settings.ts";
import type { GuidanceChoice } from "../src/sample/guidance/index.ts";
import { formatRatio, interleaved, load, parseRounds, ratioOf } from "./rounds.ts";

const { values } = parseArgs({
  options: {
    layers: { type: "string", default: "4" },
    size: { type: "string", default: "480*272" },
    frames: { type: "string", default: "9" },
    rounds: { type: "string" },
  },
});
const STEPS = 4;
const rounds = parseRounds(values.rounds, 1);
const size = { ...parseSize(values.size), frames: parseWholeNumber("--frames", values.frames) };
const row: WanModel = wanModels["t2v-1.3B"];
const config = { ...row.dit, layers: parseWholeNumber("--layers", values.layers) };
const { shape, tokens } = latentSize(row, size);
const { device } = await openDevice("auto");
using model = new WanDit(new RandomWeights(device, { seed: 1n, pack: true, tiled: true }), config, { dtype: "bf16" });

const textOf = (count: number, phase: number) => ({
  values: Float32Array.from({ length: count * config.textDim }, (_, i) => Math.sin(i * 0.37 + phase)),
  shape: [count, config.textDim],
});
const text = { positive: textOf(120, 0), negative: textOf(90, 1) };

/** Every second step is answered from what was kept: as TeaCache and MagCache keep it, or as EasyCache does. */
const everyOther = (keeps: "blocks" | "pass"): StepCache => ({
  keeps,
  decide: ({ place, passes }, memory) =>
    passes.map((pass) => ({ skip: place.step % 2 === 1 && memory.has(keptOf(pass)) })),
});

const film = (guidance: GuidanceChoice, cache?: StepCache) => async (): Promise<number> => {
  const settings = filmSettings({
    ...{ sampler: "euler", steps: STEPS, shift: 5, noise: "kinora", seed: 1n, cache },
    guidance: { low: guidance, high: guidance },
  });
  using run = new FilmRun(device, settings, { shape, text });
  while (run.expert) await run.step(model);
  return run.seconds;
};

const times = await interleaved(
  {
    cfg: film(5),
    blocks: film(5, everyOther("blocks")),
    pass: film(5, everyOther("pass")),
    one: film(1),
    nag: film({ kind: "nag" }),
  },
  rounds,
);
console.log(
  `${config.layers} layers of the 1.3B's, ${size.width}×${size.height}×${size.frames} = ${tokens} tokens, ${STEPS} steps, bf16, device ${device.name}`,
);
console.log(`CFG                              ${times.cfg}`);
console.log(
  `half skipped, blocks' residuals  ${times.blocks}, of CFG ${formatRatio(ratioOf(times.blocks, times.cfg))}`,
);
console.log(`half skipped, whole passes       ${times.pass}, of CFG ${formatRatio(ratioOf(times.pass, times.cfg))}`);
console.log(
  `one pass                         ${times.one}; CFG takes ${formatRatio(ratioOf(times.cfg, times.one))} of it`,
);
console.log(`one pass with NAG                ${times.nag}, of one pass ${formatRatio(ratioOf(times.nag, times.one))}`);
console.log(`${rounds} rounds, ${load()}`);
