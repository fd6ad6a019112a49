// Whose random numbers a generation starts from: a file and a line here for each. Help and request checks follow.
import { KinoraError } from "../../base/errors.ts";
import { findRow } from "../../base/table.ts";
import { kinoraNoise } from "./kinora.ts";
import type { NoiseRow, NoiseSource } from "./source.ts";
import { torchCpuNoise, torchCudaNoise } from "./torch.ts";

export const noiseRows: readonly NoiseRow[] = [kinoraNoise, torchCpuNoise, torchCudaNoise];

export const DEFAULT_NOISE = kinoraNoise.name;

/** Every spellingfor help: `kinora`, `torch-cpu`, `torch-cuda`, `torch-cuda:GPU`. */
export const noiseForms: readonly string[] = noiseRows.flatMap(({ name, takes }) =>
  takes === undefined ? [name] : [name, `${name}:${takes}`],
);

/** `kinora`, `torch-cpu`, `torch-cuda` (an H100) or `torch-cuda:RTX 4090`. Throws `noise.unknown`, `noise.unknown-gpu`. */
export function parseNoise(text: string): NoiseSource {
  const [name, argument] = splitNoise(text);
  const row = findRow(noiseRows, name, {
    code: "noise.unknown",
    what: "noise",
    hint: "kinora noise is the same on every device; the others reproduce PyTorch's",
  });
  if (argument === undefined || row.takes !== undefined) return row.create(argument);
  throw new KinoraError("noise.unknown", `the noise ${name} has no kinds`, {
    actual: text,
    hint: `write ${name} alone`,
  });
}

/** A source's name, and what stands behind its first colon. */
export function splitNoise(text: string): [name: string, argument: string | undefined] {
  const at = text.indexOf(":");
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}
