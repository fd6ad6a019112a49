// Trains kinora-tiny's UMT5: npx tsx scripts/tiny/train-text-encoder.ts --out DIR
// Every token learns to tell, through a linear reading of its embedding, which word it is and all that its caption
// says: what the published encoder brings from its pre-training, in two minutes.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openDevice } from "../../src/device/open-device.ts";
import { parseTokenizer } from "../../src/io/tokenizer/load.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import { promptTokens } from "../../src/models/wan/prompt.ts";
import { TextEncoder } from "../../src/models/wan/text-encoder.ts";
import { Linear } from "../../src/nn/linear.ts";
import { RandomWeights } from "../../src/nn/random-weights.ts";
import { meanSquaredError } from "../../src/tensor/ops/index.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { Tape } from "../../src/tensor/tape.ts";
import { fromValues } from "../../src/tensor/tensor.ts";
import { createAdamW } from "../../src/train/optimizers/adamw.ts";
import { tinyTextEncoder } from "./networks.ts";
import { trainingText } from "./prompts.ts";
import { tinyTokenizerJson } from "./tokenizer.ts";
import { trainRun } from "./training-run.ts";
import { backgroundColorNames, objectColorNames } from "./world/color.ts";
import { cameras, drawScene, motions, patterns, type SceneAttributes, sizes, speeds } from "./world/scene.ts";
import { shapeNames } from "./world/shapes.ts";

const { textDim, textLength } = wanModels["tiny-t2v"].dit;

const { values: flags } = parseArgs({
  options: {
    out: { type: "string" },
    steps: { type: "string", default: "1500" },
    minutes: { type: "string", default: "60" },
    batch: { type: "string", default: "48" },
    rate: { type: "string", default: "0.002" },
    seed: { type: "string", default: "1" },
  },
});
if (!flags.out) {
  console.error("usage: train-text-encoder.ts --out DIR [--steps N] [--minutes M] [--batch B]");
  process.exit(2);
}
const seed = Number(flags.seed);
const batch = Number(flags.batch);
mkdirSync(flags.out, { recursive: true });
const json = tinyTokenizerJson();
writeFileSync(join(flags.out, "tokenizer.json"), json);
const tokenizer = parseTokenizer(new Uint8Array(Buffer.from(json)));

/** The questions about a caption; each has one answer, the last of size and speed being "not said". */
const questions: readonly [answers: readonly string[], read: (says: SceneAttributes) => string][] = [
  [shapeNames, ({ shape }) => shape],
  [objectColorNames, ({ color }) => color],
  [motions, ({ motion }) => motion],
  [backgroundColorNames, ({ background }) => background.color],
  [patterns, ({ background }) => background.pattern],
  [cameras, ({ camera }) => camera],
  [[...sizes, "unsaid"], ({ size }) => size ?? "unsaid"],
  [[...speeds, "unsaid"], ({ speed }) => speed ?? "unsaid"],
];
const answers = questions.reduce((sum, [options]) => sum + options.length, 0);
const width = answers + tinyTextEncoder.vocabulary;

const { device } = await openDevice("auto");
const weights = new RandomWeights(device, { seed: BigInt(seed), trainable: true });
using encoder = new TextEncoder(weights, tinyTextEncoder, { dtype: "f32" });
const reading = new Linear(weights, "reading", textDim, width, { dtype: "f32" });
for (const [name, parameter] of weights.parameters) {
  // T5 does not scale its scores by the head's width; its queries start that much smaller.
  const headDim = tinyTextEncoder.attentionDim / tinyTextEncoder.heads;
  if (/attn\.q\.weight$/.test(name)) device.kernels.affine(parameter, headDim ** -0.5, undefined, 0, parameter);
}
using optimizer = createAdamW(
  { device, parameters: weights.parameters },
  { betas: [0.9, 0.99], eps: 1e-8, weightDecay: 0 },
);

/** Half of the texts begin with idle words, which then change nothing of what is read. */
const IDLE = 0.5;

await trainRun(
  {
    device,
    folder: flags.out,
    name: "text-encoder",
    steps: Number(flags.steps),
    minutes: Number(flags.minutes),
    rate: Number(flags.rate),
    optimizer,
    parameters: weights.parameters,
  },
  async (step) => {
    using _scope = openScope(device);
    using tape = new Tape(device);
    const rows = Array.from({ length: batch }, (_, i) => {
      const index = step * batch + i;
      const { text, says } = trainingText(drawScene(seed, index, "train"), seed, index, IDLE);
      return { ids: promptTokens(tokenizer, text, textLength).ids, says };
    });
    const lengths = rows.map(({ ids }) => ids.length);
    const longest = Math.max(...lengths);
    const padded = rows.map(({ ids }) => {
      const row = new Int32Array(longest);
      row.set(ids);
      return row;
    });
    const read = reading.forward(encoder.forward(padded, lengths));
    // Padding is told nothing of: its target is what it says itself.
    const target = new Float32Array(await read.read());
    const said = target.slice();
    const counts = { right: 0, of: 0 };
    for (const [i, { ids, says }] of rows.entries()) {
      for (const [t, id] of ids.entries()) {
        const at = (i * longest + t) * width;
        let from = at;
        for (const [options, answer] of questions) {
          const right = options.indexOf(answer(says));
          const scores = said.subarray(from, from + options.length);
          counts.of++;
          if (scores.indexOf(Math.max(...scores)) === right) counts.right++;
          for (let k = 0; k < options.length; k++) target[from + k] = k === right ? 1 : 0;
          from += options.length;
        }
        for (let k = 0; k < tinyTextEncoder.vocabulary; k++) target[from + k] = k === id ? 1 : 0;
      }
    }
    const loss = meanSquaredError(read, fromValues(device, target, read.shape), width);
    tape.backward(loss);
    return { loss: await loss.item(), right: counts.right / counts.of };
  },
);
