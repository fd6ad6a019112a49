// The numbers that a seed gives in PyTorch, on a CPU and on a GPU.
import { KinoraError } from "../../base/errors.ts";
import { nearestName } from "../../base/nearest.ts";
import { torchCpuNormal } from "../../base/rng/torch-cpu.ts";
import { gpuThreads, torchCudaNormal } from "../../base/rng/torch-cuda.ts";
import type { NoiseRow } from "./source.ts";

export const torchCpuNoise = {
  name: "torch-cpu",
  help: "as ComfyUI draws it",
  create: () => torchCpuNormal,
} as const satisfies NoiseRow;

/** Unless another is named. */
const USUAL_GPU = "H100";

export const torchCudaNoise = {
  name: "torch-cuda",
  help: "as the official code draws it on a GPU",
  takes: "GPU",
  create(argument) {
    const name = argument?.trim() || USUAL_GPU;
    const names = Object.keys(gpuThreads) as (keyof typeof gpuThreads)[];
    const gpu = names.find((known) => known.toLowerCase() === name.toLowerCase());
    if (gpu) return (seed, count) => torchCudaNormal(seed, count, gpuThreads[gpu]);
    const near = nearestName(name, names);
    throw new KinoraError("noise.unknown-gpu", `the random numbers of a ${name} are not known`, {
      expected: names.join(", "),
      hint: near ? `did you mean torch-cuda:${near}?` : "choose one of these, or torch-cpu",
    });
  },
} as const satisfies NoiseRow;
