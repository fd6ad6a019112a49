// A first film: a prompt goes in, an MP4 comes out, and each step is reported. Run: node first-film.js
import { generate } from "kinora";

const run = generate({
  model: "tiny-t2v", // comes with Kinora; the published models take `checkpoint: "FOLDER"`
  prompt: "a red circle moves to the right on a blue background",
  seed: 7,
  out: "first-film.mp4",
});

for await (const event of run) {
  if (event.type === "step") console.log(`step ${event.step} of ${event.steps}`);
}

const { video } = await run;
console.log(`${video.path}: ${video.frames} frames; seed ${video.recipe.seed} makes it again`);
