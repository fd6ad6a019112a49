// From clips to a training set: prepare them, caption them, see what one epoch contains. Run: node dataset.js [ENDPOINT MODEL]
// ENDPOINT is a server of a vision-language model, e.g. `ollama` or http://127.0.0.1:8000/v1. Without one, the clip that
// has no caption gets it from here.
import { mkdirSync, writeFileSync } from "node:fs";
import { captionDataset, generate, inspectDataset, planCaptions, prepareDataset } from "kinora";

const [endpoint, model] = process.argv.slice(2);

// Your own films go here. These three are drawn by the tiny model; two have a caption file next to them.
const prompts = {
  circle: "a red circle moves to the right on a blue background",
  square: "a green square moves up on a white background",
  triangle: "a yellow triangle moves to the left on a black background",
};
mkdirSync("clips", { recursive: true });
for (const [name, prompt] of Object.entries(prompts)) {
  await generate({ model: "tiny-t2v", prompt, seed: 1, out: `clips/${name}.mp4` });
  if (name !== "triangle") writeFileSync(`clips/${name}.txt`, prompt);
}

// Scenes are found, measured, cropped and resampled. Films need neither of the last two options: these clips are short, and
// drawings look odd to measures that are made for films.
const set = await prepareDataset({
  sources: ["clips"],
  out: "set",
  model: "tiny-t2v",
  settings: { clips: { shortest: 0.5 } },
  keepAll: true,
});
console.log(`${set.videos} clips in ${set.out}, ${set.uncaptioned} without a caption; look at ${set.report}`);

if (endpoint) {
  const run = captionDataset({ folder: "set", endpoint, model });
  for await (const event of run) if (event.type === "captioned") console.log(`${event.name}: ${event.text}`);
} else {
  const { todo } = await planCaptions({ folder: "set", endpoint: "ollama", model: "any" });
  for (const name of todo) writeFileSync(`set/${name.replace(/\.mp4$/, ".txt")}`, prompts.triangle);
}

const { totals, items, drops, warnings } = await inspectDataset("set");
for (const { id, frames, bucket, caption } of items) {
  console.log(`${id}: ${frames} frames of ${bucket.width}x${bucket.height}, "${caption}"`);
}
for (const { name, reason } of drops) console.log(`${name} gives nothing: ${reason}`);
for (const { message } of warnings) console.log(`mind: ${message}`);
console.log(`one epoch: ${totals.items} items in ${totals.batches} batches`);
