// Stop a job that runs in a child process, and resume it. Run: node stop-and-resume.js
import { rmSync } from "node:fs";
import { generate, isKinoraError } from "kinora";

/** @type {import("kinora").GenerateOptions} */
const options = {
  model: "tiny-t2v",
  prompt: "a red circle moves to the right on a blue background",
  seed: 7,
  steps: 40,
  out: "long.mp4",
  child: true, // a server stays free, and can end the work in the middle of a step
};
rmSync("long.mp4", { force: true });

const controller = new AbortController();
try {
  const run = generate({ ...options, signal: controller.signal });
  for await (const event of run) {
    if (event.type === "step" && event.step === 3) controller.abort();
    if (event.type === "stopped") console.log(`stopped after step ${event.step}; its latents are in ${event.latents}`);
  }
  await run;
} catch (error) {
  if (!isKinoraError(error, "job.stopped")) throw error;
}

// The same call with `resume` ends in the same bits as a run that was never stopped.
const run = generate({ ...options, resume: true });
let first = 0;
for await (const event of run) if (event.type === "step") first ||= event.step;
const { video } = await run;
console.log(`resumed with step ${first}; ${video.path} has ${video.frames} frames`);
