// The noise a generation starts from: Kinora's own numbers, or those that a seed gives in PyTorch.
import { KinoraError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";
import { philoxNormals } from "../base/rng/philox-rng.ts";
import { torchCpuNormal } from "../base/rng/torch-cpu.ts";
import { type GpuThreads, gpuThreads, torchCudaNormal } from "../base/rng/torch-cuda.ts";

export type NoiseSource = { kind: "kinora" } | { kind: "torch-cpu" } | { kind: "torch-cuda"; gpu: GpuThreads };

const noiseKinds: readonly NoiseSource["kind"][] = ["kinora", "torch-cpu", "torch-cuda"];

/** `kinora`, `torch-cpu`, `torch-cuda` (an H100) or `torch-cuda:RTX 4090`. Throws `noise.unknown`, `noise.unknown-gpu`. */
export function parseNoise(text: string): NoiseSource {
  if (text === "kinora" || text === "torch-cpu") return { kind: text };
  const [kind, ...rest] = text.split(":");
  if (kind !== "torch-cuda") {
    const near = nearestName(kind ?? "", noiseKinds);
    throw new KinoraError("noise.unknown", `unknown noise ${text}`, {
      expected: "kinora, torch-cpu, torch-cuda or torch-cuda:GPU",
      hint: near ? `did you mean ${near}?` : "kinora is the same on every device; the others repeat PyTorch's",
    });
  }
  const name = rest.join(":").trim();
  const names = Object.keys(gpuThreads);
  const found = names.find((known) => known.toLowerCase() === (name || "H100").toLowerCase());
  if (found) return { kind, gpu: gpuThreads[found as keyof typeof gpuThreads] };
  const near = nearestName(name, names);
  throw new KinoraError("noise.unknown-gpu", `the random numbers of a ${name} are not known`, {
    expected: names.join(", "),
    hint: near ? `did you mean torch-cuda:${near}?` : undefined,
  });
}

/** `count` standard normal values in the order of torch.randn(C, F, h, w). */
export function drawNoise(source: NoiseSource, seed: bigint, count: number): Float32Array {
  switch (source.kind) {
    case "kinora": {
      const values = new Float32Array(count);
      philoxNormals(seed, 0, 0, values);
      return values;
    }
    case "torch-cpu":
      return torchCpuNormal(seed, count);
    case "torch-cuda":
      return torchCudaNormal(seed, count, source.gpu);
  }
}
