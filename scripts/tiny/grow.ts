// Begins a transformer from a run of the same size or a smaller one: more layers and a wider FFN start out computing what
// the smaller network did (Chen et al. 2016, Net2Net, arXiv 1511.05641), so that its training is not lost.
import { join } from "node:path";
import { toFloat32 } from "../../src/base/float-formats.ts";
import { SafetensorsFile } from "../../src/io/safetensors.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

/** Where a block writes into the residual stream. */
const OUTPUT = /\.(?:self_attn\.o|cross_attn\.o|ffn\.2)\./;

/**
 * Writes a run's averages into `parameters`. New layers go before the last one, as copies of the one before them whose
 * outputs are zero; new units of an FFN keep what they were drawn as and are not listened to yet.
 */
export async function growFrom(folder: string, run: string, parameters: ReadonlyMap<string, Tensor>): Promise<void> {
  using file = SafetensorsFile.open(join(folder, `${run}.safetensors`));
  const layerCount = (names: Iterable<string>) => 1 + Math.max(...[...names].map((name) => blockOf(name) ?? 0));
  const [from, to] = [layerCount(file.names), layerCount(parameters.keys())];
  for (const [name, parameter] of parameters) {
    const block = blockOf(name);
    const added = block !== undefined && block >= from - 1 && block < to - 1;
    if (added && OUTPUT.test(name)) {
      await parameter.write(new Float32Array(parameter.size));
      continue;
    }
    const source = block === undefined ? name : name.replace(/\d+/, `${sourceBlock(block, from, to)}`);
    const { shape, dtype } = file.info(`average:${source}`);
    const values = toFloat32(file.bytes(`average:${source}`), dtype);
    if (values.length === parameter.size) await parameter.write(values);
    else await parameter.write(widened(values, shape, (await parameter.read()) as Float32Array, parameter.shape));
  }
}

const blockOf = (name: string): number | undefined => {
  const match = /(?:^|:)blocks\.(\d+)\./.exec(name);
  return match ? Number(match[1]) : undefined;
};

const sourceBlock = (block: number, from: number, to: number): number =>
  block === to - 1 ? from - 1 : Math.min(block, Math.max(0, from - 2));

/** More rows keep what is `drawn`; more columns are zero. */
function widened(values: Float32Array, from: readonly number[], drawn: Float32Array, to: readonly number[]) {
  const [columns, wide] = [values.length / from[0]!, drawn.length / to[0]!];
  const result = columns === wide ? drawn.slice() : new Float32Array(drawn.length);
  for (let row = 0; row < from[0]!; row++) result.set(values.subarray(row * columns, (row + 1) * columns), row * wide);
  return result;
}
