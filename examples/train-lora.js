// Plan a LoRA, train it, and make a film with it. Run: node train-lora.js
// A real run differs by its configuration only: more clips, more steps, another model with its checkpoint.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { generate, planRun, train } from "kinora";

// A folder of clips, each with a caption file next to it. These two are drawn by the tiny model.
const captions = {
  circle: "neon style, a red circle moves to the right on a blue background",
  square: "neon style, a green square moves up on a white background",
};
mkdirSync("lora-clips", { recursive: true });
for (const [name, caption] of Object.entries(captions)) {
  await generate({
    model: "tiny-t2v",
    prompt: caption.replace("neon style, ", ""),
    seed: 1,
    out: `lora-clips/${name}.mp4`,
  });
  writeFileSync(`lora-clips/${name}.txt`, caption);
}

// The same as a TOML file; `train("style.toml")` takes its path.
/** @type {import("kinora").TrainConfig} */
const config = {
  name: "neon",
  output: "lora-run",
  dataset: "lora-clips",
  steps: 6,
  model: { name: "tiny-t2v" },
  lora: { rank: 4 },
};

const plan = await planRun(config);
console.log(`${plan.what}: ${(plan.peak / 1e6).toFixed(0)} MB at most, about ${plan.seconds.total.toFixed(0)} s`);

// `child: true` trains in a process of its own: this one stays free.
const run = train(config, { child: true });
for await (const event of run) {
  if (event.type === "step")
    console.log(`step ${event.line.step} of ${event.steps}: loss ${event.line.loss.toFixed(4)}`);
}
const { output, files } = await run;

// One file for each expert of the model.
const loras = files.filter((file) => file.endsWith(".safetensors")).map((file) => join(output, file));
const { video } = await generate({
  model: "tiny-t2v",
  prompt: "neon style, a red circle moves to the right on a blue background",
  seed: 7,
  loras,
  out: "neon.mp4",
});
console.log(`${video.path} with ${video.recipe.loras.map(({ name }) => name).join(" and ")}`);
