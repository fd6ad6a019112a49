// The three-axis rotary table and the timestep sinusoid, computed in float64 as upstream and stored in float32.
import type { Device } from "../../../device/device.ts";
import { ownedEmpty, type Tensor } from "../../../tensor/tensor.ts";

const THETA = 10_000;

/** Complex pairs that turn with (frame, row, column): 22, 21, 21 of a head of 128. */
export function axisPairs(headDim: number): [number, number, number] {
  const pairs = headDim / 2;
  const third = Math.floor(pairs / 3);
  return [pairs - 2 * third, third, third];
}

/**
 * cos and sin [f·h·w, headDim/2] for tokens in (frame, row, column) order; the caller owns them.
 * Each axis computes its frequencies over its own width.
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/model.py#L29-L71
 */
export function rotationTable(
  device: Device,
  grid: readonly [frames: number, rows: number, columns: number],
  headDim: number,
): { cos: Tensor; sin: Tensor } {
  const [frames, rows, columns] = grid;
  const length = frames * rows * columns;
  const half = headDim / 2;
  const table = () => ownedEmpty(device, [length, half], "f32", "activations");
  if (!device.computes) return { cos: table(), sin: table() };
  const cos = new Float32Array(length * half);
  const sin = new Float32Array(length * half);
  let column = 0;
  for (const [axis, pairs] of axisPairs(headDim).entries()) {
    const size = grid[axis]!;
    for (let pair = 0; pair < pairs; pair++, column++) {
      const frequency = 1 / THETA ** ((2 * pair) / (2 * pairs));
      const cosines = Float64Array.from({ length: size }, (_, position) => Math.cos(position * frequency));
      const sines = Float64Array.from({ length: size }, (_, position) => Math.sin(position * frequency));
      let token = 0;
      for (let f = 0; f < frames; f++) {
        for (let h = 0; h < rows; h++) {
          for (let w = 0; w < columns; w++, token++) {
            const position = axis === 0 ? f : axis === 1 ? h : w;
            cos[token * half + column] = cosines[position]!;
            sin[token * half + column] = sines[position]!;
          }
        }
      }
    }
  }
  const upload = (values: Float32Array) => {
    const tensor = table();
    tensor.write(values);
    return tensor;
  };
  return { cos: upload(cos), sin: upload(sin) };
}

/**
 * [cos | sin] of each timestep (0…1000), float32 [timesteps, dim].
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/model.py#L15-L25
 */
export function timestepSinusoid(timesteps: readonly number[], dim: number): Float32Array {
  const half = dim / 2;
  const result = new Float32Array(timesteps.length * dim);
  for (const [row, timestep] of timesteps.entries()) {
    for (let i = 0; i < half; i++) {
      const angle = timestep * THETA ** (-i / half);
      result[row * dim + i] = Math.cos(angle);
      result[row * dim + half + i] = Math.sin(angle);
    }
  }
  return result;
}
