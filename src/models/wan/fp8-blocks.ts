// Which weights of a transformer are held in fp8, and with how many scales: musubi-tuner's rule.
// https://github.com/kohya-ss/musubi-tuner/blob/30c658c/src/musubi_tuner/modules/fp8_optimization_utils.py and
// https://github.com/kohya-ss/musubi-tuner/blob/30c658c/src/musubi_tuner/wan/modules/model.py (FP8_OPTIMIZATION_*_KEYS)

/** Inputs of a row that share a scale. */
const BLOCK = 64;

/**
 * The shape of a Linear weight's scales, absmax/448 each: one for every 64 inputs of a row, or one a row where 64 does
 * not divide; undefined outside of the blocks. Musubi rounds the scales to the file's dtype; here they stay float32.
 */
export function fp8BlockScale(
  name: string,
  [outputs, inputs]: readonly [outputs: number, inputs: number],
): readonly number[] | undefined {
  if (!name.startsWith("blocks.")) return undefined;
  return inputs % BLOCK === 0 ? [outputs, inputs / BLOCK, 1] : [outputs, 1];
}
